"""Trials: answers and readings of which it is known whether they are right, to fit a calibration on and to measure it.

Beside every trial of a real diff stands one of a control diff, to which no answer is right: in turn one of random
numbers, a permuted one, and one of another task.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from dit_core.engine.batching import MAX_DIFFS
from dit_core.grading import exact
from dit_core.methods.oracle.reading import trained_layers
from dit_core.records import DiffInfo
from dit_core.records.condition import Condition
from dit_core.suite import Suite
from dit_core.trust import reading_evidence
from dit_core.trust.controls import OTHER, PERMUTED, RANDOM, control
from dit_core.trust.evidence import Evidence, gather
from dit_core.trust.reading_evidence import Aimed, Way, stand_in, ways

Share = Callable[[float], None]
FIT, REPORT = "calibration", "test"
READINGS_EACH = 2  # of a diff in each way, of all layers: they take turns, for the diffs are what is drawn


@dataclass(frozen=True)
class Trial:
    """One diff under one adapter, or read in one way at one layer: the evidence for its answer, and if it is right."""

    task: str
    info: DiffInfo
    real: bool
    evidence: Evidence
    right: bool

    @property
    def source(self) -> str:
        """The diff that was drawn: a control goes with the one that it was made of."""
        return self.info.id.partition("~")[0]


def trials(suite: Suite, task: str, split: str, limit: int | None = None, tell: Share = lambda _: None) -> list[Trial]:
    """Each diff of a task's split under each of the task's adapters, and as many control diffs."""
    names = [name for name, info in suite.adapters.items() if info.task == task]
    pairs, found = _pairs(suite, task, split, limit), []
    for at, name in enumerate(names):
        for start in range(0, len(pairs), MAX_DIFFS):
            part = pairs[start : start + MAX_DIFFS]
            tell((at + start / len(pairs)) / len(names))
            *_, evidence = gather(suite, list(dict.fromkeys(info for _, info in part)), name)
            by_diff = {one.diff: one for one in evidence}
            found += [_trial(suite, task, real, info, by_diff[info.id]) for real, info in part]
    return found


def reading_trials(
    suite: Suite, task: str, split: str, limit: int | None = None, tell: Share = lambda _: None
) -> list[Trial]:
    """Each diff of a task's split, and as many control diffs, read in each way at a few layers."""
    chosen = ways(suite, suite.task(task))
    pairs = _pairs(suite, task, split, limit) if chosen else []
    parts = turns(suite) if pairs else []
    plan, found = [(way, turn) for way in chosen for turn in range(len(parts))], []
    for at, (way, turn) in enumerate(plan):
        tell(at / len(plan))
        found += _read(suite, task, way, parts[turn], pairs, turn, len(parts))
    return found


def _read(
    suite: Suite, task: str, way: Way, layers: list[int], pairs: Sequence, turn: int, every: int
) -> Iterator[Trial]:
    """The trials of the diffs whose turn it is to be read at these layers."""
    reals = [info for real, info in pairs if real]
    asked, condition = way.asked(suite, suite.task(task), reals), Condition.parse(way.condition)
    aimed: dict[str, tuple[bool, DiffInfo, Aimed]] = {}
    for at, (source, (_, stranger)) in enumerate(zip(reals, pairs[len(reals) :], strict=True)):
        if at % every == turn:
            placed = stand_in(source, getattr(stranger, "kind", OTHER), stranger)
            for real, info, target in ((True, source, source), (False, stranger, placed)):
                aimed[target.id] = (real, info, (target, condition, asked[source.id]))
    targets = [target for *_, target in aimed.values()]
    *_, found = reading_evidence.gather(suite, targets, way.sight(suite), layers, str(way))
    for (id, _, _), evidence in found.items():
        real, info, _ = aimed[id]
        yield _trial(suite, task, real, info, evidence)


def turns(suite: Suite) -> list[list[int]]:
    """The layers that the oracle was trained on, parted so that each part has a few from all over the depth."""
    depth = suite.worker.run(lambda: len(suite.model.layers))
    layers = trained_layers(suite.oracle.percents, depth) or list(range(depth))
    step = max(1, len(layers) // READINGS_EACH)
    return [layers[start::step] for start in range(step)]


def diffs_of(suite: Suite, task: str, split: str, limit: int | None) -> list[DiffInfo]:
    """The first diffs of a task's split."""
    return [one for one in suite.diffs if one.task == task and one.split == split][:limit]


def _pairs(suite: Suite, task: str, split: str, limit: int | None) -> list[tuple[bool, DiffInfo]]:
    """The real diffs, and then as many that stand beside them."""
    infos = diffs_of(suite, task, split, limit)
    # Of the other task the training diffs, to fit: its test diffs are for the report.
    theirs = REPORT if split == REPORT else "train"
    strangers = [one for one in suite.diffs if one.task != task and one.split == theirs]
    beside = [(False, _stranger(place, info, strangers)) for place, info in enumerate(infos)]
    return [(True, info) for info in infos] + beside


def _stranger(at: int, info: DiffInfo, strangers: Sequence[DiffInfo]) -> DiffInfo:
    """The control diff that stands beside the `at`-th real one."""
    if at % 3 == 2 and strangers:
        return strangers[at // 3 % len(strangers)]
    return control(info, (RANDOM, PERMUTED)[at % 2 if not strangers else at % 3])


def _trial(suite: Suite, task: str, real: bool, info: DiffInfo, evidence: Evidence) -> Trial:
    return Trial(task, info, real, evidence, real and exact(suite, info, evidence.answer))
