"""Confidence in answers: whether what a DIT adapter, or any other method, says of a diff can be trusted."""

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from dit_core.engine.batching import MAX_DIFFS, batch_size, split_batches
from dit_core.engine.likelihood import choice_log_probabilities
from dit_core.errors import DitError, checked_integer
from dit_core.methods import Method, Targets, get_method, start
from dit_core.methods.sampling import Diffs, named_diffs
from dit_core.methods.verbalize import stream
from dit_core.records import Condition, Confidence, DiffInfo, Table, Verbalization
from dit_core.records.condition import as_list
from dit_core.request.conditions import acting_diffs, question_of, row_strengths
from dit_core.suite import Suite
from dit_core.suite.offload import at_model
from dit_core.trust.assessment import assess, checked_samples
from dit_core.trust.calibration import calibrated_probability
from dit_core.trust.control_diffs import controls
from dit_core.trust.evidence import SAMPLES, Description, Evidence, Query

SAMPLE_TOKENS = 32  # of a sample: an answer that goes on is not told from others by its end
MAX_ROWS = 256  # of a batch of texts to score, before memory has its say
ScoreRow = tuple[DiffInfo | None, Condition, str, str]
"""A diff, the condition that acts, the question, and the text that is scored as its answer."""


def confidence(
    suite: Suite, diff: Diffs, *, adapter: str | None = None, samples: int = SAMPLES, seed: int = 0
) -> Table[Confidence]:
    """Measure how far what a DIT adapter says about each diff can be trusted: one record per diff.

    Args:
        suite: what `load_suite` gave.
        diff: ids or references, one or several.
        adapter: name of a DIT adapter; by default that of the diff's task.
        samples: answers per diff and control, at temperature 1; there is a probability for as many as the calibration
            was fitted with, which are 16 by default.
        seed: of the samples.

    Raises:
        DitError: an unknown diff or adapter, or a number of samples that makes no sense.
    """
    *_, table = stream_confidence(suite, diff, adapter=adapter, samples=samples, seed=seed)
    return table


def stream_confidence(
    suite: Suite, diff: Diffs, *, adapter: str | None = None, samples: int = SAMPLES, seed: int = 0
) -> Generator[Table[Confidence], None, None]:
    """Measure confidence, as `confidence` does, and yield the table while it fills: closing it stops the work."""
    samples, seed = checked_samples(samples), checked_integer(seed, "The seed", -(2**63), 2**63 - 1)
    infos = [suite.diff(name) for name in as_list(diff)] if diff is not None else []
    if not infos:
        raise DitError("Confidence is about a diff: name one.")
    names = [suite.adapter(adapter).name if adapter else suite.default_adapter(info.task) for info in infos]
    subjects = [AnswerSubject(suite, name, seed) for name in names]
    groups = [(subject, [subject.query(info)]) for subject, info in zip(subjects, infos, strict=True)]
    return assess(suite, "confidence", groups, samples)


@dataclass(frozen=True)
class AnswerSubject:
    """The answers of the DIT adapter of that name to the question that it was trained to answer."""

    suite: Suite
    adapter: str
    seed: int = 0
    speaker: ClassVar[str] = "The adapter"
    cache_key: ClassVar[tuple[str, ...]] = ("answers",)

    def query(self, info: DiffInfo | None) -> Query:
        """Return the query that asks the adapter about a diff, or about nothing."""
        condition = Condition(float(info is not None), ((self.adapter, 1.0),))
        return Query(info, condition, question_of(self.suite, self.adapter))

    def controls(self, query: Query) -> dict[str, Query]:
        """Return the same query about no diff, a random, a permuted and another diff, by kind."""
        if query.info is None:
            return {}
        task = self.suite.adapter(self.adapter).task or query.info.task
        return {kind: self.query(info) for kind, info in controls(self.suite, query.info, task).items()}

    def sample(self, queries: Sequence[Query], samples: int) -> Iterator[Mapping[Query, list[str]]]:
        """Draw answers: those about diffs in one batch, those about none in another."""
        requests: dict[tuple[Condition, str], list[Query]] = {}
        for query in queries:
            requests.setdefault((query.condition, query.asked), []).append(query)
        for (condition, question), own in requests.items():
            answers = stream(
                self.suite,
                [query.info for query in own if query.info] or None,
                condition=condition,
                question=question,
                samples=samples,
                temperature=1.0,
                max_new_tokens=SAMPLE_TOKENS,
                seed=self.seed,
            )
            table: Table[Verbalization] | None = None
            with closing(answers):
                for table in answers:  # noqa: B007 - the last counts
                    yield {}
            by_diff = {query.info.id if query.info else "": query for query in own}
            texts: dict[Query, list[str]] = {}
            for answer in table or ():
                texts.setdefault(by_diff[answer.diff], []).append(answer.text)
            yield texts

    def score(self, pairs: Sequence[tuple[Query, str]]) -> Iterator[Mapping[tuple[Query, str], float]]:
        """Score texts as the adapter's answers."""
        rows = [(query.info, query.condition, query.asked, text) for query, text in pairs]
        yield dict(zip(pairs, log_probabilities(self.suite, rows), strict=True))

    def probability(self, query: Query, evidence: Evidence) -> float:
        """Return the probability that the answer is right, by the suite's calibration of answers."""
        assert query.info is not None, "which no control is asked for"
        return calibrated_probability(self.suite, query.info, evidence, self.adapter)

    def describe(self, query: Query) -> Description:
        """Return the adapter's name and its question."""
        return {"adapter": self.adapter, "span": None, "kind": None, "question": query.asked}


@at_model
def log_probabilities(suite: Suite, rows: Sequence[ScoreRow]) -> list[float]:
    """Return the log-probability in nats of each row's text as its answer; 0 for a text without tokens."""

    def compute() -> list[float]:
        model, scores = suite.model, dict.fromkeys(rows, 0.0)
        tokens = {text: model.tokenizer.encode(text, add_special_tokens=False) for *_, text in rows}

        def batch_scores(batch: Sequence[ScoreRow]) -> list[list[list[float]]]:
            acting = row_strengths(suite, [(info, condition) for info, condition, *_ in batch])
            prompts = [model.encode(question, condition.chat) for _, condition, question, _ in batch]
            return choice_log_probabilities(model, prompts, [[tokens[text]] for *_, text in batch], acting)

        def needed(row: ScoreRow) -> Iterable[DiffInfo]:
            return acting_diffs(suite, row[0], row[1])

        for group in split_batches([row for row in scores if tokens[row[-1]]], needed, MAX_ROWS, MAX_DIFFS):
            for batch, found in batch_size(model, "evidence", MAX_ROWS).map(group, batch_scores):
                scores |= {row: sum(own) for row, (own,) in zip(batch, found, strict=True)}
        return [scores[row] for row in rows]

    return suite.worker.run(compute)


def method_confidence(suite: Suite, method: str, diff: Diffs, *, options: Any = None) -> Table[Confidence]:
    """Measure how far the answers of any method about each diff can be trusted: one record per diff.

    All that the method says about a diff are its samples. They are counted, and held against what it says about
    controls; there are neither log-probabilities nor a calibrated probability.

    Args:
        suite: what `load_suite` gave.
        method: the method's name; its tables must give answers.
        diff: ids or references, one or several.
        options: an object of the method's `options` class; its defaults without it.

    Raises:
        DitError: an unknown diff or method, a method that gives no answers, or one that the suite lacks something for.
    """
    *_, table = stream_method_confidence(suite, method, diff, options=options)
    return table


def stream_method_confidence(
    suite: Suite, method: str, diff: Diffs, *, options: Any = None
) -> Generator[Table[Confidence], None, None]:
    """Measure confidence, as `method_confidence` does, yielding the table while it fills: closing it stops the work."""
    subject = MethodSubject(suite, get_method(method), options)
    if not subject.method.gives_answers:
        raise DitError(f"The method '{method}' gives no answers in words: choose another for confidence.")
    queries = [subject.query(info) for info in named_diffs(suite, diff)]
    return assess(suite, "confidence", [(subject, queries)], 1)


@dataclass(frozen=True)
class MethodSubject:
    """The answers of a method, run with these options. Nothing is cached, for a method's code may change."""

    suite: Suite
    method: Method[Any, Any]
    options: Any = None
    speaker: ClassVar[str] = "The method"
    cache_key: ClassVar[None] = None

    @property
    def seed(self) -> int:
        """The seed among the options, if there is one."""
        return int(getattr(self.options, "seed", 0))

    def query(self, info: DiffInfo) -> Query:
        """Return the query about a diff."""
        return Query(info, Condition(1.0), self.suite.task_of(info).question)

    def controls(self, query: Query) -> dict[str, Query]:
        """Return the same query about a random, a permuted and another diff, by kind."""
        assert query.info is not None, "for a method is about a diff"
        found = controls(self.suite, query.info, query.info.task)
        return {kind: self.query(info) for kind, info in found.items() if info is not None}

    def sample(self, queries: Sequence[Query], samples: int) -> Iterator[Mapping[Query, list[str]]]:
        """Run the method on the queries' diffs; its options say how many answers it gives."""
        by_diff = {query.info.id: query for query in queries if query.info}
        infos = [replace(query.info, reference="") for query in queries if query.info]
        size = MAX_DIFFS if self.method.many_diffs else 1
        for batch in (infos[place : place + size] for place in range(0, len(infos), size)):
            table: Table[Any] | None = None
            with closing(start(self.method, self.suite, Targets(tuple(batch)), self.options)) as tables:
                for table in tables:  # noqa: B007 - the last counts
                    yield {}
            texts: dict[Query, list[str]] = {}
            for answer in self.method.answers(table) if table is not None else ():
                texts.setdefault(by_diff[answer.diff], []).append(answer.text)
            yield texts

    def score(self, pairs: Sequence[tuple[Query, str]]) -> Iterator[Mapping[tuple[Query, str], float]]:
        """Yield nothing: a method's answers have no log-probability of their own."""
        yield from ()

    def probability(self, query: Query, evidence: Evidence) -> float:
        """Raise DitError: no calibration is fitted for other methods."""
        raise DitError(
            f"No chance is known for answers of '{self.method.name}': a suite is calibrated for DIT and oracle alone."
        )

    def describe(self, query: Query) -> Description:
        """Return the method's title in the place of a question."""
        return {"adapter": None, "span": None, "kind": None, "question": self.method.title}
