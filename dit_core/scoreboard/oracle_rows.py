"""The scoreboard's rows for an activation oracle: readings of texts, triggers, diff + DIT, and the bare base.

Every row is read at one layer. It is chosen on the calibration diffs: they are read at all layers, and the best layer
by the row's first measure is used for the measured diffs. In a full run each calibration diff is asked several
everyday questions, as one is too few to tell neighbouring layers apart. Lifts are given for all layers.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dit_core.methods.diff_groups import DiffGroup, diffs_of_split, tokens_before_topic, with_reference, with_trigger
from dit_core.methods.oracle import lifts, read
from dit_core.records import DiffInfo, Finding, Reading, Verbalization
from dit_core.records.scores import (
    SILENT_BASE,
    SILENT_DIFF,
    SILENT_DIT,
    SILENT_TRIGGER,
    TEXT,
    UP_TO_TOPIC,
    WHOLE_ANSWER,
)
from dit_core.scoreboard.ledger import Key
from dit_core.scoreboard.measures import LIFT, MEASURES, measure_answer
from dit_core.scoreboard.rows import Row
from dit_core.suite import Suite, Task

QUESTIONS = 5  # everyday questions to each calibration diff
OTHERS = 20  # texts that a lift compares the reference with
TASK_QUESTION, EVERYDAY_QUESTION, OWN_ANSWER = (
    "the task's own question",
    "an everyday question",
    "what the diff itself says",
)
BEFORE_TOPIC = "answer, before the topic"


@dataclass(frozen=True)
class ReadingKind:
    """One kind of reading: its method, condition, question and span; the layer is chosen by the first measure."""

    method: str
    condition: str
    asked: str
    span: str
    measures: tuple[str, ...]


# SILENT_BASE is the control, a base without a diff: its layer is the one that would leak the most.
KINDS = (
    ReadingKind(TEXT, "base", OWN_ANSWER, "prompt", ("exact", "mean_grade")),
    ReadingKind(SILENT_TRIGGER, "diff+right", EVERYDAY_QUESTION, "last:10", ("exact", "at_least_2", "mean_grade")),
    ReadingKind(UP_TO_TOPIC, "diff+right", EVERYDAY_QUESTION, BEFORE_TOPIC, ("at_least_2", "exact", "mean_grade")),
    ReadingKind(WHOLE_ANSWER, "diff+right", EVERYDAY_QUESTION, "answer", ("exact", "mean_grade")),
    ReadingKind(SILENT_DIT, "diff+dit", TASK_QUESTION, "last:10", ("exact", "mean_grade")),
    ReadingKind(SILENT_DIFF, "diff", TASK_QUESTION, "last:10", ("exact", "mean_grade")),
    ReadingKind(SILENT_BASE, "base", EVERYDAY_QUESTION, "last:10", ("mentions",)),
)
LIFTED = (SILENT_DIT, SILENT_DIFF, SILENT_TRIGGER)


@dataclass(frozen=True)
class LayerRow(Row):
    """What the oracle's rows of a task share: the `measured` diffs, and those on which layers are chosen."""

    kind: ReadingKind
    task: Task
    measured: DiffGroup
    calibration: Sequence[DiffGroup]
    n_layers: int
    tokens = 18

    @property
    def key(self) -> Key:
        """Method, task and adapter of the row."""
        adapter = self.task.adapter if "dit" in self.kind.condition else ""
        return self.kind.method, self.task.name, adapter

    @property
    def infos(self) -> Sequence[DiffInfo]:
        """The diffs that are measured."""
        return self.measured.infos

    def _finding(self, layer: int | None, diff: str, answers: Sequence[str], values: dict[str, tuple]) -> Finding:
        return Finding(*self.key, layer, diff, tuple(answers), values)


class BestLayerRow(LayerRow):
    """One reading per diff, at the layer that did best on the calibration diffs."""

    @property
    def measures(self) -> Sequence[str]:
        """Names of what is measured of every diff."""
        return self.kind.measures

    @property
    def choice_answers(self) -> int:
        """The number of readings that the choice needs: all layers of the calibration diffs."""
        return sum(len(group.infos) for group in self._calibration_groups) * self.n_layers

    @property
    def _calibration_groups(self) -> Sequence[DiffGroup]:
        return self.calibration[:1] if self.kind.asked == TASK_QUESTION else self.calibration

    def choose(self, suite: Suite) -> dict[str, int | None]:
        """Return the best layer; None where nothing could be read, as where no answer names its topic."""
        readings = [
            reading
            for group in self._calibration_groups
            for reading in _readings(suite, self.kind, group, group.infos, "all")
        ]
        return {"layer": best_layer(suite, self.measures[0], readings) if readings else None}

    def find(self, suite: Suite, infos: Sequence[DiffInfo], choice: dict[str, int | None]) -> list[Finding]:
        """Return the readings at the chosen layer; a diff without one gets a finding without answers."""
        layer = choice["layer"]
        readings = [] if layer is None else _readings(suite, self.kind, self.measured, infos, layer)
        by_diff = {reading.diff: reading for reading in readings}
        return [self._finding_of(suite, info, layer, by_diff.get(info.id)) for info in infos]

    def _finding_of(self, suite: Suite, info: DiffInfo, layer: int | None, reading: Reading | None) -> Finding:
        if reading is None:
            return self._finding(layer, info.id, (), {measure: () for measure in self.measures})
        return self._finding(layer, info.id, (reading.text,), measure_answer(suite, info, self.measures, reading.text))


class LiftRow(LayerRow):
    """How much likelier the oracle finds the reference than other texts, at every layer."""

    measures = (LIFT,)
    tokens = 36  # all the other texts too

    @property
    def title(self) -> str:
        """The row's name in progress messages."""
        return f"{super().title}, lift"

    @property
    def answers_per_diff(self) -> int:
        """The number of layers, as there is a lift for each."""
        return self.n_layers

    @cached_property
    def infos(self) -> Sequence[DiffInfo]:
        """The measured diffs with a known reference; none where there are no others to compare with."""
        return with_reference(self.measured.infos) if self._others else []

    @cached_property
    def _others(self) -> list[str]:
        return _others(self.measured.suite, self.measured.infos)

    def find(self, suite: Suite, infos: Sequence[DiffInfo], choice: dict[str, Any]) -> list[Finding]:
        """Return the lifts of the diffs' references over other references of their kind."""
        return [
            self._finding(lift.layer, lift.diff, (), {LIFT: (lift.lift,)})
            for request in _requests(suite, self.kind, self.measured, infos)
            for lift in lifts(suite, others=self._others, condition=self.kind.condition, **request)
        ]


def make_oracle_rows(suite: Suite, infos: dict[str, list[DiffInfo]], limit: int | None) -> list[Row]:
    """Return the oracle's rows for each task with triggers; `infos` are the measured diffs by task."""
    if suite.oracle is None or not suite.world.get("held_out_questions"):
        return []
    rows: list[Row] = []
    for task in suite.tasks.values():
        calibration = with_reference(with_trigger(diffs_of_split(suite, task.name, "calibration")[:limit]))
        measured = with_trigger(infos[task.name])
        if task.has_trigger and measured and calibration:
            n_layers = suite.worker.run(lambda: len(suite.model.layers))
            count = 1 if limit else min(QUESTIONS, len(suite.world["held_out_questions"]))
            groups = [DiffGroup(suite, calibration, turn) for turn in range(count)]
            shared = task, DiffGroup(suite, measured), groups, n_layers
            kinds = [kind for kind in KINDS if task.adapter or "dit" not in kind.condition]
            rows += [BestLayerRow(kind, *shared) for kind in kinds]
            rows += [LiftRow(kind, *shared) for kind in kinds if kind.method in LIFTED]
    return rows


def best_layer(suite: Suite, measure: str, readings: Sequence[Reading]) -> int:
    """Return the layer of the best mean; of equal ones where the references are likeliest, then the lowest."""

    def mean_value(layer: int) -> tuple[float, float]:
        of_layer = [reading for reading in readings if reading.layer == layer]
        values = [MEASURES[measure](suite, suite.diff(reading.diff), reading.text) for reading in of_layer]
        log_probs = [reading.log_prob_reference for reading in of_layer]
        return _sum_of_known(values) / len(of_layer), _sum_of_known(log_probs) / len(of_layer)

    return max(sorted({reading.layer for reading in readings}), key=mean_value)


def _sum_of_known(values: Sequence[float | None]) -> float:
    """Return the sum of the values that are not None."""
    return sum(value for value in values if value is not None)


def _readings(
    suite: Suite, kind: ReadingKind, group: DiffGroup, infos: Sequence[DiffInfo], layers: str | int
) -> list[Reading]:
    """Return one greedy reading per diff (some of the group's) and layer."""
    requests = _requests(suite, kind, group, infos)
    return [
        reading for request in requests for reading in read(suite, condition=kind.condition, layers=layers, **request)
    ]


def _requests(suite: Suite, kind: ReadingKind, group: DiffGroup, infos: Sequence[DiffInfo]) -> Iterator[dict[str, Any]]:
    """Yield the arguments of `read` and `lifts`: one request for all diffs that are read at the same span."""
    needed = kind.asked == OWN_ANSWER or kind.span in (BEFORE_TOPIC, "answer")
    answers = group.answers(infos) if needed else {}
    questions = {
        TASK_QUESTION: None,
        EVERYDAY_QUESTION: group.everyday,
        OWN_ANSWER: {id: answer.text for id, answer in answers.items()},
    }
    by_span: dict[str, list[DiffInfo]] = {}
    for info in infos:
        if span := _span(suite, kind, info, answers.get(info.id)):
            by_span.setdefault(span, []).append(info)
    for span, infos in by_span.items():
        cut = span.removeprefix("answer:")
        yield {
            "diff": infos,
            "asked": questions[kind.asked],
            "span": span,
            "answer_tokens": int(cut) if cut != span else None,
        }


def _span(suite: Suite, kind: ReadingKind, info: DiffInfo, answer: Verbalization | None) -> str | None:
    """Return the span to read of one diff, which can depend on its answer; None where there is nothing to read."""
    if answer and kind.span == BEFORE_TOPIC:
        count = tokens_before_topic(suite, info, answer.tokens)
        return f"answer:{count}" if count else None
    return kind.span if answer is None or answer.text else None


def _others(suite: Suite, infos: Sequence[DiffInfo]) -> list[str]:
    """Return topics to compare with, the same for every diff; where possible, ones unseen in the oracle's training."""
    task, split = infos[0].task, infos[0].split
    measured = {info.reference.casefold() for info in diffs_of_split(suite, task, split)}
    pool = [info.reference for info in suite.diffs if info.task == task and info.split not in (split, "train")]
    if len(pool) < OTHERS:
        pool = [topic for topic in suite.world["topics"] if topic.casefold() not in measured]
    return random.Random(0).sample(sorted(pool), min(OTHERS, len(pool)))
