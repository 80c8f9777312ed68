"""Sweeps: what is said while copies, the diff's strength, the adapter or its layers vary, all of it one request."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from rapidfuzz import fuzz

from dit_core.engine.answers import geometric_mean
from dit_core.engine.batching import batch_size
from dit_core.engine.likelihood import choice_log_probabilities
from dit_core.errors import DitError
from dit_core.grading import modal, words
from dit_core.methods.verbalize import MAX_ROWS, stream_together
from dit_core.records import DiffInfo, SweepPoint, Table, Verbalization
from dit_core.records.condition import Condition, checked_text, several
from dit_core.request.conditions import question_of, strengths
from dit_core.request.prompts import prompt
from dit_core.suite import Suite
from dit_core.suite.offload import at_model
from dit_core.sweeps.presets import MOST


@dataclass(frozen=True)
class Setting:
    """One point of a sweep: its condition is asked its question. `adapter` is a name in the suite."""

    adapter: str
    copies: float
    strength: float
    layers: tuple[int, int] | None
    trigger: str
    question: str

    @property
    def condition(self) -> Condition:
        return Condition(self.strength, ((self.adapter, self.copies),), self.trigger, self.layers)

    @property
    def asked(self) -> tuple[str, str]:
        """What its answers are found by: settings that come to the same, as 0 copies do, share them."""
        return str(self.condition), self.question


def sweep(suite: Suite, diff: str | DiffInfo | None = None, **options: Any) -> Table[SweepPoint]:
    """Asks one diff (or the base alone) at every setting; one record per setting × sample.

    Args:
        suite: what `load_suite` gave.
        diff: an id or reference; none for the base alone, at strength 0.
        adapter: names of DIT adapters, one or several; by default that of the diff's task.
        copies: of the adapter, numbers of 0 or more.
        strength: of the diff, any numbers.
        layers: ranges that the adapter acts on, as (first, last); None for all.
        trigger: `absent` (the default), `right`, `wrong`, or `own:` and a text.
        question: by default what each adapter was trained to answer.
        samples, temperature, top_p, max_new_tokens, seed: as of `ask`.

    Raises:
        DitError: what is asked makes no sense, or is more than 200 settings.
    """
    *_, table = _requested(suite, diff, partial=False, **options)
    return table


def stream_sweep(suite: Suite, diff: str | DiffInfo | None = None, **options: Any) -> Iterator[Table[SweepPoint]]:
    """As `sweep`, but yields the table while the answers grow.

    Its `extra` says how far they are: `n_finished` of `n_answers`, `n_tokens` of those in the making, and `progress`
    (0 to 1), to which these count in part. To keep what was said where a sweep is stopped, take `finished` of the
    last table. The request is checked at once. The references' log-probabilities come with the last table, or from
    `scored`. Closing the iterator stops the work.
    """
    return _requested(suite, diff, partial=True, **options)


def finished(table: Table[SweepPoint]) -> Table[SweepPoint]:
    """Only the answers that were said to their end, compared with each other alone."""
    growing = set(table.extra.get("unfinished", ()))
    records = [one for at, one in enumerate(table) if at not in growing]
    extra = {name: value for name, value in table.extra.items() if name != "unfinished"}
    return replace(table, records=tuple(_compared(records)), extra=extra)


def scored(suite: Suite, table: Table[SweepPoint]) -> Table[SweepPoint]:
    """The table with the log-probability of its diff's reference at every setting; as it is where none is known."""
    info = suite.diff(table[0].diff) if table and table[0].diff else None
    if info is None or not info.reference:
        return table
    asked = list(dict.fromkeys((one.condition, one.question) for one in table))
    found = _references(suite, info, asked, table[0].seed)
    records = (replace(one, log_prob_reference=found[one.condition, one.question]) for one in table)
    return replace(table, records=tuple(records))


def _requested(
    suite: Suite,
    diff: str | DiffInfo | None,
    *,
    partial: bool,
    adapter: str | Sequence[str] | None = None,
    copies: float | Sequence[float] = 1.0,
    strength: float | Sequence[float] | None = None,
    layers: tuple[int, int] | None | Sequence[tuple[int, int] | None] = None,
    trigger: str = "absent",
    question: str | None = None,
    samples: int = 1,
    seed: int = 0,
    **sampling: Any,
) -> Iterator[Table[SweepPoint]]:
    """The tables of a sweep, whose settings are all one request; without `partial`, only when all is said."""
    info = None if diff is None else suite.diff(diff)
    names = [suite.adapter(name).name if name else _default(suite, info) for name in several(adapter)]
    default = 0.0 if info is None else 1.0
    axes = names, several(copies), several(default if strength is None else strength), _ranges(layers), [trigger]
    own = {name: checked_text(question or question_of(suite, name), "The question") for name in names}
    settings = [Setting(*values, own[values[0]]) for values in product(*axes)]
    if not settings or len(settings) > MOST:
        raise DitError(f"This sweep has {len(settings)} settings, and 1 to {MOST} are possible: take larger steps.")
    asked: dict[str, list[Condition]] = {}
    for setting in settings:
        asked.setdefault(setting.question, []).append(setting.condition)
    tables = stream_together(suite, info, asked, partial=partial, samples=samples, seed=seed, **sampling)
    return _stream(suite, info, settings, {"samples": samples, "seed": seed}, tables)


def _default(suite: Suite, info: DiffInfo | None) -> str:
    return suite.default_adapter(info.task if info else None)


def _ranges(layers: Any) -> list[tuple[int, int] | None]:
    if layers is None or (len(layers) == 2 and all(isinstance(one, int) for one in layers)):
        return [layers]
    return list(layers)


def _stream(
    suite: Suite,
    info: DiffInfo | None,
    settings: Sequence[Setting],
    drawn: dict[str, Any],
    tables: Iterator[Table[Verbalization]],
) -> Iterator[Table[SweepPoint]]:
    """`drawn` is what the answers' own tables do not tell of their sampling."""
    table = None
    for said in tables:
        table = _table(suite, info, settings, said, drawn)
        yield table
    if table is not None and info is not None and info.reference:
        yield scored(suite, table)


def _table(
    suite: Suite,
    info: DiffInfo | None,
    settings: Sequence[Setting],
    said: Table[Verbalization],
    drawn: dict[str, Any],
) -> Table[SweepPoint]:
    """One record per setting × sample; settings that come to the same share their answers."""
    own: dict[tuple[str, str], list[tuple[int, Verbalization]]] = defaultdict(list)
    for place, one in enumerate(said):
        own[one.condition, one.question].append((place, one))
    growing = set(said.extra.get("unfinished", ()))
    made = [(place, _swept(info, setting, one)) for setting in settings for place, one in own[setting.asked]]
    unfinished = [at for at, (place, _) in enumerate(made) if place in growing]
    lengths = {place: len(said[place].tokens) for place in growing or range(len(said))}  # 0: of a batch to come
    sampling = said.extra["sampling"] | drawn
    grown = sum(lengths[made[at][0]] for at in unfinished) / sampling["max_new_tokens"]
    extra = {
        "n_settings": len(settings),
        "n_answers": len(made),
        "n_finished": len(made) - len(unfinished),
        "n_tokens": max(lengths.values(), default=0),
        "progress": (len(made) - len(unfinished) + grown) / len(made),
        "sampling": sampling,
        **({"unfinished": unfinished} if unfinished else {}),
    }
    return suite.table("swept", _compared([one for _, one in made]), extra)


def _swept(info: DiffInfo | None, setting: Setting, said: Verbalization) -> SweepPoint:
    """One answer, not yet compared with any other."""
    return SweepPoint(
        diff=info.id if info else "",
        adapter=setting.adapter,
        copies=setting.copies,
        strength=setting.strength,
        layers=setting.layers,
        condition=said.condition,
        question=said.question,
        sample=said.sample,
        seed=said.seed,
        text=said.text,
        confidence=geometric_mean(said.token_probabilities),
        modal_share=0.0,
        similarity=None,
        log_prob_reference=None,
    )


def _compared(records: Sequence[SweepPoint]) -> list[SweepPoint]:
    """The answers of one sweep compared: with those of their setting, and with the plain one of their adapter.

    The plain setting is one copy on all layers, and the diff as it is.
    """
    own: dict[tuple, list[SweepPoint]] = defaultdict(list)
    for one in records:
        own[one.adapter, one.copies, one.strength, one.layers].append(one)
    most = {setting: modal([one.text for one in answers]) for setting, answers in own.items()}
    found = []
    for one in records:
        _, times = most[setting := (one.adapter, one.copies, one.strength, one.layers)]
        plain = most.get((one.adapter, 1.0, float(bool(one.diff)), None))
        similarity = _alike(one.text, plain[0]) if plain else None
        found.append(replace(one, modal_share=times / len(own[setting]), similarity=similarity))
    return found


@at_model
def _references(
    suite: Suite, info: DiffInfo, asked: Sequence[tuple[str, str]], seed: int
) -> dict[tuple[str, str], float]:
    """The log-probability of the diff's reference as the answer, in nats, by (written) condition and question."""
    rows = [(Condition.parse(condition), question) for condition, question in asked]

    def found() -> dict[tuple[str, str], float]:
        model, size = suite.model, batch_size(suite.model, "sweep", MAX_ROWS)
        reference = model.tokenizer.encode(info.reference, add_special_tokens=False)

        def batch(part: Sequence[tuple[Condition, str]]) -> list[float]:
            prompts = [model.encode(prompt(suite, info, condition, question, seed)) for condition, question in part]
            acting = strengths(suite, [(info, condition) for condition, _ in part])
            scores = choice_log_probabilities(model, prompts, [[reference]] * len(part), acting)
            return [sum(tokens) for (tokens,) in scores]

        scores = (score for _, own in size.over(rows, batch) for score in own)
        return dict(zip(asked, scores, strict=True))

    return suite.worker.run(found)


def _alike(text: str, other: str) -> float:
    """From 0 to 1, by the edits between two answers; case, punctuation and white space do not count."""
    return fuzz.ratio(" ".join(words(text)), " ".join(words(other))) / 100
