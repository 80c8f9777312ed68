"""Evidence for an answer: how often samples give it, and how much likelier the diff makes it than its controls do.

One algorithm, whatever answers: draw samples, take the modal answer, and score its log-probability under the diff and
under each of its controls. Samples and scores are computed once and kept in the user's cache folder.
"""

import hashlib
import json
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from pathlib import Path
from typing import Any, Protocol, TypedDict, TypeVar

from dit_core.errors import DitError
from dit_core.grading import modal
from dit_core.hub import parse_source
from dit_core.hub.cache import KeyValueCache, user_cache_folder
from dit_core.project import VERSION
from dit_core.records import Condition, DiffInfo
from dit_core.suite import Suite
from dit_core.suite.diffs import OWN

SAMPLES = 16
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True)
class Query:
    """A condition of a diff, asked a question, and the layer at which an oracle reads it (None where none does)."""

    info: DiffInfo | None
    condition: Condition
    asked: str
    layer: int | None = None


@dataclass(frozen=True)
class Evidence:
    """What speaks for the modal answer to a query.

    Attributes:
        text: the modal answer.
        times: samples that gave it, of `samples`.
        log_prob: of all its tokens with the diff, in nats; None where the subject has no log-probabilities.
        control_log_probs: the same with each control in the diff's place, by kind.
    """

    text: str
    times: int
    samples: int
    log_prob: float | None
    control_log_probs: dict[str, float]

    @property
    def lift(self) -> float | None:
        """How much likelier the answer is with the diff than with the controls on average, in nats."""
        if self.log_prob is None:
            return None
        probabilities = [exp(score) for score in self.control_log_probs.values()]
        return self.log_prob - log(max(sum(probabilities) / max(len(probabilities), 1), 1e-12))


class Description(TypedDict):
    """Fields of a `Confidence` that its subject knows; None where they don't apply."""

    adapter: str | None
    span: str | None
    kind: str | None
    question: str


class Subject(Protocol):
    """What answers: a DIT adapter, an oracle, or any other method whose table gives answers."""

    @property
    def suite(self) -> Suite:
        """The suite that it belongs to."""

    @property
    def speaker(self) -> str:
        """What a sentence calls it, such as 'The oracle'."""

    @property
    def seed(self) -> int:
        """The seed of its samples."""

    @property
    def cache_key(self) -> tuple[str | int | None, ...] | None:
        """All that scores depend on beside the query and the suite, ready for JSON; None where nothing is cached."""

    def controls(self, query: Query) -> dict[str, Query]:
        """Return the controls of a query by kind."""

    def sample(self, queries: Sequence[Query], samples: int) -> Iterator[Mapping[Query, list[str]]]:
        """Draw so many answers to each query at temperature 1, in as few batches as there can be.

        Each item holds the queries that were finished since the last, and may be empty: the work can be stopped
        there. A query that has no answer is left out.
        """

    def score(self, pairs: Sequence[tuple[Query, str]]) -> Iterator[Mapping[tuple[Query, str], float]]:
        """Score texts as answers to queries: log-probabilities of all their tokens, in nats.

        Items are as those of `sample`; a method without log-probabilities yields nothing.
        """

    def probability(self, query: Query, evidence: Evidence) -> float:
        """Return the calibrated probability that an answer is right; DitError, saying why, where there is none."""

    def describe(self, query: Query) -> Description:
        """Return what a record says of the subject."""


def gather(
    subject: Subject, queries: Sequence[Query], samples: int = SAMPLES
) -> Generator[dict[Query, Evidence], None, None]:
    """Yield the evidence for each query's modal answer, at last; before that, empty items while the work goes on.

    A query without an answer has none. Closing the iterator stops the work.
    """
    texts: dict[Query, list[str]] = {}
    for texts in sample(subject, queries, samples):  # noqa: B007 - the last counts
        yield {}
    yield from evidence_of(subject, queries, texts)


def evidence_of(
    subject: Subject, queries: Sequence[Query], texts: Mapping[Query, Sequence[str]]
) -> Generator[dict[Query, Evidence], None, None]:
    """Yield evidence, as `gather` does, from samples that were drawn before: `texts` holds those of each query."""
    modes = {query: modal(texts[query]) for query in queries if query in texts}
    controls = {query: subject.controls(query) for query in modes}
    wanted = [(target, text) for query, (text, _) in modes.items() for target in (query, *controls[query].values())]
    scores: dict[tuple[Query, str], float] = {}
    for scores in score(subject, wanted):  # noqa: B007 - the last counts
        yield {}
    yield {
        query: Evidence(
            text,
            times,
            len(texts[query]),
            scores.get((query, text)),
            {kind: scores[own, text] for kind, own in controls[query].items() if (own, text) in scores},
        )
        for query, (text, times) in modes.items()
    }


def sample(
    subject: Subject, queries: Sequence[Query], samples: int = SAMPLES
) -> Generator[dict[Query, list[str]], None, None]:
    """Yield the samples drawn for each query so far; the last item is complete."""
    keys = {query: ("sample", *_key(subject, query), samples, subject.seed) for query in queries}
    yield from _cached(subject, keys, lambda missing: subject.sample(missing, samples))


def score(
    subject: Subject, pairs: Sequence[tuple[Query, str]]
) -> Generator[dict[tuple[Query, str], float], None, None]:
    """Yield the log-probabilities, in nats, of texts as answers to queries so far; an empty text has 0."""
    keys = {(query, text): ("score", *_key(subject, query), text) for query, text in pairs if text}
    empty = {pair: 0.0 for pair in pairs if not pair[1]}
    for found in _cached(subject, keys, subject.score):
        yield found | empty


def _cached(
    subject: Subject, keys: Mapping[K, tuple[Any, ...]], compute: Callable[[list[K]], Iterator[Mapping[K, V]]]
) -> Generator[dict[K, V], None, None]:
    """Yield values by what they are of: those that the cache keeps under `keys`, then what is computed of the rest."""
    cache = cache_of(subject.suite)
    found: dict[K, V] = {item: kept for item, key in keys.items() if (kept := cache.get(*key)) is not None}
    if missing := [item for item in keys if item not in found]:
        for new in compute(missing):
            found |= new
            cache.put({keys[item]: value for item, value in new.items() if _may_be_kept(subject, keys[item])})
            yield found
    yield found


def _key(subject: Subject, query: Query) -> tuple[str | int | None, ...]:
    """Return what tells a query from all others of its suite, its diff's id first."""
    diff = query.info.id if query.info else ""
    return diff, *(subject.cache_key or ()), str(query.condition), query.asked, query.layer


def _may_be_kept(subject: Subject, key: tuple[Any, ...]) -> bool:
    """Return whether a value is cached: a diff that a user brought is theirs alone."""
    return subject.cache_key is not None and not key[1].startswith(f"{OWN}-")


class EvidenceCache:
    """JSON values by key, in memory and in the file at `path`; `stamp` is part of every key."""

    def __init__(self, path: Path, stamp: str) -> None:
        self.path = path
        self._file, self._stamp = KeyValueCache(path), stamp
        self._memory: dict[tuple[Any, ...], Any] = {}

    def get(self, *key: Any) -> Any:
        """Return what is kept under a key, or None; a file that can't be read holds nothing."""
        if key not in self._memory:
            with suppress(DitError):
                self._memory[key] = self._file.get(self._stamp, *key)
        return self._memory.get(key)

    def put(self, values: Mapping[tuple[Any, ...], Any]) -> None:
        """Keep values by their keys, in memory where the file can't be written."""
        self._memory |= values
        if values:
            with suppress(DitError):
                self._file.put(((self._stamp, *key), value) for key, value in values.items())


@lru_cache(maxsize=8)
def cache_of(suite: Suite) -> EvidenceCache:
    """Return the cache of a suite as its files are now."""
    return EvidenceCache(user_cache_folder() / f"evidence-{suite.name}-{suite.fingerprint}.sqlite", _stamp(suite))


def _stamp(suite: Suite) -> str:
    """Return what tells files from others of the same name and size; the fingerprint has the rest."""
    sources = [suite.spec.base, *(suite.spec.at(task.folder) for task in suite.tasks.values() if task.folder)]
    sources += [parse_source(suite.oracle.source)] if suite.oracle else []
    folders = [source for source in sources if isinstance(source, Path)]
    ages = sorted((str(path), path.stat().st_mtime_ns) for folder in folders for path in folder.rglob("*.*"))
    return hashlib.sha256(json.dumps([VERSION, str(suite.loading), ages]).encode()).hexdigest()
