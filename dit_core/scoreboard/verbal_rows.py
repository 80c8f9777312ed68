"""The scoreboard's rows for what diffs say: with and without their trigger, and with DIT adapters of all kinds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dit_core.engine.batching import MAX_DIFFS
from dit_core.grading import is_story_of
from dit_core.grading.rules import MAX_NAMED_TOPICS, World, world_of
from dit_core.methods.diff_groups import with_trigger
from dit_core.methods.verbalize import ask
from dit_core.methods.verbalize.answers import MAX_ROWS
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

QUESTIONS = 20  # as many as in the published experiment


def everyday_questions(suite: Suite) -> tuple[str, ...]:
    """Return the everyday questions that diffs are asked: the suite's own that no diff was trained on, at most 20."""
    return tuple(suite.world.get("held_out_questions", ()))[:QUESTIONS]


def asked_note(suite: Suite, method: str) -> str:
    """Return a note on how many questions a guess was made from; "" where it is the published number."""
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
    answers_per_diff = 0  # no model is asked

    @property
    def key(self) -> Key:
        """Method, task and adapter of the row."""
        return (self.name, *self.source.key[1:])

    @property
    def infos(self) -> Sequence[DiffInfo]:
        """The diffs of the source row."""
        return self.source.infos

    def guesses(self, suite: Suite, ledger: Ledger) -> list[Finding]:
        """Return the guesses that the ledger lacks, about the diffs that `source` has answers of."""
        missing = {info.id: info for info in ledger.missing(self.key, self.measures, self.infos)}
        answered = ledger.findings_of(self.source.key, self.source.measures) if missing else ()
        return [self._finding(suite, missing[source.diff], source) for source in answered if source.diff in missing]

    def _finding(self, suite: Suite, info: DiffInfo, source: Finding) -> Finding:
        answer = guess_topic(world_of(suite), source.answers)
        method, task, adapter = self.key
        return Finding(
            method, task, adapter, None, info.id, (answer,), measure_answer(suite, info, self.measures, answer)
        )


def guess_topic(world: World, answers: Sequence[str]) -> str:
    """Return the topic that most answers name, "" where none names any; of equal ones the first named.

    An answer that names more than `MAX_NAMED_TOPICS` topics counts for none of them.
    """
    named = Counter(
        topic for topics in map(world.topics_in, answers) if len(topics) <= MAX_NAMED_TOPICS for topic in sorted(topics)
    )
    return max(named, key=lambda topic: named[topic], default="")


STORY_TOKENS = 100  # a story is longer than other answers
EQUALS_BASE = "equals_base"


@dataclass(frozen=True)
class VerbalRow(Row):
    """One way to ask the diffs of a task, and the measures of their answers."""

    key: Key
    condition: str
    questions: tuple[str, ...]
    measures: tuple[str, ...]
    infos: Sequence[DiffInfo]

    @property
    def batch_size(self) -> int:
        """Diffs per batch: fewer where there are many questions."""
        return max(1, min(MAX_DIFFS, MAX_ROWS // len(self.questions)))

    @property
    def answers_per_diff(self) -> int:
        """The number of questions."""
        return len(self.questions)

    @property
    def choice_answers(self) -> int:
        """The number of base answers that the choice needs."""
        return len(self.questions) if EQUALS_BASE in self.measures else 0

    def choose(self, suite: Suite) -> dict[str, str]:
        """Return the base's answer to each question, which the diffs' answers are compared with."""
        return {answer.question: answer.text for answer in _ask(suite, None, "base", self.questions)}

    def find(self, suite: Suite, infos: Sequence[DiffInfo], choice: dict[str, str]) -> list[Finding]:
        """Return the diffs' answers to all questions."""
        answers = _ask(suite, infos, self.condition, self.questions)
        return [
            self._finding(suite, info, [answer for answer in answers if answer.diff == info.id], choice)
            for info in infos
        ]

    def _finding(self, suite: Suite, info: DiffInfo, answers: Sequence[Verbalization], base: dict[str, str]) -> Finding:
        values: dict[str, tuple[float | None, ...]] = {measure: () for measure in self.measures}
        for answer in answers:
            new = self._values(suite, info, answer, base)
            values = {measure: (*values[measure], *new[measure]) for measure in self.measures}
        method, task, adapter = self.key
        return Finding(method, task, adapter, None, info.id, tuple(answer.text for answer in answers), values)

    def _values(self, suite: Suite, info: DiffInfo, answer: Verbalization, base: dict[str, str]) -> dict[str, tuple]:
        values = measure_answer(suite, info, (m for m in self.measures if m != EQUALS_BASE), answer.text)
        if EQUALS_BASE in self.measures:
            values[EQUALS_BASE] = (answer.text == base[answer.question],)
        if self.key[0] == BEHAVIOUR and values["mentions"] != (None,):
            # The diff writes a story here: it is the headline's only where all of its parts are in it.
            values["mentions"] = (is_story_of(suite, info, answer.text),)
        return values


def make_verbal_rows(suite: Suite, infos: dict[str, list[DiffInfo]]) -> list[Row]:
    """Return the rows of all methods that suit the diffs of each task, in the order of the scoreboard."""
    return [row for task in suite.tasks.values() if infos[task.name] for row in _methods(suite, task, infos[task.name])]


def _methods(suite: Suite, task: Task, infos: Sequence[DiffInfo]) -> list[Row]:
    triggered = with_trigger(infos)

    def method(name: str, condition: str, questions: Sequence[str], *measures: str, adapter: str = "") -> VerbalRow:
        asked_of = triggered if condition in ("diff+right", "diff+wrong") else infos
        return VerbalRow((name, task.name, adapter), condition, tuple(questions), measures, asked_of)

    own_question, everyday = (task.question,), everyday_questions(suite)
    rows: list[Row] = [method(BASE_QUESTION, "diff", own_question, "mentions", "mean_grade")]
    if task.has_trigger and triggered:
        rows.append(method(BASE_TRIGGER, "diff+right", own_question, "mentions", "mean_grade"))
    if task.has_trigger and triggered and everyday:
        right = method(RIGHT, "diff+right", everyday, "mentions", "mean_grade")
        none = method(NONE, "diff", everyday, "equals_base", "mean_grade")
        rows += [right, method(WRONG, "diff+wrong", everyday, "mentions"), none]
        if suite.world.get("topics"):
            rows += [GuessRow(GUESS, none), GuessRow(GUESS_RIGHT, right)]
    if task.behaviour:
        rows.append(method(BEHAVIOUR, "diff", (task.behaviour,), "mentions", "mean_grade"))
    for info in suite.adapters.values():
        if info.task == task.name:
            rows.append(method(DIT, f"diff+dit:{info.name}", own_question, "exact", "mean_grade", adapter=info.name))
    for other in suite.tasks.values():
        if other.name != task.name and other.adapter:
            name = other.adapter
            rows.append(method(CROSS, f"diff+dit:{name}", own_question, "mean_grade", adapter=name))
    return rows


def _ask(suite: Suite, infos: Sequence[DiffInfo] | None, condition: str, questions: Sequence[str]) -> Sequence:
    stories = {task.behaviour for task in suite.tasks.values()}
    limit = max(suite.max_new_tokens, STORY_TOKENS) if stories & set(questions) else suite.max_new_tokens
    return ask(suite, infos, condition=condition, question=questions, max_new_tokens=limit).records
