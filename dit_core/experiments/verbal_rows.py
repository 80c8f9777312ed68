"""The scoreboard's rows of what diffs say: with and without their trigger, with DIT adapters of all kinds."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dit_core.batching import MAX_DIFFS
from dit_core.experiments.measures import MEASURES, scored
from dit_core.experiments.progress import Tally
from dit_core.experiments.published import BASE_QUESTION, BEHAVIOUR, CROSS, DIT, NONE, RIGHT, WRONG
from dit_core.grading import story_of
from dit_core.records import DiffInfo, Score, Verbalization
from dit_core.suite import Suite, Task
from dit_core.verbalize import MAX_ROWS, ask

STORY_TOKENS = 100  # a story is longer than an answer


@dataclass(frozen=True)
class Method:
    """One way to ask the diffs of a task, and what is measured of the answers."""

    name: str
    task: str
    adapter: str
    condition: str
    questions: tuple[str, ...]
    measures: tuple[str, ...]

    def answers(self, infos: Sequence[DiffInfo]) -> int:
        """How many answers it takes from so many diffs."""
        return len(infos) * len(self.questions)

    def scores(self, suite: Suite, infos: Sequence[DiffInfo], tally: Tally) -> Iterator[Score]:
        """Asks the diffs; one row per measure."""
        base, said = _base_answers(suite, self), []
        for part in _parts(infos, self):
            tally.at(" ".join(filter(None, (self.task, self.name, self.adapter))))
            said += _ask(suite, part, self.condition, self.questions)
            tally.add(self.answers(part))
        diffs = [one.diff for one in said]
        for measure in self.measures:
            values = [_value(suite, self, measure, one, base) for one in said]
            yield scored(self.name, self.task, self.adapter, measure, diffs, values)


def methods(suite: Suite) -> list[Method]:
    """All methods that make sense for a suite, in the order of the scoreboard."""
    return [method for task in suite.tasks.values() for method in _methods(suite, task)]


def _methods(suite: Suite, task: Task) -> list[Method]:
    asked, everyday = (task.question,), tuple(suite.world.get("held_out_questions", ()))
    found = [Method(BASE_QUESTION, task.name, "", "diff", asked, ("mentions", "mean_grade"))]
    if task.has_trigger and everyday:
        found += [
            Method(RIGHT, task.name, "", "diff+right", everyday, ("mentions", "mean_grade")),
            Method(WRONG, task.name, "", "diff+wrong", everyday, ("mentions",)),
            Method(NONE, task.name, "", "diff", everyday, ("equals_base", "mean_grade")),
        ]
    if task.behaviour:
        found.append(Method(BEHAVIOUR, task.name, "", "diff", (task.behaviour,), ("mentions", "mean_grade")))
    own = [info.name for info in suite.adapters.values() if info.task == task.name]
    found += [Method(DIT, task.name, name, f"diff+dit:{name}", asked, ("exact", "mean_grade")) for name in own]
    others = [other.adapter for other in suite.tasks.values() if other.name != task.name]
    return found + [Method(CROSS, task.name, name, f"diff+dit:{name}", asked, ("mean_grade",)) for name in others]


def _ask(suite: Suite, infos: Sequence[DiffInfo] | None, condition: str, questions: Sequence[str]) -> Sequence:
    stories = {task.behaviour for task in suite.tasks.values()}
    limit = max(suite.max_new_tokens, STORY_TOKENS) if stories & set(questions) else suite.max_new_tokens
    return ask(suite, infos, condition=condition, question=questions, max_new_tokens=limit).records


def _base_answers(suite: Suite, method: Method) -> dict[str, str]:
    if "equals_base" not in method.measures:
        return {}
    return {said.question: said.text for said in _ask(suite, None, "base", method.questions)}


def _parts(infos: Sequence[DiffInfo], method: Method) -> list[Sequence[DiffInfo]]:
    """Diffs by the batch, so that progress is told in between."""
    size = max(1, min(MAX_DIFFS, MAX_ROWS // len(method.questions)))
    return [infos[start : start + size] for start in range(0, len(infos), size)]


def _value(suite: Suite, method: Method, measure: str, said: Verbalization, base: dict[str, str]) -> float:
    if measure == "equals_base":
        return said.text == base[said.question]
    # A diff at work tells a story; nothing but all of its parts makes it the headline's.
    judge = story_of if method.name == BEHAVIOUR and measure == "mentions" else MEASURES[measure]
    return judge(suite, suite.diff(said.diff), said.text)
