"""Evidence for an answer: how often samples give it, and how much likelier the diff makes it than its controls do."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from math import exp, log
from pathlib import Path
from typing import Any

from dit_core.engine.batching import MAX_DIFFS, batch_size, split_batches
from dit_core.engine.likelihood import choice_log_probabilities
from dit_core.errors import DitError
from dit_core.grading import modal
from dit_core.hub import parse_source
from dit_core.hub.key_value_cache import KeyValueCache, user_cache_folder
from dit_core.methods.verbalize import stream
from dit_core.project import VERSION
from dit_core.records import DiffInfo, Table, Verbalization
from dit_core.records.condition import Condition
from dit_core.request.conditions import question_of, row_strengths
from dit_core.suite import Suite
from dit_core.suite.diffs import OWN
from dit_core.suite.offload import at_model
from dit_core.trust.controls import controls

_log = logging.getLogger("dit_core")


class EvidenceCache:
    """JSON values by key, in memory and in the file at `path`; `stamp` is part of every key."""

    def __init__(self, path: Path, stamp: str) -> None:
        self.path = path
        self._file, self._stamp = KeyValueCache(path), stamp
        self._memory: dict[tuple[Any, ...], Any] = {}

    def get(self, *key: Any) -> Any:
        """Return what is kept under a key, or None."""
        if key not in self._memory and self.path.exists():
            try:
                self._memory[key] = self._file.get(self._stamp, *key)
            except DitError as error:
                _log.info("evidence is found anew: %s", error)
        return self._memory.get(key)

    def put(self, items: Iterable[tuple[tuple[Any, ...], Any]]) -> None:
        """Keep values by their keys."""
        values = dict(items)
        self._memory.update(values)
        try:
            self._file.put(((self._stamp, *key), value) for key, value in values.items())
        except DitError as error:
            _log.info("evidence is not kept: %s", error)


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


SAMPLES = 16
MAX_NEW_TOKENS = 32  # of a sample: an answer that goes on is not told from others by its end
MAX_ROWS = 256  # of a batch of texts to score, before memory has its say
Target = DiffInfo | None


@dataclass(frozen=True)
class Evidence:
    """What speaks for the modal answer of a diff, `by` a DIT adapter of that name or a way of reading.

    `times` of `samples` gave it. `log_prob` is that of all its tokens with the diff, `control_log_probs` the same with
    each control instead, in nats.
    """

    diff: str
    by: str
    answer: str
    times: int
    samples: int
    log_prob: float
    control_log_probs: dict[str, float]

    @property
    def share(self) -> float:
        """Share of the samples that gave the answer."""
        return self.times / self.samples

    @property
    def lift(self) -> float:
        """How much likelier the answer is with the diff than with the controls on average, in nats."""
        likely = [exp(one) for one in self.control_log_probs.values()]
        return self.log_prob - log(max(sum(likely) / max(len(likely), 1), 1e-12))


def gather(
    suite: Suite, infos: Sequence[DiffInfo], adapter: str, samples: int = SAMPLES, seed: int = 0
) -> Iterator[list[Evidence]]:
    """The evidence of each diff under the adapter of that name, many to a batch: the last item.

    Before it come empty lists, at each of which the work may be stopped.
    """
    texts: dict[str, list[str]] = {}
    for texts in sampled(suite, infos, adapter, samples, seed):  # noqa: B007 - the last counts
        yield []
    yield evidence_of(suite, infos, adapter, texts)


def evidence_of(
    suite: Suite, infos: Sequence[DiffInfo], adapter: str, texts: Mapping[str, Sequence[str]]
) -> list[Evidence]:
    """Return the evidence of each diff under the adapter of that name; `texts` are its samples, by diff id."""
    modes = [modal(texts[info.id]) for info in infos]
    against = [controls(suite, info, suite.adapter(adapter).task or info.task) for info in infos]
    wanted = [
        (target, text)
        for info, (text, _), own in zip(infos, modes, against, strict=True)
        for target in (info, *own.values())
    ]
    scores = iter(log_probs(suite, wanted, adapter))
    return [
        Evidence(info.id, adapter, text, times, len(texts[info.id]), next(scores), {kind: next(scores) for kind in own})
        for info, (text, times), own in zip(infos, modes, against, strict=True)
    ]


def sampled(
    suite: Suite, targets: Sequence[Target], adapter: str, samples: int = SAMPLES, seed: int = 0
) -> Iterator[dict[str, list[str]]]:
    """Sample each target's answers at temperature 1: texts by diff id ("" for no diff), complete in the last item."""
    cache = cache_of(suite)
    found: dict[str, list[str]] = {}
    for target in targets:
        if kept := cache.get("said", adapter, _name(target), samples, seed):
            found[_name(target)] = kept
    missing = [target for target in targets if _name(target) not in found]
    infos = [target for target in missing if target is not None]
    requests: list[list[DiffInfo] | None] = [infos] if infos else []
    if None in missing:
        requests.append(None)
    for diffs in requests:
        answers = stream(
            suite,
            diffs,
            condition=Condition(float(diffs is not None), ((adapter, 1.0),)),
            question=question_of(suite, adapter),
            samples=samples,
            temperature=1.0,
            max_new_tokens=MAX_NEW_TOKENS,
            seed=seed,
        )
        table: Table[Verbalization] | None = None
        with closing(answers):
            for table in answers:  # noqa: B007 - the last counts
                yield found
        texts: dict[str, list[str]] = {}
        for answer in table or ():
            texts.setdefault(answer.diff, []).append(answer.text)
        cache.put((("said", adapter, name, samples, seed), texts[name]) for name in texts if may_be_kept(name))
        found |= texts
    yield found


def log_probs(suite: Suite, wanted: Sequence[tuple[Target, str]], adapter: str) -> list[float]:
    """Return the log-probability in nats of each text as the adapter's answer beside that diff; 0 for an empty text."""
    cache = cache_of(suite)
    keys = [("likely", adapter, _name(target), text) for target, text in wanted]
    found = {key: kept for key in keys if (kept := cache.get(*key)) is not None}
    missing = {key: pair for key, pair in zip(keys, wanted, strict=True) if key not in found}
    if missing:
        new = dict(zip(missing, _scored(suite, list(missing.values()), adapter), strict=True))
        cache.put((key, score) for key, score in new.items() if may_be_kept(key[2]))
        found |= new
    return [found[key] for key in keys]


@at_model
def _scored(suite: Suite, wanted: Sequence[tuple[Target, str]], adapter: str) -> list[float]:
    def scored() -> list[float]:
        found: list[float] = []
        for rows in split_batches(wanted, lambda one: one[0], MAX_ROWS, MAX_DIFFS):
            size = batch_size(suite.model, "evidence", MAX_ROWS)
            for _, own in size.map(rows, lambda part: _batch(suite, part, adapter)):
                found.extend(own)
        return found

    return suite.worker.run(scored)


def _batch(suite: Suite, part: Sequence[tuple[Target, str]], adapter: str) -> list[float]:
    model = suite.model
    prompt = model.encode(question_of(suite, adapter))
    texts = [model.tokenizer.encode(text, add_special_tokens=False) for _, text in part]
    there = [at for at, text in enumerate(texts) if text]
    found = [0.0] * len(part)
    if there:
        rows = [(part[at][0], Condition(float(part[at][0] is not None), ((adapter, 1.0),))) for at in there]
        choices = [[texts[at]] for at in there]
        own = choice_log_probabilities(model, [prompt] * len(rows), choices, row_strengths(suite, rows))
        for at, (tokens,) in zip(there, own, strict=True):
            found[at] = sum(tokens)
    return found


def may_be_kept(name: str) -> bool:
    """Say whether evidence of a diff may be kept: a diff that a user brought is theirs alone."""
    return not name.startswith(f"{OWN}-")


def _name(target: Target) -> str:
    return target.id if target else ""
