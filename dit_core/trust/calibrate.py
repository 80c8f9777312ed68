"""Fitting a calibration on a suite's calibration diffs, and measuring on its test diffs how far it can be believed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy

from dit_core.errors import DitError
from dit_core.records import Reliability, Table
from dit_core.stats import (
    BINS,
    auroc,
    brier_score,
    cluster_bootstrap_intervals,
    expected_calibration_error,
    probability_bins,
)
from dit_core.suite import Suite
from dit_core.trust.calibration import ANSWERS, ORACLE, READINGS, Calibration, digest, fit, write
from dit_core.trust.calibration_data import FIT, REPORT, Trial, diffs_of, reading_trials, trials, turns
from dit_core.trust.evidence import SAMPLES
from dit_core.trust.reading_evidence import ways

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
    """Fits the suite's calibration of answers or of readings, and measures it.

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
    """Fits and measures a calibration of the suite anew and keeps it with the suite; where it is then."""
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
