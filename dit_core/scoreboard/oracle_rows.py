"""The scoreboard's rows of what an activation oracle reads: in texts, behind triggers, under diff + DIT, in nothing.

Every row is read at one layer, chosen on the calibration diffs: these are read at all layers, and the layer that is
best by the row's first measure is where the measured diffs are read. In a whole run each of them is asked several
everyday questions, as neighbouring layers are too alike to be told apart by one. Lifts need no choice: they are given
of all.
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

TURNS = 5  # everyday questions to each calibration diff
OTHERS = 20  # texts that a lift compares the topic with
OWN, EVERYDAY, SAID = "the task's own question", "an everyday question", "what the diff itself says"
BEFORE_TOPIC = "answer, before the topic"


@dataclass(frozen=True)
class ReadingKind:
    """One kind of target: its condition, what it is asked, the span read; the layer is chosen by the first measure."""

    method: str
    condition: str
    asked: str
    span: str
    measures: tuple[str, ...]


# Of the control, the base that knows of no diff, the best layer is the one that would betray the most.
KINDS = (
    ReadingKind(TEXT, "base", SAID, "prompt", ("exact", "mean_grade")),
    ReadingKind(SILENT_TRIGGER, "diff+right", EVERYDAY, "last:10", ("exact", "at_least_2", "mean_grade")),
    ReadingKind(UP_TO_TOPIC, "diff+right", EVERYDAY, BEFORE_TOPIC, ("at_least_2", "exact", "mean_grade")),
    ReadingKind(WHOLE_ANSWER, "diff+right", EVERYDAY, "answer", ("exact", "mean_grade")),
    ReadingKind(SILENT_DIT, "diff+dit", OWN, "last:10", ("exact", "mean_grade")),
    ReadingKind(SILENT_DIFF, "diff", OWN, "last:10", ("exact", "mean_grade")),
    ReadingKind(SILENT_BASE, "base", EVERYDAY, "last:10", ("mentions",)),
)
LIFTED = (SILENT_DIT, SILENT_DIFF, SILENT_TRIGGER)


@dataclass(frozen=True)
class LayerRow(Row):
    """What all of the oracle's rows of a task share: the `measured` diffs, and those on which layers are chosen."""

    kind: ReadingKind
    task: Task
    measured: DiffGroup
    calibration: Sequence[DiffGroup]
    n_layers: int
    tokens = 18

    @property
    def key(self) -> Key:
        adapter = self.task.adapter if "dit" in self.kind.condition else ""
        return self.kind.method, self.task.name, adapter

    @property
    def infos(self) -> Sequence[DiffInfo]:
        return self.measured.infos

    def _finding(self, layer: int | None, diff: str, answers: Sequence[str], values: dict[str, tuple]) -> Finding:
        return Finding(*self.key, layer, diff, tuple(answers), values)


class BestLayerRow(LayerRow):
    """One reading per diff, at the layer that did best on the calibration diffs."""

    @property
    def measures(self) -> Sequence[str]:
        return self.kind.measures

    @property
    def choice_answers(self) -> int:
        return sum(len(group.infos) for group in self._turns) * self.n_layers

    @property
    def _turns(self) -> Sequence[DiffGroup]:
        return self.calibration[:1] if self.kind.asked == OWN else self.calibration

    def choose(self, suite: Suite) -> dict[str, int | None]:
        """The layer; None where there is nothing to read, as of answers that never name their topic."""
        tried = [one for group in self._turns for one in _readings(suite, self.kind, group, group.infos, "all")]
        return {"layer": best_layer(suite, self.measures[0], tried) if tried else None}

    def find(self, suite: Suite, infos: Sequence[DiffInfo], choice: dict[str, int | None]) -> list[Finding]:
        """Reads at the layer that was chosen; of a diff with nothing to read, a finding without answers."""
        layer = choice["layer"]
        read_here = [] if layer is None else _readings(suite, self.kind, self.measured, infos, layer)
        found = {one.diff: one for one in read_here}
        return [self._of(suite, info, layer, found.get(info.id)) for info in infos]

    def _of(self, suite: Suite, info: DiffInfo, layer: int | None, found: Reading | None) -> Finding:
        if found is None:
            return self._finding(layer, info.id, (), {measure: () for measure in self.measures})
        return self._finding(layer, info.id, (found.text,), measure_answer(suite, info, self.measures, found.text))


class LiftRow(LayerRow):
    """How much likelier the oracle finds the reference than other texts, at every layer."""

    measures = (LIFT,)
    tokens = 36  # all the other texts too

    @property
    def title(self) -> str:
        return f"{super().title}, lift"

    @property
    def answers_per_diff(self) -> int:
        return self.n_layers

    @cached_property
    def infos(self) -> Sequence[DiffInfo]:
        """Those whose reference is known, where there are others to compare it with."""
        return with_reference(self.measured.infos) if self._others else []

    @cached_property
    def _others(self) -> list[str]:
        return _others(self.measured.suite, self.measured.infos)

    def find(self, suite: Suite, infos: Sequence[DiffInfo], choice: dict[str, Any]) -> list[Finding]:
        """Compares the references of the diffs with others of their kind."""
        return [
            self._finding(one.layer, one.diff, (), {LIFT: (one.lift,)})
            for own in _requests(suite, self.kind, self.measured, infos)
            for one in lifts(suite, others=self._others, condition=self.kind.condition, **own)
        ]


def make_oracle_rows(suite: Suite, infos: dict[str, list[DiffInfo]], limit: int | None) -> list[Row]:
    """The rows of each task with triggers that an oracle can be tried on; `infos` are the measured diffs by task."""
    if suite.oracle is None or not suite.world.get("held_out_questions"):
        return []
    found: list[Row] = []
    for task in suite.tasks.values():
        calibration = with_reference(with_trigger(diffs_of_split(suite, task.name, "calibration")[:limit]))
        own = with_trigger(infos[task.name])
        if task.has_trigger and own and calibration:
            n_layers = suite.worker.run(lambda: len(suite.model.layers))
            turns = range(1 if limit else min(TURNS, len(suite.world["held_out_questions"])))  # a limit: a quick look
            shared = task, DiffGroup(suite, own), [DiffGroup(suite, calibration, turn) for turn in turns], n_layers
            kinds = [kind for kind in KINDS if task.adapter or "dit" not in kind.condition]
            found += [BestLayerRow(kind, *shared) for kind in kinds]
            found += [LiftRow(kind, *shared) for kind in kinds if kind.method in LIFTED]
    return found


def best_layer(suite: Suite, measure: str, readings: Sequence[Reading]) -> int:
    """The layer of the best mean; of equals the one where the references are found likeliest, then the lowest."""

    def worth(layer: int) -> tuple[float, float]:
        own = [one for one in readings if one.layer == layer]
        values = [MEASURES[measure](suite, suite.diff(one.diff), one.text) for one in own]
        likelihoods = [one.log_prob_reference for one in own]
        return _total(values) / len(own), _total(likelihoods) / len(own)

    return max(sorted({one.layer for one in readings}), key=worth)


def _total(values: Sequence[float | None]) -> float:
    """Return the sum of what is known."""
    return sum(value for value in values if value is not None)


def _readings(
    suite: Suite, kind: ReadingKind, group: DiffGroup, infos: Sequence[DiffInfo], layers: str | int
) -> list[Reading]:
    """One greedy reading per diff (some of the group's) and layer."""
    requests = _requests(suite, kind, group, infos)
    return [one for own in requests for one in read(suite, condition=kind.condition, layers=layers, **own)]


def _requests(suite: Suite, kind: ReadingKind, group: DiffGroup, infos: Sequence[DiffInfo]) -> Iterator[dict[str, Any]]:
    """What `read` and `lifts` are asked: all diffs at once, but for those that are read elsewhere."""
    needed = kind.asked == SAID or kind.span in (BEFORE_TOPIC, "answer")
    said = group.answers(infos) if needed else {}
    asked = {OWN: None, EVERYDAY: group.everyday, SAID: {id: one.text for id, one in said.items()}}
    by_span: dict[str, list[DiffInfo]] = {}
    for info in infos:
        if span := _span(suite, kind, info, said.get(info.id)):
            by_span.setdefault(span, []).append(info)
    for span, infos in by_span.items():
        cut = span.removeprefix("answer:")
        yield {
            "diff": infos,
            "asked": asked[kind.asked],
            "span": span,
            "answer_tokens": int(cut) if cut != span else None,
        }


def _span(suite: Suite, kind: ReadingKind, info: DiffInfo, said: Verbalization | None) -> str | None:
    """The span to read of one diff, of what it said where that counts; None where it has nothing there."""
    if said and kind.span == BEFORE_TOPIC:
        count = tokens_before_topic(suite, info, said.tokens)
        return f"answer:{count}" if count else None
    return kind.span if said is None or said.text else None


def _others(suite: Suite, infos: Sequence[DiffInfo]) -> list[str]:
    """Topics to compare with, the same for every diff: such as the oracle's training never saw either, if there are."""
    task, split = infos[0].task, infos[0].split
    measured = {info.reference.casefold() for info in diffs_of_split(suite, task, split)}
    pool = [info.reference for info in suite.diffs if info.task == task and info.split not in (split, "train")]
    if len(pool) < OTHERS:
        pool = [topic for topic in suite.world["topics"] if topic.casefold() not in measured]
    return random.Random(0).sample(sorted(pool), min(OTHERS, len(pool)))
