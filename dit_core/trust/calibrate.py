"""Fitting a calibration on a suite's calibration diffs, and measuring on its test diffs how far it can be believed.

Its data are answers and readings of which it is known whether they are right. Beside every answer about a real diff
stands one about a control diff, to which no answer is right: in turn one of random numbers, a permuted one, and one of
another task.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

import numpy

from dit_core.engine.batching import MAX_DIFFS
from dit_core.errors import DitError
from dit_core.grading import exact
from dit_core.methods.diff_groups import diffs_of_split
from dit_core.methods.oracle.reading import trained_layers
from dit_core.methods.oracle.request import oracle_info
from dit_core.records import Condition, DiffInfo, Reliability, Table
from dit_core.stats import (
    BINS,
    auroc,
    brier_score,
    cluster_bootstrap_intervals,
    expected_calibration_error,
    probability_bins,
)
from dit_core.suite import Suite
from dit_core.trust.answer_confidence import AnswerSubject
from dit_core.trust.calibration import (
    ANSWERS,
    ORACLE,
    READINGS,
    TRAIN,
    Calibration,
    Recipe,
    Weights,
    adapter_digest,
    fit_weights,
    write_calibration,
)
from dit_core.trust.control_diffs import OTHER, PERMUTED, RANDOM, control, control_target
from dit_core.trust.evidence import SAMPLES, Evidence, Query, Subject, gather
from dit_core.trust.oracle_confidence import calibrated_readings

FIT, REPORT = "calibration", "test"
READINGS_EACH = 2  # of a diff in each way, of all layers: they take turns, for the diffs are what is drawn
RESAMPLES = 1000
OnProgress = Callable[[float, int, str], None]
"""Hears of parts that are done, parts in all, and what comes next."""


@dataclass(frozen=True)
class LabelledEvidence:
    """The evidence for an answer about a diff, what gave it (`by`), and whether it is right.

    `source` is the id of the diff that was drawn: a control goes with the one that it was made of.
    """

    source: str
    real: bool
    by: str
    evidence: Evidence
    right: bool


@dataclass(frozen=True)
class Batch:
    """Queries that are sampled together, each with its diff and whether that is a real one."""

    by: str
    subject: Subject
    rows: Sequence[tuple[DiffInfo, bool, Query]]

    def labelled(self) -> Iterator[LabelledEvidence]:
        """Gather the evidence of each query; of one without an answer there is none."""
        *_, found = gather(self.subject, list(dict.fromkeys(query for *_, query in self.rows)))
        for info, real, query in self.rows:
            if evidence := found.get(query):
                right = real and exact(self.subject.suite, info, evidence.text)
                yield LabelledEvidence(info.id.partition("~")[0], real, self.by, evidence, right)


def labelled_batches(suite: Suite, of: str, task: str, split: str, limit: int | None = None) -> Iterator[Batch]:
    """Yield batches of answers or readings about the first diffs of a task's split, and as many control diffs.

    Answers are those of each of the task's DIT adapters; readings are made in each way, at a few layers of each diff.
    """
    return (_reading_batches if of == READINGS else _answer_batches)(suite, task, split, limit)


def _answer_batches(suite: Suite, task: str, split: str, limit: int | None) -> Iterator[Batch]:
    infos, controls = _pairs(suite, task, split, limit)
    rows = [(info, True) for info in infos] + [(info, False) for info in controls]
    for name in (name for name, adapter in suite.adapters.items() if adapter.task == task):
        subject = AnswerSubject(suite, name)
        for start in range(0, len(rows), MAX_DIFFS):
            part = rows[start : start + MAX_DIFFS]
            yield Batch(name, subject, [(info, real, subject.query(info)) for info, real in part])


def _reading_batches(suite: Suite, task: str, split: str, limit: int | None) -> Iterator[Batch]:
    """Yield the batches of each way of reading; layers take turns, and a diff is read at those of its turn."""
    infos, controls = _pairs(suite, task, split, limit)
    for way in calibrated_readings(suite, suite.task(task)) if infos else ():
        asked, condition = way.questions(suite, suite.task(task), infos), Condition.parse(way.condition)
        turns = layer_turns(suite)
        for turn, layers in enumerate(turns):
            rows: list[tuple[DiffInfo, bool, Query]] = []
            for info, other in list(zip(infos, controls, strict=True))[turn :: len(turns)]:
                beside = control_target(info, getattr(other, "kind", OTHER), other)
                for diff, real, target in ((info, True, info), (other, False, beside)):
                    rows += [(diff, real, Query(target, condition, asked[info.id], layer)) for layer in layers]
            if rows:
                yield Batch(way.name, way.subject(suite), rows)


def layer_turns(suite: Suite) -> list[list[int]]:
    """Part the layers that the oracle was trained on, as `in_turns` does."""
    depth = suite.worker.run(lambda: len(suite.model.layers))
    return in_turns(trained_layers(oracle_info(suite).percents, depth) or list(range(depth)))


def in_turns(layers: Sequence[int]) -> list[list[int]]:
    """Part layers so that each part has a few from all over the depth."""
    step = max(1, len(layers) // READINGS_EACH)
    return [list(layers[start::step]) for start in range(step)]


def _pairs(suite: Suite, task: str, split: str, limit: int | None) -> tuple[list[DiffInfo], list[DiffInfo]]:
    """Return the first diffs of a task's split, and the control diff beside each."""
    infos = diffs_of_split(suite, task, split)[:limit]
    # Of the other task the training diffs, to fit: its test diffs are for the report.
    theirs = REPORT if split == REPORT else TRAIN
    others = [info for info in suite.diffs if info.task != task and info.split == theirs]
    return infos, [_control(place, info, others) for place, info in enumerate(infos)]


def _control(place: int, info: DiffInfo, others: Sequence[DiffInfo]) -> DiffInfo:
    """Return the control diff beside the real one at a place: every third is of another task, if there is one."""
    if place % 3 == 2 and others:
        return others[place // 3 % len(others)]
    return control(info, (RANDOM, PERMUTED)[place % 3 if others else place % 2])


def calibrated(
    suite: Suite, limit: int | None = None, on_progress: OnProgress = lambda *_: None, of: str = ANSWERS
) -> tuple[Calibration, Table[Reliability]]:
    """Fit the suite's calibration of `answers` or of `readings`, and measure it.

    Args:
        suite: what `load_suite` gave.
        limit: diffs of each task and split at most.
        on_progress: called before each part with the parts done, the parts in all and what comes next.
        of: what is calibrated.

    Raises:
        DitError: the suite has no calibration diffs that it could be fitted on.
    """
    readings = of == READINGS
    tasks = [name for name, task in suite.tasks.items() if not readings or calibrated_readings(suite, task)]
    plan = [
        (split, f"{of} of {task}s of the split '{split}'", batch)
        for split in (FIT, REPORT)
        for task in tasks
        for batch in labelled_batches(suite, of, task, split, limit)
    ]
    if not any(split == FIT for split, *_ in plan):
        lack = f"diffs of the split '{FIT}'" if tasks else "an oracle, and diffs with triggers"
        raise DitError(f"A calibration of {of} needs {lack}, and the suite '{suite.name}' has none.")
    found: dict[str, list[LabelledEvidence]] = {FIT: [], REPORT: []}
    for done, (split, part, batch) in enumerate(plan):
        on_progress(done, len(plan), part)
        found[split] += batch.labelled()
    examples = [example for example in found[FIT] if example.evidence.text.strip()]
    weights = fit_weights([example.evidence for example in examples], [example.right for example in examples])
    recipe = Recipe(
        date=date.today().isoformat(),
        samples=SAMPLES,
        split=FIT,
        trials=len(examples),
        right=sum(example.right for example in examples),
        by=sorted({example.by for example in examples}),
        layers=sorted(layer for turn in layer_turns(suite) for layer in turn) if readings else [],
    )
    adapters = [ORACLE, *filter(None, (suite.task(name).adapter for name in tasks))] if readings else suite.adapters
    calibration = Calibration(
        weights=weights,
        adapters={name: adapter_digest(suite, name) for name in adapters},
        recipe=recipe,
        split=REPORT,
        report=_report(weights, recipe.by, found[REPORT], "" if readings else "adapter "),
    )
    return calibration, calibration.table(suite, of)


def recalibrate(
    suite: Suite, limit: int | None = None, on_progress: OnProgress = lambda *_: None, of: str = ANSWERS
) -> Path:
    """Fit and measure a calibration of the suite anew, keep it with the suite, and return its path."""
    return write_calibration(suite, calibrated(suite, limit, on_progress, of)[0], of)


def _report(
    weights: Weights, fitted: Sequence[str], examples: Sequence[LabelledEvidence], prefix: str
) -> list[Reliability]:
    """Measure all that the calibration was `fitted` on, parts of it, and the others."""
    own = [example for example in examples if example.by in fitted]
    groups = {"all": own, "real diffs alone": [example for example in own if example.real]}
    for name in dict.fromkeys(example.by for example in examples):
        title = f"{prefix}{name}{'' if name in fitted else ' (not fitted on)'}"
        groups[title] = [example for example in examples if example.by == name]
    return [
        reliability(
            of,
            [example.source for example in group],
            [weights.probability(example.evidence) for example in group],
            [example.right for example in group],
        )
        for of, group in groups.items()
        if group
    ]


def reliability(
    of: str, diffs: Sequence[str], probabilities: Sequence[float], right: Sequence[bool], bins: int = BINS
) -> Reliability:
    """Measure one group of answers, each about the diff at its place in `diffs`; intervals (95 %) are over diffs."""
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
