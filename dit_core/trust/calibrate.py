"""Fitting a calibration on a suite's calibration diffs, and measuring on its test diffs how far it can be believed.

Its data are trials: answers and readings of which it is known whether they are right. Beside every trial of a real diff
stands one of a control diff, to which no answer is right: in turn one of random numbers, a permuted one, and one of
another task.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy

from dit_core.engine.batching import MAX_DIFFS
from dit_core.errors import DitError
from dit_core.grading import exact
from dit_core.methods.oracle.reading import trained_layers
from dit_core.methods.oracle.request import oracle_info
from dit_core.records import DiffInfo, Reliability, Table
from dit_core.records.condition import Condition
from dit_core.stats import (
    BINS,
    auroc,
    brier_score,
    cluster_bootstrap_intervals,
    expected_calibration_error,
    probability_bins,
)
from dit_core.suite import Suite
from dit_core.trust import reading_evidence
from dit_core.trust.calibration import ANSWERS, ORACLE, READINGS, Calibration, digest, fit, write
from dit_core.trust.controls import OTHER, PERMUTED, RANDOM, control, stand_in
from dit_core.trust.evidence import SAMPLES, Evidence, gather
from dit_core.trust.reading_evidence import Aimed, Way, ways

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
    pairs = _pairs(suite, task, split, limit)
    found: list[Trial] = []
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
    plan = [(way, turn) for way in chosen for turn in range(len(parts))]
    found: list[Trial] = []
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
    """Return the layers that the oracle was trained on, parted as `in_turns` says."""
    depth = suite.worker.run(lambda: len(suite.model.layers))
    return in_turns(trained_layers(oracle_info(suite).percents, depth) or list(range(depth)))


def in_turns(layers: Sequence[int]) -> list[list[int]]:
    """Part layers so that each part has a few from all over the depth."""
    step = max(1, len(layers) // READINGS_EACH)
    return [list(layers[start::step]) for start in range(step)]


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


Tell = Callable[[float, int, str], None]


@dataclass(frozen=True)
class Subject:
    """What is calibrated: how its trials are made, on what tasks, and the adapters that it stands for.

    `layers` are those that are read; `word` stands before the name of what gave an answer.
    """

    trials: Callable[..., list[Trial]]
    tasks: Callable[[Suite], list[str]]
    adapters: Callable[[Suite], list[str]]
    layers: Callable[[Suite], list[int]] = lambda _: []
    word: str = ""


SUBJECTS = {
    ANSWERS: Subject(trials, lambda suite: list(suite.tasks), lambda suite: list(suite.adapters), word="adapter "),
    READINGS: Subject(
        reading_trials,
        lambda suite: [name for name, task in suite.tasks.items() if ways(suite, task)],
        lambda suite: [ORACLE, *(task.adapter for task in suite.tasks.values() if ways(suite, task) and task.adapter)],
        lambda suite: sorted(layer for turn in turns(suite) for layer in turn),
    ),
}


def calibrated(
    suite: Suite, limit: int | None = None, tell: Tell = lambda *_: None, of: str = ANSWERS
) -> tuple[Calibration, Table[Reliability]]:
    """Fit the suite's calibration of answers or of readings, and measures it.

    `limit` bounds the diffs of each task, `tell` hears of progress. Raises DitError where the suite has no calibration
    diffs that it could be fitted on.
    """
    subject = SUBJECTS[of]
    tasks = subject.tasks(suite)
    plan = [(split, task) for split in (FIT, REPORT) for task in tasks if diffs_of(suite, task, split, limit)]
    if not any(split == FIT for split, _ in plan):
        lack = f"diffs of the split '{FIT}'" if tasks else "an oracle, and diffs with triggers"
        raise DitError(f"A calibration of {of} needs {lack}, and the suite '{suite.name}' has none.")
    found: dict[str, list[Trial]] = {FIT: [], REPORT: []}
    for done, (split, task) in enumerate(plan):
        told = f"{of} of {task}s of the split '{split}'"
        part = subject.trials(suite, task, split, limit, lambda share, t=told, d=done: tell(d + share, len(plan), t))
        found[split] += part
    learnt = [one for one in found[FIT] if one.evidence.answer.strip()]
    calibration = replace(
        fit([one.evidence for one in learnt], [one.right for one in learnt]),
        adapters={name: digest(suite, name) for name in subject.adapters(suite)},
        recipe={
            "date": date.today().isoformat(),
            "samples": SAMPLES,
            "split": FIT,
            "trials": len(learnt),
            "right": sum(one.right for one in learnt),
            "by": sorted({one.evidence.by for one in learnt}),
            "layers": subject.layers(suite),
        },
    )
    report = _report(calibration, found[REPORT], subject.word)
    return calibration, suite.table("reliability", report, {"split": REPORT})


def renew(suite: Suite, limit: int | None = None, tell: Tell = lambda *_: None, of: str = ANSWERS) -> Path:
    """Fit and measure a calibration of the suite anew, keep it with the suite, and return its path."""
    return write(suite, *calibrated(suite, limit, tell, of), of)


def _report(calibration: Calibration, found: Sequence[Trial], word: str) -> list[Reliability]:
    """The figures of all trials of what the calibration was fitted on, of parts of them, and of the others."""
    by = calibration.recipe["by"]
    fitted = [one for one in found if one.evidence.by in by]
    groups = {"all": fitted, "real diffs alone": [one for one in fitted if one.real]}
    for name in dict.fromkeys(one.evidence.by for one in found):
        own = [one for one in found if one.evidence.by == name]
        groups[f"{word}{name}{'' if name in by else ' (not fitted on)'}"] = own
    return [
        reliability(
            of,
            [one.source for one in own],
            [calibration.probability(one.evidence) for one in own],
            [one.right for one in own],
        )
        for of, own in groups.items()
        if own
    ]


RESAMPLES = 1000


def reliability(
    of: str, diffs: Sequence[str], probabilities: Sequence[float], right: Sequence[bool], bins: int = BINS
) -> Reliability:
    """All figures of one group of trials, each of the diff at its place in `diffs`; intervals (95 %) over diffs."""
    p, y = numpy.asarray(probabilities, dtype=float), numpy.asarray(right, dtype=float)
    error = partial(expected_calibration_error, bins=bins)
    ece_interval, brier_interval, auroc_interval = cluster_bootstrap_intervals(
        (error, brier_score, auroc), diffs, p, y, resamples=RESAMPLES
    )
    assert ece_interval and brier_interval, "which are defined of every resample"
    return Reliability(
        of,
        n=len(p),
        right=int(y.sum()),
        diffs=len(set(diffs)),
        ece=error(p, y),
        auroc=auroc(p, y),
        brier=brier_score(p, y),
        ece_interval=ece_interval,
        auroc_interval=auroc_interval,
        brier_interval=brier_interval,
        bins=[
            {"n": len(rows), "probability": float(p[rows].mean()), "right": float(y[rows].mean())}
            for rows in probability_bins(p, bins)
        ],
    )
