"""The scoreboard's rows of what an activation oracle reads: in texts, behind triggers, under diff + DIT, in nothing.

Every row is read at one layer, chosen on the calibration diffs: these are read at all layers, and the layer that is
best by the row's first measure is where the measured diffs are read. Lifts need no choice: they are given of all.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dit_core.experiments.groups import Group, known, of_split, tokens_before_topic, with_trigger
from dit_core.experiments.ledger import Key, Ledger
from dit_core.experiments.measures import LIFT, MEASURES, measured
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
from dit_core.experiments.rows import Row, parts
from dit_core.oracle import lifts, read
from dit_core.records import DiffInfo, Finding, Reading
from dit_core.suite import Suite, Task

OTHERS = 20  # texts that a lift compares the topic with
OWN, EVERYDAY, SAID = "the task's own question", "an everyday question", "what the diff itself says"
BEFORE_TOPIC = "answer, before the topic"


@dataclass(frozen=True)
class Kind:
    """One kind of target: its condition, what it is asked, the span read; the layer is chosen by the first measure."""

    method: str
    condition: str
    asked: str
    span: str
    measures: tuple[str, ...]


# Of the control, the base that knows of no diff, the best layer is the one that would betray the most.
KINDS = (
    Kind(TEXT, "base", SAID, "prompt", ("exact", "mean_grade")),
    Kind(SILENT_TRIGGER, "diff+right", EVERYDAY, "last:10", ("exact", "at_least_2", "mean_grade")),
    Kind(UP_TO_TOPIC, "diff+right", EVERYDAY, BEFORE_TOPIC, ("at_least_2", "exact", "mean_grade")),
    Kind(WHOLE_ANSWER, "diff+right", EVERYDAY, "answer", ("exact", "mean_grade")),
    Kind(SILENT_DIT, "diff+dit", OWN, "last:10", ("exact", "mean_grade")),
    Kind(SILENT_DIFF, "diff", OWN, "last:10", ("exact", "mean_grade")),
    Kind(SILENT_BASE, "base", EVERYDAY, "last:10", ("mentions",)),
)
LIFTED = (SILENT_DIT, SILENT_DIFF, SILENT_TRIGGER)


@dataclass(frozen=True)
class Layered:
    """What all of the oracle's rows of a task share: the `measured` diffs, and those on which layers are chosen."""

    kind: Kind
    task: Task
    measured: Group
    calibration: Group
    n_layers: int

    @property
    def key(self) -> Key:
        adapter = self.task.adapter if "dit" in self.kind.condition else ""
        return self.kind.method, self.task.name, adapter

    @property
    def infos(self) -> Sequence[DiffInfo]:
        return self.measured.infos

    def _finding(self, layer: int | None, diff: str, answers: Sequence[str], values: dict[str, tuple]) -> Finding:
        return Finding(*self.key, layer, diff, tuple(answers), values)


class BestLayer(Layered):
    """One reading per diff, at the layer that did best on the calibration diffs."""

    @property
    def measures(self) -> Sequence[str]:
        return self.kind.measures

    @property
    def answers(self) -> int:
        return len(self.calibration.infos) * self.n_layers + len(self.infos)

    def find(self, suite: Suite, ledger: Ledger, tally: Tally) -> Iterator[list[Finding]]:
        """Chooses the layer, and reads what is lacking; of a diff with nothing to read, a finding without answers."""
        lacking = ledger.lacking(self.key, self.measures, self.infos)
        if lacking:
            tally.at(f"{self.task.name} {self.kind.method}")
            layer = (ledger.choices.get(self.key) or ledger.choose(self.key, layer=self._best(suite)))["layer"]
        tally.add(self.answers - len(lacking))
        for part in parts(lacking):
            tally.at(f"{self.task.name} {self.kind.method}")
            read_here = [] if layer is None else _readings(suite, self.kind, self.measured, part, layer)
            found = {one.diff: one for one in read_here}
            yield [self._of(suite, info, layer, found.get(info.id)) for info in part]
            tally.add(len(part))

    def _best(self, suite: Suite) -> int | None:
        """None where there is nothing to read, as of answers that never name their topic."""
        tried = _readings(suite, self.kind, self.calibration, self.calibration.infos, "all")
        return best_layer(suite, self.measures[0], tried) if tried else None

    def _of(self, suite: Suite, info: DiffInfo, layer: int | None, found: Reading | None) -> Finding:
        if found is None:
            return self._finding(layer, info.id, (), {measure: () for measure in self.measures})
        return self._finding(layer, info.id, (found.answer,), measured(suite, info, self.measures, found.answer))


class Lifted(Layered):
    """How much likelier the oracle finds the reference than other texts, at every layer."""

    measures = (LIFT,)

    @property
    def answers(self) -> int:
        return len(self.infos) * self.n_layers

    def find(self, suite: Suite, ledger: Ledger, tally: Tally) -> Iterator[list[Finding]]:
        """Compares the references of the diffs that are lacking with others of their kind."""
        lacking = known(ledger.lacking(self.key, self.measures, self.infos))
        tally.add((len(self.infos) - len(lacking)) * self.n_layers)
        others = _others(suite, self.infos) if lacking else []
        for part in parts(lacking if others else []):
            tally.at(f"{self.task.name} {self.kind.method}, lift")
            for own in _requests(suite, self.kind, self.measured, part):
                found = lifts(suite, others=others, condition=self.kind.condition, **own)
                yield [self._finding(one.layer, one.diff, (), {LIFT: (one.lift,)}) for one in found]
            tally.add(len(part) * self.n_layers)


def oracle_rows(suite: Suite, infos: dict[str, list[DiffInfo]], limit: int | None) -> list[Row]:
    """The rows of each task with triggers that an oracle can be tried on; `infos` are the measured diffs by task."""
    if suite.oracle is None or not suite.world.get("held_out_questions"):
        return []
    found: list[Row] = []
    for task in suite.tasks.values():
        calibration = known(with_trigger(of_split(suite, task.name, "calibration")[:limit]))
        own = with_trigger(infos[task.name])
        if task.has_trigger and own and calibration:
            n_layers = suite.worker.run(lambda: len(suite.model.layers))
            shared = task, Group(suite, own), Group(suite, calibration), n_layers
            kinds = [kind for kind in KINDS if task.adapter or "dit" not in kind.condition]
            found += [BestLayer(kind, *shared) for kind in kinds]
            found += [Lifted(kind, *shared) for kind in kinds if kind.method in LIFTED]
    return found


def best_layer(suite: Suite, measure: str, readings: Sequence[Reading]) -> int:
    """The layer of the best mean; of equals the one where the references are found likeliest, then the lowest."""

    def worth(layer: int) -> tuple[float, float]:
        own = [one for one in readings if one.layer == layer]
        values = [MEASURES[measure](suite, suite.diff(one.diff), one.answer) for one in own]
        return sum(values) / len(own), sum(one.log_prob_reference for one in own) / len(own)

    return max(sorted({one.layer for one in readings}), key=worth)


def _readings(suite: Suite, kind: Kind, group: Group, infos: Sequence[DiffInfo], layers: str | int) -> list[Reading]:
    """One greedy reading per diff (some of the group's) and layer."""
    requests = _requests(suite, kind, group, infos)
    return [one for own in requests for one in read(suite, condition=kind.condition, layers=layers, **own)]


def _requests(suite: Suite, kind: Kind, group: Group, infos: Sequence[DiffInfo]) -> Iterator[dict[str, Any]]:
    """What `read` and `lifts` are asked: all diffs at once, but for those that are read elsewhere."""
    asked = {OWN: None, EVERYDAY: group.everyday}
    if kind.asked == SAID:
        asked[SAID] = {id: said.text for id, said in group.said.items()}
    by_span: dict[str, list[DiffInfo]] = {}
    for info in infos:
        if span := _span(suite, kind, group, info):
            by_span.setdefault(span, []).append(info)
    for span, infos in by_span.items():
        cut = span.removeprefix("answer:")
        yield {
            "diff": infos,
            "asked": asked[kind.asked],
            "span": span,
            "answer_tokens": int(cut) if cut != span else None,
        }


def _span(suite: Suite, kind: Kind, group: Group, info: DiffInfo) -> str | None:
    """The span to read of one diff; None where it has nothing there."""
    if kind.asked == SAID:
        return kind.span if group.said[info.id].text else None
    if kind.span == BEFORE_TOPIC:
        count = tokens_before_topic(suite, info, group.said[info.id].tokens)
        return f"answer:{count}" if count else None
    if kind.span == "answer":
        return kind.span if group.said[info.id].tokens else None
    return kind.span


def _others(suite: Suite, infos: Sequence[DiffInfo]) -> list[str]:
    """Topics to compare with, the same for every diff: such as the oracle's training never saw either, if there are."""
    task, split = infos[0].task, infos[0].split
    measured = {info.reference.casefold() for info in of_split(suite, task, split)}
    pool = [info.reference for info in suite.diffs if info.task == task and info.split not in (split, "train")]
    if len(pool) < OTHERS:
        pool = [topic for topic in suite.world["topics"] if topic.casefold() not in measured]
    return random.Random(0).sample(sorted(pool), min(OTHERS, len(pool)))
