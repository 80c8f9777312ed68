"""Sweeps: what is said while copies, the diff's strength, the adapter or its layers vary, all of it one request.

The published sweep varies copies of a DIT adapter without a diff (arXiv 2510.05092).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from dit_core.methods.protocol import Method, Need, SampledOptions, Targets, TextRows, option
from dit_core.project import lazy_exports
from dit_core.records import Answer, Condition, SweepPoint, Table

if TYPE_CHECKING:
    from dit_core.suite import Suite
    from dit_core.sweeps.run import finished as finished
    from dit_core.sweeps.run import scored as scored
    from dit_core.sweeps.run import stream_sweep as stream_sweep
    from dit_core.sweeps.run import sweep as sweep

__getattr__, __dir__ = lazy_exports(__name__, dict.fromkeys(("finished", "scored", "stream_sweep", "sweep"), "run"))


@dataclass(frozen=True)
class SweepOptions(SampledOptions):
    """What varies, and how answers are sampled."""

    preset: str = option("", "What varies: a name below, or the beginning of one; by default a copies one.")
    step: float = option(0.5, "Of copies, where the preset varies them.", minimum=0)
    copies: tuple[float, ...] = option((), "Instead of the preset's: numbers, like 0,0.25,1.")
    strength: tuple[float, ...] = option((), "Instead of the preset's: numbers, like -1,0,1.")
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
        from dit_core.sweeps.presets import planned
        from dit_core.sweeps.run import stream_sweep

        diff = next(iter(targets.diffs), None)
        preset = options.preset or ("copies with the diff" if diff else "copies without a diff")
        sampling = ("samples", "temperature", "question", "max_new_tokens", "seed")
        tables = stream_sweep(
            suite,
            **planned(suite, preset, diff, options.adapter, options.step, options.copies, options.strength),
            trigger=unquote(options.trigger),
            **{name: getattr(options, name) for name in sampling},
        )
        varied = {"preset": "values of your own" if options.copies or options.strength else preset}
        with closing(tables):
            for table in tables:
                yield replace(table, extra=table.extra | varied)

    def progress(self, table: Table[SweepPoint]) -> tuple[float, float]:
        total = table.extra.get("n_answers", 0)
        return int(table.extra.get("progress", 0) * total), total

    def answers(self, table: Table[SweepPoint]) -> Sequence[Answer]:
        return [Answer(one.diff, one.text, one.confidence, one.condition, one.question) for one in table]

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
