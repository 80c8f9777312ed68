"""Confidence in readings: whether what an oracle reads of a diff can be trusted, in numbers and in words."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import ClassVar, Unpack

from dit_core.engine.activations import parse_layers
from dit_core.errors import DitError
from dit_core.methods.diff_groups import DiffGroup
from dit_core.methods.oracle import log_probs, stream, targets
from dit_core.methods.oracle.request import SPAN, ReadOptions, TargetOptions, checked_request, oracle_info
from dit_core.methods.sampling import Diffs, Layers
from dit_core.records import Condition, Confidence, DiffInfo, Reading, Table, Target
from dit_core.request.conditions import Span
from dit_core.suite import Suite, Task
from dit_core.suite.offload import at_model
from dit_core.trust.assessment import assess, checked_samples
from dit_core.trust.calibration import ORACLE, READINGS, calibrated_probability, read_calibration
from dit_core.trust.control_diffs import control_target, controls
from dit_core.trust.evidence import SAMPLES, Description, Evidence, Query

CONDITION = "diff+dit"


class ReadingConfidenceOptions(TargetOptions, total=False):
    """What `reading_confidence` takes beside the suite and the diff; its docstring says what each means."""

    layers: Layers
    kind: str
    question: str | None
    samples: int


def reading_confidence(suite: Suite, diff: Diffs, **options: Unpack[ReadingConfidenceOptions]) -> Table[Confidence]:
    """Measure how far what the suite's oracle reads can be trusted: one record per diff × condition × layer.

    Args:
        suite: what `load_suite` gave.
        diff: ids or references, one or several.
        condition: conditions with a diff, in their written form; `diff+dit` by default.
        layers: `all` (the default), numbers, or text like `0,3-5` or `25%,50%`.
        asked: what the diffs are asked, one text or texts by diff id; by default the question of the diff's task.
        span: the tokens to read, as `Span` writes them, without `each:`; `last:10` by default.
        kind: `with` the condition (the default), or its `difference` to the base.
        question: what the oracle is asked; by default its first preset.
        answer_tokens: of the diff's answer, where the span reads it; the suite's own number by default.
        samples: readings per diff and control, at temperature 1; there is a probability for as many as the calibration
            was fitted with, which are 16 by default.
        seed: of the samples.

    Raises:
        DitError: what was asked makes no sense for this suite, or a file of it is missing or damaged.
    """
    *_, table = stream_reading_confidence(suite, diff, **options)
    return table


def stream_reading_confidence(
    suite: Suite, diff: Diffs, **options: Unpack[ReadingConfidenceOptions]
) -> Generator[Table[Confidence], None, None]:
    """Measure as `reading_confidence` does, and yield the table while it fills: closing it stops the work."""
    wanted: ReadingConfidenceOptions = {"condition": CONDITION, "samples": SAMPLES, **options}
    samples = checked_samples(wanted["samples"])
    request = checked_request(suite, diff, temperature=1.0, **wanted)
    idle = next((acting for info, acting, _ in request.rows if info is None or not acting.needs_diff), None)
    if idle is not None:
        raise DitError(f"Confidence is about a diff, and under '{idle}' none acts: name one, and a condition with it.")
    if request.span.per_token:
        raise DitError("Confidence is about one reading per layer: choose a span without 'each:'.")
    if request.kind == "without":
        raise DitError("Confidence is about a diff, and without it none is read: choose the kind 'with'.")
    preset = request.questions[0] == request.info.questions[0]
    question = "" if preset else request.questions[0]
    answer_tokens = request.answer_tokens or None
    subject = ReadingSubject(suite, str(request.span), request.kind, question, answer_tokens, request.seed)
    layers = _layers(suite, request.layers)
    groups = [(subject, [Query(*row, layer) for layer in layers]) for row in request.rows]
    return assess(suite, "reading_confidence", groups, samples)


@at_model
def _layers(suite: Suite, layers: Layers) -> list[int]:
    return suite.worker.run(lambda: parse_layers(suite.model, layers))


@dataclass(frozen=True)
class ReadingSubject:
    """The readings of the suite's oracle: which tokens and activations are read, and what the oracle is asked.

    `question` "" is the oracle's first preset; `answer_tokens` None where the diffs need not answer.
    """

    suite: Suite
    span: str = SPAN
    kind: str = "with"
    question: str = ""
    answer_tokens: int | None = None
    seed: int = 0
    speaker: ClassVar[str] = "The oracle"

    @property
    def cache_key(self) -> tuple[str | int | None, ...]:
        """All that says what is read; the seed is of the digits around triggers too."""
        return "readings", self.span, self.kind, self.question, self.answer_tokens, self.seed

    def controls(self, query: Query) -> dict[str, Query]:
        """Return the controls by kind: the same condition, asked the same, with another diff or none.

        Each has an id of its own, so that one diff can stand beside several. Copies keep the diff's trigger; another
        diff has its own.
        """
        info, condition = query.info, query.condition
        assert info is not None, "for a reading is about a diff"
        found: dict[str, Query] = {}
        for kind, other in controls(self.suite, info, info.task).items():
            if other is not None:
                found[kind] = replace(query, info=control_target(info, kind, other))
            elif self.kind == "with" or condition.adapters:  # else nothing acts: there is no difference to read
                found[kind] = replace(query, condition=replace(condition, strength=0.0))
        return found

    def sample(self, queries: Sequence[Query], samples: int) -> Iterator[Mapping[Query, list[str]]]:
        """Draw readings, condition by condition, those of all diffs and layers together."""
        for own in self._requests(queries):
            options = self._options(own) | {"samples": samples, "temperature": 1.0}
            table: Table[Reading] | None = None
            with closing(stream(self.suite, _diffs(own), **options)) as tables:
                for table in tables:  # noqa: B007 - the last counts
                    yield {}
            by_place = {_place(query): query for query in own}
            texts: dict[Query, list[str]] = {}
            for reading in table or ():
                if query := by_place.get((reading.diff, reading.layer)):
                    texts.setdefault(query, []).append(reading.text)
            yield texts

    def score(self, pairs: Sequence[tuple[Query, str]]) -> Iterator[Mapping[tuple[Query, str], float]]:
        """Score texts as the oracle's answers, condition by condition."""
        texts: dict[Query, list[str]] = {}
        for query, text in pairs:
            texts.setdefault(query, []).append(text)
        for own in self._requests(list(texts)):
            yield {}
            options = self._options(own)
            scores = log_probs(self.suite, _diffs(own), {_place(query): texts[query] for query in own}, **options)
            by_place = {_place(query): query for query in own}
            yield {(by_place[diff, layer], text): score for (diff, _, layer, text), score in scores.items()}

    def probability(self, query: Query, evidence: Evidence) -> float:
        """Return the probability that a reading is right, by the suite's calibration of readings."""
        info, suite = query.info, self.suite
        assert info is not None, "which no control is asked for"
        recipe = read_calibration(suite, READINGS).recipe
        known = [way for way in calibrated_readings(suite, suite.task(info.task)) if way.name in recipe.by]
        if not any(way.matches(self, query) for way in known):
            measured = ", ".join(way.title for way in known) or "other diffs"
            raise DitError(f"No chance is known for this reading: it was measured for {measured}.")
        if query.layer not in recipe.layers:
            raise DitError(f"No chance is known at layer {query.layer}: the oracle was not trained there.")
        adapters = [suite.task(info.task).adapter] if query.condition.adapters else []
        return calibrated_probability(suite, info, evidence, ORACLE, *adapters, of=READINGS)

    def describe(self, query: Query) -> Description:
        """Return what is read, and what the oracle is asked."""
        question = self.question or oracle_info(self.suite).questions[0]
        return {"adapter": None, "span": self.span, "kind": self.kind, "question": question}

    def _requests(self, queries: Sequence[Query]) -> Iterator[list[Query]]:
        """Yield what can be one request: the queries of one condition of which the span holds something.

        A diff may answer with nothing, or too little.
        """
        requests: dict[Condition, list[Query]] = {}
        for query in queries:
            requests.setdefault(query.condition, []).append(query)
        span = Span(self.span)
        for own in requests.values():
            if span.needs_answer:
                table = targets(self.suite, _diffs(own), **self._options(own))
                readable = {target.diff for target in table if _holds(span, target)}
                own = [query for query in own if query.info and query.info.id in readable]
            if own:
                yield own

    def _options(self, queries: Sequence[Query]) -> ReadOptions:
        """Arguments of `oracle.read` for queries of one condition, each diff asked its own question."""
        return {
            "condition": queries[0].condition,
            "asked": {query.info.id: query.asked for query in queries if query.info},
            "layers": list(dict.fromkeys(query.layer for query in queries if query.layer is not None)),
            "span": self.span,
            "kind": self.kind,
            "question": self.question or None,
            "answer_tokens": self.answer_tokens,
            "seed": self.seed,
        }


def _diffs(queries: Sequence[Query]) -> list[DiffInfo]:
    """Return the diffs without what they were trained on: no evidence may come of that."""
    return list(dict.fromkeys(replace(query.info, reference="") for query in queries if query.info))


def _place(query: Query) -> tuple[str, int]:
    assert query.info is not None and query.layer is not None, "for a reading is of a diff at a layer"
    return query.info.id, query.layer


def _holds(span: Span, target: Target) -> bool:
    try:
        return bool(span.positions(target.prompt_tokens, len(target.tokens) - target.prompt_tokens))
    except DitError:
        return False


@dataclass(frozen=True)
class CalibratedReading:
    """A way of reading that is calibrated: `own_question` says whether the diff is asked its task's own question."""

    condition: str
    span: str
    own_question: bool

    @property
    def name(self) -> str:
        """Its name in a calibration's file."""
        return f"{self.condition}, {self.span}"

    @property
    def title(self) -> str:
        """What a sentence calls it."""
        return f"'{self.condition}' asked {'its own' if self.own_question else 'an everyday'} question ({self.span})"

    def subject(self, suite: Suite) -> ReadingSubject:
        """Return what is read in this way."""
        return ReadingSubject(suite, self.span, answer_tokens=suite.max_new_tokens if "answer" in self.span else None)

    def questions(self, suite: Suite, task: Task, infos: Sequence[DiffInfo]) -> dict[str, str]:
        """Return what each diff is asked, by its id: everyday questions take turns."""
        return {info.id: task.question for info in infos} if self.own_question else DiffGroup(suite, infos).everyday

    def matches(self, subject: ReadingSubject, query: Query) -> bool:
        """Return whether a reading was made in this way."""
        own = query.info is not None and query.asked == subject.suite.task(query.info.task).question
        wanted = (self.condition, self.own_question, replace(self.subject(subject.suite), seed=subject.seed))
        return (str(query.condition), own, subject) == wanted


CALIBRATED_READINGS = (
    CalibratedReading("diff+right", SPAN, False),
    CalibratedReading("diff+right", "answer", False),
    CalibratedReading("diff+dit", SPAN, True),
)


def calibrated_readings(suite: Suite, task: Task) -> list[CalibratedReading]:
    """Return the calibrated ways for a task's diffs: none without a trigger, where everyday questions tell nothing."""
    if suite.oracle is None or not task.has_trigger or not suite.world.get("held_out_questions"):
        return []
    return [way for way in CALIBRATED_READINGS if task.adapter or "dit" not in way.condition]
