"""The scoreboard's rows of what diffs say: with and without their trigger, with DIT adapters of all kinds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dit_core.engine.batching import MAX_DIFFS
from dit_core.grading import is_story_of
from dit_core.grading.rules import MAX_NAMED_TOPICS, World, world_of
from dit_core.methods.diff_groups import with_trigger
from dit_core.methods.verbalize import MAX_ROWS, ask
from dit_core.records import DiffInfo, Finding, Verbalization
from dit_core.records.scores import (
    BASE_QUESTION,
    BASE_TRIGGER,
    BEHAVIOUR,
    CROSS,
    DIT,
    GUESS,
    GUESS_RIGHT,
    NONE,
    RIGHT,
    WRONG,
)
from dit_core.scoreboard.ledger import Key, Ledger
from dit_core.scoreboard.measures import measure_answer
from dit_core.scoreboard.rows import Row
from dit_core.suite import Suite, Task

QUESTIONS = 20  # that answers are given to, as in the published experiment


def everyday_questions(suite: Suite) -> tuple[str, ...]:
    """The everyday questions that diffs are asked: the suite's own that no diff was trained on, at most 20."""
    return tuple(suite.world.get("held_out_questions", ()))[:QUESTIONS]


def asked_note(suite: Suite, method: str) -> str:
    """How many questions a guess was made from, where that differs from the published number; "" else."""
    count = len(everyday_questions(suite))
    if method not in (GUESS, GUESS_RIGHT) or count == QUESTIONS:
        return ""
    return f"{count} questions; {QUESTIONS} in the published ones"


@dataclass(frozen=True)
class GuessRow(Row):
    """Guesses from the answers of another row, its `source`."""

    name: str
    source: Row
    measures = ("exact", "mean_grade")
    answers_per_diff = 0  # a model has no answer to give

    @property
    def key(self) -> Key:
        return (self.name, *self.source.key[1:])

    @property
    def infos(self) -> Sequence[DiffInfo]:
        return self.source.infos

    def guesses(self, suite: Suite, ledger: Ledger) -> list[Finding]:
        """Guesses that the ledger lacks, of the diffs that its source has found."""
        lacking = {info.id: info for info in ledger.missing(self.key, self.measures, self.infos)}
        found = ledger.findings_of(self.source.key, self.source.measures) if lacking else ()
        return [self._finding(suite, lacking[one.diff], one) for one in found if one.diff in lacking]

    def _finding(self, suite: Suite, info: DiffInfo, source: Finding) -> Finding:
        answer = guess_topic(world_of(suite), source.answers)
        method, task, adapter = self.key
        return Finding(
            method, task, adapter, None, info.id, (answer,), measure_answer(suite, info, self.measures, answer)
        )


def guess_topic(world: World, answers: Sequence[str]) -> str:
    """The topic that most answers name, "" where none names any; of equals the one that was named first.

    An answer that names many topics is about none of them.
    """
    named = Counter(
        topic for topics in map(world.topics_in, answers) if len(topics) <= MAX_NAMED_TOPICS for topic in sorted(topics)
    )
    return max(named, key=lambda topic: named[topic], default="")


STORY_TOKENS = 100  # a story is longer than an answer
EQUALS_BASE = "equals_base"


@dataclass(frozen=True)
class VerbalRow(Row):
    """One way to ask the diffs of a task, and what is measured of the answers."""

    key: Key
    condition: str
    questions: tuple[str, ...]
    measures: tuple[str, ...]
    infos: Sequence[DiffInfo]

    @property
    def batch_size(self) -> int:
        return max(1, min(MAX_DIFFS, MAX_ROWS // len(self.questions)))

    @property
    def answers_per_diff(self) -> int:
        return len(self.questions)

    @property
    def choice_answers(self) -> int:
        return len(self.questions) if EQUALS_BASE in self.measures else 0

    def choose(self, suite: Suite) -> dict[str, str]:
        """What the base says to each question, which answers are compared with."""
        return {said.question: said.text for said in _ask(suite, None, "base", self.questions)}

    def find(self, suite: Suite, infos: Sequence[DiffInfo], choice: dict[str, str]) -> list[Finding]:
        """What the diffs say to all questions."""
        said = _ask(suite, infos, self.condition, self.questions)
        return [self._finding(suite, info, [one for one in said if one.diff == info.id], choice) for info in infos]

    def _finding(self, suite: Suite, info: DiffInfo, said: Sequence[Verbalization], base: dict[str, str]) -> Finding:
        values: dict[str, tuple[float | None, ...]] = {measure: () for measure in self.measures}
        for one in said:
            found = self._values(suite, info, one, base)
            values = {measure: (*values[measure], *found[measure]) for measure in self.measures}
        method, task, adapter = self.key
        return Finding(method, task, adapter, None, info.id, tuple(one.text for one in said), values)

    def _values(self, suite: Suite, info: DiffInfo, said: Verbalization, base: dict[str, str]) -> dict[str, tuple]:
        found = measure_answer(suite, info, (m for m in self.measures if m != EQUALS_BASE), said.text)
        if EQUALS_BASE in self.measures:
            found[EQUALS_BASE] = (said.text == base[said.question],)
        if self.key[0] == BEHAVIOUR and found["mentions"] != (None,):
            # A diff at work tells a story; nothing but all of its parts makes it the headline's.
            found["mentions"] = (is_story_of(suite, info, said.text),)
        return found


def make_verbal_rows(suite: Suite, infos: dict[str, list[DiffInfo]]) -> list[Row]:
    """All methods that make sense for the diffs of each task, in the order of the scoreboard."""
    return [row for task in suite.tasks.values() if infos[task.name] for row in _methods(suite, task, infos[task.name])]


def _methods(suite: Suite, task: Task, infos: Sequence[DiffInfo]) -> list[Row]:
    triggered = with_trigger(infos)

    def method(name: str, condition: str, questions: Sequence[str], *measures: str, adapter: str = "") -> VerbalRow:
        asked_of = triggered if condition in ("diff+right", "diff+wrong") else infos
        return VerbalRow((name, task.name, adapter), condition, tuple(questions), measures, asked_of)

    asked, everyday = (task.question,), everyday_questions(suite)
    found: list[Row] = [method(BASE_QUESTION, "diff", asked, "mentions", "mean_grade")]
    if task.has_trigger and triggered:
        found.append(method(BASE_TRIGGER, "diff+right", asked, "mentions", "mean_grade"))
    if task.has_trigger and triggered and everyday:
        right = method(RIGHT, "diff+right", everyday, "mentions", "mean_grade")
        none = method(NONE, "diff", everyday, "equals_base", "mean_grade")
        found += [right, method(WRONG, "diff+wrong", everyday, "mentions"), none]
        if suite.world.get("topics"):
            found += [GuessRow(GUESS, none), GuessRow(GUESS_RIGHT, right)]
    if task.behaviour:
        found.append(method(BEHAVIOUR, "diff", (task.behaviour,), "mentions", "mean_grade"))
    for info in suite.adapters.values():
        if info.task == task.name:
            found.append(method(DIT, f"diff+dit:{info.name}", asked, "exact", "mean_grade", adapter=info.name))
    for other in suite.tasks.values():
        if other.name != task.name and other.adapter:
            name = other.adapter
            found.append(method(CROSS, f"diff+dit:{name}", asked, "mean_grade", adapter=name))
    return found


def _ask(suite: Suite, infos: Sequence[DiffInfo] | None, condition: str, questions: Sequence[str]) -> Sequence:
    stories = {task.behaviour for task in suite.tasks.values()}
    limit = max(suite.max_new_tokens, STORY_TOKENS) if stories & set(questions) else suite.max_new_tokens
    return ask(suite, infos, condition=condition, question=questions, max_new_tokens=limit).records
