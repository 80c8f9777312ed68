"""Sweeps: what is said while copies, the diff's strength, the adapter or its layers vary, all of it one request.

The published sweep varies copies of a DIT adapter without a diff (arXiv 2510.05092).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any, TypedDict
from urllib.parse import unquote

from dit_core.errors import DitError
from dit_core.methods.protocol import Method, Need, SampledOptions, Targets, TextRows, option
from dit_core.project import lazy_exports
from dit_core.records import Answer, Condition, DiffInfo, SweepPoint, Table
from dit_core.records.layers import MAX_LAYERS, checked_range, layer_range, parse_range

if TYPE_CHECKING:
    from dit_core.suite import Suite
    from dit_core.sweeps.run import finished as finished
    from dit_core.sweeps.run import scored as scored
    from dit_core.sweeps.run import stream_sweep as stream_sweep
    from dit_core.sweeps.run import sweep as sweep

__getattr__, __dir__ = lazy_exports(__name__, dict.fromkeys(("finished", "scored", "stream_sweep", "sweep"), "run"))

MAX_SETTINGS = 200  # of one sweep
STEP = 0.5  # of copies, unless another is asked for

LayerRange = tuple[int, int] | None
"""The first and the last layer that an adapter acts on; None for all."""


@dataclass(frozen=True)
class Plan:
    """What a preset varies: lists of values, and whether there is a diff. Adapters are named by the user."""

    copies: tuple[float, ...] = (1.0,)
    strengths: tuple[float, ...] = (1.0,)
    with_diff: bool = True
    by_layers: bool = False


def steps(first: float, last: float, step: float) -> tuple[float, ...]:
    """Return `first`, `first + step`, … as far as `last`; DitError where that is not 1 to 200 numbers."""
    if not (0 < step < inf and first <= last and (last - first) / step < MAX_SETTINGS):
        raise DitError(
            f"{first} to {last} in steps of {step} is no range of 1 to {MAX_SETTINGS} values: change one of them."
        )
    count = int((last - first) / step + 1e-9) + 1
    return tuple(round(first + step * index, 6) for index in range(count))


PRESETS = {
    "copies without a diff": Plan(copies=steps(0, 5, STEP), with_diff=False),
    "copies with the diff": Plan(copies=steps(0, 5, STEP)),
    "strength of the diff": Plan(strengths=steps(-1, 3, 0.25)),
    "copies and strength": Plan(copies=steps(0, 5, STEP), strengths=steps(-1, 3, 0.5)),
    "layers of the adapter": Plan(by_layers=True),
}
"""The first is the published experiment: an adapter without anything to tell, in 0 to 5 copies (arXiv 2510.05092)."""


def windows(n_layers: int, width: int | None = None) -> list[LayerRange]:
    """Return ranges of layers from the bottom up, each of `width` of them (a quarter by default); then all layers."""
    width = width or max(1, n_layers // 4)
    return [*((first, first + width - 1) for first in range(n_layers - width + 1)), None]


def layer_ranges(suite: Suite, layers: Any) -> list[LayerRange]:
    """Return ranges of layers by number, each once: of None, one (first, last), several, or text like `all,0-3,50%`.

    Percents are of the base's layers, as `layer_at` counts them; only for these the base is loaded.

    Raises:
        DitError: a range is not understood, or the base has no such layer.
    """
    if isinstance(layers, str):
        words = [word.strip() for word in layers.split(",")]
        given = [None if word == "all" else parse_range(word) for word in words]
    else:
        one = layers is None or (len(layers) == 2 and all(isinstance(end, int | str) for end in layers))
        given = [None if ends is None else checked_range(ends) for ends in ([layers] if one else layers)]
    count = _depth(suite) if any(isinstance(end, str) for ends in given for end in ends or ()) else MAX_LAYERS
    return list(dict.fromkeys(None if ends is None else layer_range(ends, count) for ends in given))


def _depth(suite: Suite) -> int:
    return suite.worker.run(lambda: len(suite.model.layers))


class PlannedSweep(TypedDict):
    """Arguments of `sweep`."""

    diff: str | DiffInfo | None
    adapter: list[str] | None
    copies: Sequence[float]
    strength: float | Sequence[float]
    layers: str | Sequence[LayerRange] | None


def planned(
    suite: Suite,
    preset: str,
    diff: str | DiffInfo | None,
    adapters: Sequence[str],
    step: float = STEP,
    copies: Sequence[float] | None = None,
    strength: Sequence[float] | None = None,
    layers: str = "",
) -> PlannedSweep:
    """Return what `sweep` takes for a preset, without sampling.

    Args:
        suite: what `load_suite` gave.
        preset: its name, or a beginning that no other has.
        diff: an id or reference, where the preset needs one.
        adapters: names of DIT adapters; without any, a sweep without a diff takes that of every task.
        step: of the preset's copies.
        copies: in place of the preset's own.
        strength: in place of the preset's own.
        layers: in place of the preset's own, as `layer_ranges` reads them.

    Raises:
        DitError: an unknown preset, a step that `steps` does not take, or a missing diff.
    """
    wanted = preset.strip().lower()
    names = [name for name in PRESETS if wanted and name.startswith(wanted)]
    if len(names) != 1:
        raise DitError(f"There is no one sweep '{preset}': choose one of {', '.join(PRESETS)}.")
    name, plan = names[0], PRESETS[names[0]]
    with_diff = plan.with_diff or any(strength or ())
    if with_diff and not diff:
        raise DitError(f"The sweep '{name}' needs a diff: choose one.")
    every = list(dict.fromkeys(suite.default_adapter(task) for task in suite.tasks))
    return {
        "diff": diff if with_diff else None,
        "adapter": list(adapters) or (None if with_diff else every),
        "copies": copies or steps(plan.copies[0], plan.copies[-1], step),
        "strength": strength or (plan.strengths if with_diff else 0.0),
        "layers": layers.strip() or (windows(_depth(suite)) if plan.by_layers else None),
    }


@dataclass(frozen=True)
class SweepOptions(SampledOptions):
    """What varies, and how answers are sampled."""

    preset: str = option("", "What varies: a name below, or the beginning of one; by default a copies one.")
    step: float = option(STEP, "Of copies, where the preset varies them.", minimum=0)
    copies: tuple[float, ...] = option((), "Instead of the preset's: numbers, like 0,0.25,1.")
    strength: tuple[float, ...] = option((), "Instead of the preset's: numbers, like -1,0,1.")
    layers: str = option("", "Instead of the preset's: ranges that the adapters act on, like all,0-3,50%,25%-50%.")
    trigger: str = option("absent", "absent, right, wrong, or own:TEXT (percent-encoded).")
    adapter: tuple[str, ...] = option((), "DIT adapters; all defaults if none.")
    question: str | None = option(None, "By default that of the adapter's task.")


class Sweep(Method[SweepOptions, SweepPoint]):
    """The declaration of sweeps."""

    name = "sweep"
    title = "Sweep"
    summary = (
        "Vary copies, strength or layers. Presets: copies without a diff, copies with the diff, strength of the diff, "
        "copies and strength, layers of the adapter."
    )
    source = "arXiv 2510.05092"
    needs = frozenset({Need.ADAPTER})
    cost = "a generation per setting, in one batch"
    options = SweepOptions
    kind = "swept"
    record = SweepPoint
    figure = "sweep_figure"
    many_diffs = False
    measured = False  # one of its settings is what the scoreboard measures as DIT

    def run(self, suite: Suite, targets: Targets, options: SweepOptions) -> Generator[Table[SweepPoint], None, None]:
        from dit_core.sweeps.run import stream_sweep

        diff = next(iter(targets.diffs), None)
        preset = options.preset or ("copies with the diff" if diff else "copies without a diff")
        sampling = ("samples", "temperature", "question", "max_new_tokens", "seed")
        tables = stream_sweep(
            suite,
            **planned(
                suite, preset, diff, options.adapter, options.step, options.copies, options.strength, options.layers
            ),
            trigger=unquote(options.trigger),
            **{name: getattr(options, name) for name in sampling},
        )
        varied = {"preset": "values of your own" if options.copies or options.strength or options.layers else preset}
        with closing(tables):
            for table in tables:
                yield replace(table, extra=table.extra | varied)

    def progress(self, table: Table[SweepPoint]) -> tuple[float, float]:
        total = table.extra.get("n_answers", 0)
        return int(table.extra.get("progress", 0) * total), total

    def answers(self, table: Table[SweepPoint]) -> Sequence[Answer]:
        return [Answer(point.diff, point.text, point.confidence, point.condition, point.question) for point in table]

    def text_rows(self, table: Table[SweepPoint], reveal: bool = False) -> TextRows:
        columns = ["adapter", "copies", "strength", "layers", "text", "agree", "like 1 copy"]
        columns += ["log p (ref.)"] if reveal else []
        several = any(point.sample for point in table)  # one answer agrees with itself
        triggers = {Condition.parse(point.condition).trigger for point in table} - {"absent"}
        title = ", ".join([table.suite, table.extra.get("preset", "sweep"), *(f"trigger {own}" for own in triggers)])
        return TextRows(title, columns, [_text_row(point, several, reveal) for point in table])


def _text_row(point: SweepPoint, several: bool, reveal: bool) -> list[str]:
    log_prob = point.log_prob_reference
    return [
        point.adapter,
        f"{point.copies:g}",
        f"{point.strength:g}",
        "all" if point.layers is None else f"{point.layers[0]}-{point.layers[1]}",
        point.text,
        f"{point.modal_share:.2f}" if several else "",
        "" if point.similarity is None else f"{point.similarity:.2f}",
        *(["" if log_prob is None else f"{log_prob:.2f}"] if reveal else []),
    ]


METHODS = (Sweep(),)
