"""Fitting the calibration on a suite's calibration diffs, and measuring on its test diffs how far it can be believed.

A trial is one diff under one DIT adapter: good ones and bad ones, trained on many diffs and on few. Beside every trial
of a real diff stands one of a control diff, to which no answer is right: in turn one of random numbers, a permuted
one, and one of another task.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from dit_core.batching import MAX_DIFFS
from dit_core.errors import DitError
from dit_core.grading import exact
from dit_core.records import DiffInfo, Reliability, Table
from dit_core.suite import Suite
from dit_core.trust.calibration import Calibration, digest, fit, write
from dit_core.trust.controls import PERMUTED, RANDOM, control
from dit_core.trust.evidence import SAMPLES, Evidence, gather
from dit_core.trust.figures import reliability

Tell = Callable[[float, int, str], None]
FIT, REPORT = "calibration", "test"


@dataclass(frozen=True)
class Trial:
    """One diff under one adapter: the evidence for its answer, and whether that is right."""

    task: str
    info: DiffInfo
    real: bool
    evidence: Evidence
    right: bool

    @property
    def source(self) -> str:
        """The diff that was drawn: a control goes with the one that it was made of."""
        return self.info.id.partition("~")[0]


def calibrated(
    suite: Suite, limit: int | None = None, tell: Tell = lambda *_: None
) -> tuple[Calibration, Table[Reliability]]:
    """Fits the suite's calibration, and measures it; `limit` bounds the diffs of each task, `tell` hears of progress.

    Raises DitError where the suite has no calibration diffs.
    """
    plan = [(split, task) for split in (FIT, REPORT) for task in suite.tasks if _diffs(suite, task, split, limit)]
    if not any(split == FIT for split, _ in plan):
        raise DitError(f"A calibration needs diffs of the split '{FIT}', and the suite '{suite.name}' has none.")
    found: dict[str, list[Trial]] = {FIT: [], REPORT: []}
    for done, (split, task) in enumerate(plan):
        told = f"{task}s of the split '{split}'"
        found[split] += trials(suite, task, split, limit, lambda share, t=told, d=done: tell(d + share, len(plan), t))
    learnt = [one for one in found[FIT] if one.evidence.answer.strip()]
    calibration = replace(
        fit([one.evidence for one in learnt], [one.right for one in learnt]),
        adapters={name: digest(suite, name) for name in suite.adapters},
        recipe={
            "date": date.today().isoformat(),
            "samples": SAMPLES,
            "split": FIT,
            "trials": len(learnt),
            "right": sum(one.right for one in learnt),
            "adapters": sorted({one.evidence.adapter for one in learnt}),
        },
    )
    return calibration, suite.table("reliability", _report(calibration, found[REPORT]), {"split": REPORT})


def renew(suite: Suite, limit: int | None = None, tell: Tell = lambda *_: None) -> Path:
    """Fits and measures the suite's calibration anew and keeps it with the suite; where it is then."""
    return write(suite, *calibrated(suite, limit, tell))


def trials(
    suite: Suite, task: str, split: str, limit: int | None = None, tell: Callable[[float], None] = lambda _: None
) -> list[Trial]:
    """Each diff of a task's split under each of the task's adapters, and as many control diffs."""
    names = [name for name, info in suite.adapters.items() if info.task == task]
    found = []
    for at, name in enumerate(names):
        infos = _diffs(suite, task, split, limit)
        # Of the other task the training diffs, to fit: its test diffs are for the report.
        theirs = REPORT if split == REPORT else "train"
        strangers = [one for one in suite.diffs if one.task != task and one.split == theirs]
        pairs = [(True, info) for info in infos]
        pairs += [(False, _stranger(place, info, strangers)) for place, info in enumerate(infos)]
        for start in range(0, len(pairs), MAX_DIFFS):
            part = pairs[start : start + MAX_DIFFS]
            tell((at + start / len(pairs)) / len(names))
            *_, evidence = gather(suite, list(dict.fromkeys(info for _, info in part)), name)
            by_diff = {one.diff: one for one in evidence}
            found += [_trial(suite, task, real, info, by_diff[info.id]) for real, info in part]
    return found


def _diffs(suite: Suite, task: str, split: str, limit: int | None) -> list[DiffInfo]:
    return [one for one in suite.diffs if one.task == task and one.split == split][:limit]


def _stranger(at: int, info: DiffInfo, strangers: Sequence[DiffInfo]) -> DiffInfo:
    """The control diff that stands beside the `at`-th real one."""
    if at % 3 == 2 and strangers:
        return strangers[at // 3 % len(strangers)]
    return control(info, (RANDOM, PERMUTED)[at % 2 if not strangers else at % 3])


def _trial(suite: Suite, task: str, real: bool, info: DiffInfo, evidence: Evidence) -> Trial:
    return Trial(task, info, real, evidence, real and exact(suite, info, evidence.answer))


def _report(calibration: Calibration, found: Sequence[Trial]) -> list[Reliability]:
    """The figures of all trials of what the calibration was fitted on, of parts of them, and of the other tasks."""
    fitted = [one for one in found if one.evidence.adapter in calibration.recipe["adapters"]]
    groups = {"all": fitted, "real diffs alone": [one for one in fitted if one.real]}
    for name in dict.fromkeys(one.evidence.adapter for one in found):
        own = [one for one in found if one.evidence.adapter == name]
        where = "" if name in calibration.recipe["adapters"] else " (not fitted on)"
        groups[f"adapter {name}{where}"] = own
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
