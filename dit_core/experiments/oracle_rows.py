"""The scoreboard's rows of what an activation oracle reads: in texts, behind triggers, under diff + DIT, in nothing.

Every row is read at one layer, chosen on the calibration diffs: these are read at all layers, and the layer that is
best by the row's first measure is where the measured diffs are read. Lifts need no choice: they are given of all.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dit_core.experiments.groups import Group, of_split, tokens_before_topic
from dit_core.experiments.measures import LIFT, MEASURES, scored
from dit_core.experiments.progress import Tally
from dit_core.experiments.published import (
    SILENT_BASE,
    SILENT_DIFF,
    SILENT_DIT,
    SILENT_TRIGGER,
    TEXT,
    UP_TO_TOPIC,
    WHOLE_ANSWER,
)
from dit_core.oracle import lifts, read
from dit_core.records import DiffInfo, Reading, Score
from dit_core.suite import Suite, Task

OTHERS = 20  # texts that a lift compares the topic with
OWN, EVERYDAY, SAID = "the task's own question", "an everyday question", "what the diff itself says"
BEFORE_TOPIC = "answer, before the topic"


@dataclass(frozen=True)
class Row:
    """One kind of target: its condition, what it is asked, the span read; the layer is chosen by the first measure."""

    method: str
    condition: str
    asked: str
    span: str
    measures: tuple[str, ...]


# Of the control, the base that knows of no diff, the best layer is the one that would betray the most.
ROWS = (
    Row(TEXT, "base", SAID, "prompt", ("exact", "mean_grade")),
    Row(SILENT_TRIGGER, "diff+right", EVERYDAY, "last:10", ("exact", "at_least_2", "mean_grade")),
    Row(UP_TO_TOPIC, "diff+right", EVERYDAY, BEFORE_TOPIC, ("at_least_2", "exact", "mean_grade")),
    Row(WHOLE_ANSWER, "diff+right", EVERYDAY, "answer", ("exact", "mean_grade")),
    Row(SILENT_DIT, "diff+dit", OWN, "last:10", ("exact", "mean_grade")),
    Row(SILENT_DIFF, "diff", OWN, "last:10", ("exact", "mean_grade")),
    Row(SILENT_BASE, "base", EVERYDAY, "last:10", ("mentions",)),
)
LIFTED = (SILENT_DIT, SILENT_DIFF, SILENT_TRIGGER)


@dataclass(frozen=True)
class TaskRows:
    """All rows of one task: `measured` diffs, and those on which layers are chosen."""

    suite: Suite
    task: Task
    measured: Group
    calibration: Group
    n_layers: int

    @property
    def answers(self) -> int:
        """How many readings it takes at most; lifts count as one."""
        of_rows = len(self.calibration.infos) * self.n_layers + len(self.measured.infos)
        return len(ROWS) * of_rows + len(LIFTED) * len(self.measured.infos) * self.n_layers

    def scores(self, tally: Tally) -> Iterator[Score]:
        """Reads everything, row by row."""
        for row in ROWS:
            tally.at(f"{self.task.name} {row.method}")
            yield from self._read(row)
            tally.add(len(self.calibration.infos) * self.n_layers + len(self.measured.infos))
        others = _others(self.suite, self.measured.infos)
        for row in (row for row in ROWS if row.method in LIFTED and others):
            tally.at(f"{self.task.name} {row.method}, lift")
            yield from self._lifted(row, others)
            tally.add(len(self.measured.infos) * self.n_layers)

    def _read(self, row: Row) -> Iterator[Score]:
        """One score per measure; none where there is nothing to read, as of answers that never name their topic."""
        tried = _readings(self.suite, row, self.calibration, "all")
        layer = best_layer(self.suite, row.measures[0], tried) if tried else None
        found = [] if layer is None else _readings(self.suite, row, self.measured, layer)
        for measure in row.measures if found else ():
            values = [MEASURES[measure](self.suite, self.suite.diff(one.diff), one.answer) for one in found]
            yield self._scored(row, measure, layer, [one.diff for one in found], values)

    def _lifted(self, row: Row, others: Sequence[str]) -> Iterator[Score]:
        requests = _requests(self.suite, row, self.measured)
        found = [one for own in requests for one in lifts(self.suite, others=others, condition=row.condition, **own)]
        for layer in range(self.n_layers):
            own = [one for one in found if one.layer == layer]
            yield self._scored(row, LIFT, layer, [one.diff for one in own], [one.lift for one in own])

    def _scored(self, row: Row, measure: str, layer: int, diffs: Sequence[str], values: Sequence[float]) -> Score:
        adapter = self.suite.default_adapter(self.task.name) if "dit" in row.condition else ""
        return scored(row.method, self.task.name, adapter, measure, diffs, values, layer)


def task_rows(suite: Suite, infos: dict[str, list[DiffInfo]], limit: int | None) -> list[TaskRows]:
    """The rows of each task with triggers that an oracle can be tried on; `infos` are the measured diffs by task."""
    if suite.oracle is None or not suite.world.get("held_out_questions"):
        return []
    calibration = {task.name: of_split(suite, task.name, "calibration")[:limit] for task in suite.tasks.values()}
    wanted = [t for t in suite.tasks.values() if t.has_trigger and infos[t.name] and calibration[t.name]]
    if not wanted:
        return []
    n_layers = suite.worker.run(lambda: len(suite.model.layers))
    return [
        TaskRows(suite, t, Group(suite, infos[t.name]), Group(suite, calibration[t.name]), n_layers) for t in wanted
    ]


def best_layer(suite: Suite, measure: str, readings: Sequence[Reading]) -> int:
    """The layer of the best mean; of equals the one where the references are found likeliest, then the lowest."""

    def worth(layer: int) -> tuple[float, float]:
        own = [one for one in readings if one.layer == layer]
        values = [MEASURES[measure](suite, suite.diff(one.diff), one.answer) for one in own]
        return sum(values) / len(own), sum(one.log_prob_reference for one in own) / len(own)

    return max(sorted({one.layer for one in readings}), key=worth)


def _readings(suite: Suite, row: Row, group: Group, layers: str | int) -> list[Reading]:
    """One greedy reading per diff and layer."""
    requests = _requests(suite, row, group)
    return [one for own in requests for one in read(suite, condition=row.condition, layers=layers, **own)]


def _requests(suite: Suite, row: Row, group: Group) -> Iterator[dict[str, Any]]:
    """What `read` and `lifts` are asked: all diffs at once, but for those that are read elsewhere."""
    asked = {OWN: None, EVERYDAY: group.everyday}
    if row.asked == SAID:
        asked[SAID] = {id: said.text for id, said in group.said.items()}
    by_span: dict[str, list[DiffInfo]] = {}
    for info in group.infos:
        if span := _span(suite, row, group, info):
            by_span.setdefault(span, []).append(info)
    for span, infos in by_span.items():
        cut = span.removeprefix("answer:")
        yield {
            "diff": infos,
            "asked": asked[row.asked],
            "span": span,
            "answer_tokens": int(cut) if cut != span else None,
        }


def _span(suite: Suite, row: Row, group: Group, info: DiffInfo) -> str | None:
    """The span to read of one diff; None where it has nothing there."""
    if row.asked == SAID:
        return row.span if group.said[info.id].text else None
    if row.span == BEFORE_TOPIC:
        count = tokens_before_topic(suite, info, group.said[info.id].tokens)
        return f"answer:{count}" if count else None
    if row.span == "answer":
        return row.span if group.said[info.id].tokens else None
    return row.span


def _others(suite: Suite, infos: Sequence[DiffInfo]) -> list[str]:
    """Topics to compare with, the same for every diff: such as the oracle's training never saw either, if there are."""
    task, split = infos[0].task, infos[0].split
    measured = {info.reference.casefold() for info in of_split(suite, task, split)}
    pool = [info.reference for info in suite.diffs if info.task == task and info.split not in (split, "train")]
    if len(pool) < OTHERS:
        pool = [topic for topic in suite.world["topics"] if topic.casefold() not in measured]
    return random.Random(0).sample(sorted(pool), min(OTHERS, len(pool)))
