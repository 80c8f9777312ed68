"""Running a sweep: answers while copies, the diff's strength, the adapter or its layers vary, all in one request."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Unpack

from rapidfuzz import fuzz

from dit_core.engine.batching import batch_size
from dit_core.engine.likelihood import choice_log_probabilities, geometric_mean
from dit_core.errors import DitError, checked_text
from dit_core.grading import modal, words
from dit_core.methods.sampling import SamplingOptions
from dit_core.methods.verbalize.answers import MAX_ROWS, ask, stream
from dit_core.records import DiffInfo, SweepPoint, Table, Verbalization
from dit_core.records.condition import Condition, as_list
from dit_core.request.conditions import adapter_names, build_prompt, question_of, row_strengths
from dit_core.suite import Suite
from dit_core.suite.offload import at_model
from dit_core.sweeps import MAX_SETTINGS, LayerRange, layer_ranges


class SweepOptions(SamplingOptions, total=False):
    """Options of `sweep` and `stream_sweep` besides suite and diff; the docstring of `sweep` says what each means."""

    adapter: str | Sequence[str] | None
    copies: float | Sequence[float]
    strength: float | Sequence[float] | None
    layers: str | LayerRange | Sequence[LayerRange]
    trigger: str
    question: str | None


def sweep(suite: Suite, diff: str | DiffInfo | None = None, **options: Unpack[SweepOptions]) -> Table[SweepPoint]:
    """Ask one diff (or the base alone) at every setting of a DIT adapter's copies, layers and the diff's strength.

    Args:
        suite: what `load_suite` gave.
        diff: an id or reference; None for the base alone, at strength 0.
        adapter: names of DIT adapters, one or several, with `@vector` for their mean effects; by default that of the
            diff's task.
        copies: of the adapter, numbers of 0 or more.
        strength: of the diff, any numbers.
        layers: ranges that the adapter acts on: (first, last), several of these, or text like `0-3,50%,25%-50%`; None
            and `all` for all.
        trigger: `absent` (the default), `right`, `wrong`, or `own:` and a text.
        question: by default what each adapter was trained to answer.
        samples, temperature, top_p, max_new_tokens, seed: as of `ask`.

    Returns:
        One record per setting × sample. The table's `extra` has `n_settings`, `n_answers` and the sampling.

    Raises:
        DitError: what is asked makes no sense, or is more than 200 settings.
    """
    *_, table = _tables(suite, diff, partial=False, **options)
    return table


def stream_sweep(
    suite: Suite, diff: str | DiffInfo | None = None, **options: Unpack[SweepOptions]
) -> Generator[Table[SweepPoint], None, None]:
    """Ask as `sweep` does, and yield the table while the answers grow.

    Its `extra` says how far they are: `n_finished` of `n_answers`, `n_tokens` of those in the making, and `progress`
    (0 to 1), to which these count in part. To keep what was said where a sweep is stopped, take `finished` of the
    last table. The request is checked at once. The references' log-probabilities come with the last table, or from
    `scored`. Closing the iterator stops the work.
    """
    return _tables(suite, diff, partial=True, **options)


def finished(table: Table[SweepPoint]) -> Table[SweepPoint]:
    """Keep only the answers that were said to their end, compared with each other alone."""
    growing = set(table.extra.get("unfinished", ()))
    records = [point for index, point in enumerate(table) if index not in growing]
    extra = {name: value for name, value in table.extra.items() if name != "unfinished"}
    return replace(table, records=tuple(_compared(records)), extra=extra)


def scored(suite: Suite, table: Table[SweepPoint]) -> Table[SweepPoint]:
    """Add the log-probability (nats) of the diff's reference at every setting; as it is where none is known."""
    info = suite.diff(table[0].diff) if table and table[0].diff else None
    if info is None or not info.reference:
        return table
    asked = list(dict.fromkeys((point.condition, point.question) for point in table))
    log_probs = _references(suite, info, asked, table[0].seed)
    records = (replace(point, log_prob_reference=log_probs[point.condition, point.question]) for point in table)
    return replace(table, records=tuple(records))


# ---------------------------------------------------------------- what is asked


@dataclass(frozen=True)
class _Setting:
    """One point of a sweep: its condition is asked its question. `adapter` is a name in the suite."""

    adapter: str
    copies: float
    strength: float
    layers: LayerRange
    trigger: str
    question: str

    @property
    def condition(self) -> Condition:
        return Condition(self.strength, ((self.adapter, self.copies),), self.trigger, self.layers)


def _tables(
    suite: Suite,
    diff: str | DiffInfo | None,
    *,
    partial: bool,
    adapter: str | Sequence[str] | None = None,
    copies: float | Sequence[float] = 1.0,
    strength: float | Sequence[float] | None = None,
    layers: str | LayerRange | Sequence[LayerRange] = None,
    trigger: str = "absent",
    question: str | None = None,
    **sampling: Unpack[SamplingOptions],
) -> Generator[Table[SweepPoint], None, None]:
    """The tables of a sweep, whose settings are all one request; without `partial`, only when all is said."""
    info = None if diff is None else suite.diff(diff)
    asked = [Condition(adapters=((name or "", 1.0),)) for name in as_list(adapter)]
    names = [known for condition in asked for known in adapter_names(suite, info, condition)]
    amounts = as_list((0.0 if info is None else 1.0) if strength is None else strength)
    questions = {name: checked_text(question or question_of(suite, name), "The question") for name in names}
    settings = [
        _Setting(name, number, amount, layer_range, trigger, questions[name])
        for name, number, amount, layer_range in product(names, as_list(copies), amounts, layer_ranges(suite, layers))
    ]
    if not settings or len(settings) > MAX_SETTINGS:
        raise DitError(
            f"This sweep has {len(settings)} settings, and 1 to {MAX_SETTINGS} are possible: take larger steps."
        )
    pairs = list(dict.fromkeys((setting.condition, setting.question) for setting in settings))
    if partial:
        answers = stream(suite, info, condition=pairs, **sampling)
    else:
        answers = (table for table in [ask(suite, info, condition=pairs, **sampling)])
    drawn = {"samples": sampling.get("samples", 1), "seed": sampling.get("seed", 0)}
    return _compare_all(suite, info, settings, drawn, answers)


# ---------------------------------------------------------------- what is said


def _compare_all(
    suite: Suite,
    info: DiffInfo | None,
    settings: Sequence[_Setting],
    drawn: dict[str, Any],
    tables: Generator[Table[Verbalization], None, None],
) -> Generator[Table[SweepPoint], None, None]:
    """`drawn` is what the answers' own tables do not say of their sampling."""
    table = None
    with closing(tables):
        for answers in tables:
            table = _points(suite, info, settings, answers, drawn)
            yield table
    if table is not None and info is not None and info.reference:
        yield scored(suite, table)


def _points(
    suite: Suite,
    info: DiffInfo | None,
    settings: Sequence[_Setting],
    answers: Table[Verbalization],
    drawn: dict[str, Any],
) -> Table[SweepPoint]:
    """One record per setting × sample; settings that come to the same, as 0 copies do, share their answers."""
    by_request: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, answer in enumerate(answers):
        by_request[answer.condition, answer.question].append(index)
    growing = set(answers.extra.get("unfinished", ()))
    places = [
        (setting, index) for setting in settings for index in by_request[str(setting.condition), setting.question]
    ]
    unfinished = [place for place, (_, index) in enumerate(places) if index in growing]
    lengths = {index: len(answers[index].tokens) for index in growing or range(len(answers))}  # 0: of a batch to come
    sampling = answers.extra["sampling"] | drawn
    grown = sum(lengths[places[place][1]] for place in unfinished) / sampling["max_new_tokens"]
    n_finished = len(places) - len(unfinished)
    extra = {
        "n_settings": len(settings),
        "n_answers": len(places),
        "n_finished": n_finished,
        "n_tokens": max(lengths.values(), default=0),
        "progress": (n_finished + grown) / len(places),
        "sampling": sampling,
        **({"unfinished": unfinished} if unfinished else {}),
    }
    return suite.table("swept", _compared([_point(info, setting, answers[index]) for setting, index in places]), extra)


def _point(info: DiffInfo | None, setting: _Setting, answer: Verbalization) -> SweepPoint:
    """One answer, not yet compared with any other."""
    return SweepPoint(
        diff=info.id if info else "",
        adapter=setting.adapter,
        copies=setting.copies,
        strength=setting.strength,
        layers=setting.layers,
        condition=answer.condition,
        question=answer.question,
        sample=answer.sample,
        seed=answer.seed,
        text=answer.text,
        confidence=geometric_mean(answer.token_probabilities),
        modal_share=0.0,
        similarity=None,
        log_prob_reference=None,
    )


def _compared(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """The answers of one sweep compared: with those of their setting, and with the plain one of their adapter.

    The plain setting is one copy on all layers, and the diff as it is.
    """
    texts: dict[tuple[str, float, float, LayerRange], list[str]] = defaultdict(list)
    for point in points:
        texts[point.adapter, point.copies, point.strength, point.layers].append(point.text)
    modes = {setting: modal(own) for setting, own in texts.items()}
    compared = []
    for point in points:
        setting = point.adapter, point.copies, point.strength, point.layers
        plain = modes.get((point.adapter, 1.0, float(bool(point.diff)), None))
        similarity = _similarity(point.text, plain[0]) if plain else None
        share = modes[setting][1] / len(texts[setting])
        compared.append(replace(point, modal_share=share, similarity=similarity))
    return compared


def _similarity(text: str, other: str) -> float:
    """From 0 to 1, by the edits between two answers; case, punctuation and white space do not count."""
    return fuzz.ratio(" ".join(words(text)), " ".join(words(other))) / 100


@at_model
def _references(
    suite: Suite, info: DiffInfo, asked: Sequence[tuple[str, str]], seed: int
) -> dict[tuple[str, str], float]:
    """The log-probability of the diff's reference as the answer, in nats, by (written) condition and question."""
    rows = [(Condition.parse(condition), question) for condition, question in asked]

    def compute() -> dict[tuple[str, str], float]:
        model, size = suite.model, batch_size(suite.model, "sweep", MAX_ROWS)
        reference = model.tokenizer.encode(info.reference, add_special_tokens=False)

        def batch(part: Sequence[tuple[Condition, str]]) -> list[float]:
            prompts = [
                model.encode(build_prompt(suite, info, condition, question, seed)) for condition, question in part
            ]
            acting = row_strengths(suite, [(info, condition) for condition, _ in part])
            scores = choice_log_probabilities(model, prompts, [[reference]] * len(part), acting)
            return [sum(tokens) for (tokens,) in scores]

        scores = (score for _, own in size.map(rows, batch) for score in own)
        return dict(zip(asked, scores, strict=True))

    return suite.worker.run(compute)
