"""The scoreboard's rows of methods that give several answers: the lens at a chosen place, others' surest answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from dit_core.engine.batching import MAX_DIFFS
from dit_core.grading import grade
from dit_core.methods import Method, Targets, list_methods, start
from dit_core.methods.diff_groups import diffs_of_split, with_reference
from dit_core.methods.lens import difference_lens
from dit_core.records import Answer, DiffInfo, Finding, LensToken
from dit_core.records.scores import ADL
from dit_core.scoreboard.ledger import Key
from dit_core.scoreboard.measures import measure_answer
from dit_core.scoreboard.rows import Row
from dit_core.suite import Suite


def measured_methods() -> tuple[Method[Any, Any], ...]:
    """Return the methods that the scoreboard and the audit report show by their answers, in rows of their own."""
    return tuple(method for method in list_methods() if method.measured and method.gives_answers)


def surest(answers: Sequence[Answer], diff: str) -> str:
    """Return the text of a diff's answer with the highest score, of equals the first; "" where there is none."""
    own = [answer for answer in answers if answer.diff == diff]
    return max(own, key=lambda answer: answer.score or 0.0).text if own else ""


@dataclass(frozen=True)
class MethodRow(Row):
    """A method on the diffs of a task, with its default options."""

    method: Method[Any, Any]
    task: str
    infos: Sequence[DiffInfo]
    measures = ("mentions", "mean_grade")

    @property
    def key(self) -> Key:
        return self.method.title, self.task, ""

    @property
    def batch_size(self) -> int:
        return MAX_DIFFS if self.method.many_diffs else 1

    def find(self, suite: Suite, infos: Sequence[DiffInfo], choice: dict[str, Any]) -> list[Finding]:
        """Run the method on some of the diffs, and measure the surest answer of each."""
        *_, table = start(self.method, suite, Targets(tuple(info.id for info in infos)))
        answers = self.method.answers(table)
        texts = {info: surest(answers, info.id) for info in infos}
        return [
            Finding(*self.key, None, info.id, (text,), measure_answer(suite, info, self.measures, text))
            for info, text in texts.items()
        ]


def make_method_rows(suite: Suite, infos: dict[str, list[DiffInfo]], method: Method[Any, Any]) -> list[MethodRow]:
    """Return a method's row for each task that has diffs; none where the suite lacks what it needs."""
    if method.unmet(suite, method.options()):
        return []
    return [MethodRow(method, task, own) for task, own in infos.items() if own]


# ---------------------------------------------------------------- the activation difference lens


TOP_TOKENS = 5  # tokens that make an answer
LENS_BATCH = 16  # diffs; each takes two passes over the texts
Place = tuple[str, int, int]  # method, layer, position
DiffPlace = tuple[str, str, int, int]  # diff, method, layer, position


@dataclass(frozen=True)
class LensRow(Row):
    """The likeliest tokens in each diff's mean activation difference, at one place."""

    task: str
    infos: Sequence[DiffInfo]
    calibration: Sequence[DiffInfo]
    measures = ("mentions", "mean_grade")
    batch_size = LENS_BATCH
    tokens = 290

    @property
    def key(self) -> Key:
        """Method, task and adapter of the row."""
        return ADL, self.task, ""

    @property
    def choice_answers(self) -> int:
        """The number of calibration diffs that the choice needs."""
        return len(self.calibration)

    def find(self, suite: Suite, infos: Sequence[DiffInfo], choice: dict[str, Any]) -> list[Finding]:
        """Return the tokens at the chosen place as answers."""
        tokens = difference_lens(suite, infos, layers=choice["layer"], methods=choice["method"], top=TOP_TOKENS)
        answers = _texts(token for token in tokens if token.position == choice["position"])
        return [self._finding(suite, info, choice, answers) for info in infos]

    def choose(self, suite: Suite) -> dict[str, Any]:
        """Return the place with the best mean grade on the calibration diffs; of equal ones the first."""
        method, layer, position = best_place(suite, difference_lens(suite, self.calibration, top=TOP_TOKENS))
        return {"method": method, "layer": layer, "position": position}

    def _finding(self, suite: Suite, info: DiffInfo, place: dict[str, Any], answers: dict[DiffPlace, str]) -> Finding:
        answer = answers.get((info.id, place["method"], place["layer"], place["position"]), "")
        return Finding(
            *self.key, place["layer"], info.id, (answer,), measure_answer(suite, info, self.measures, answer)
        )


def make_lens_rows(suite: Suite, infos: dict[str, list[DiffInfo]], limit: int | None) -> list[Row]:
    """Return a lens row for each task that has calibration diffs to choose the place on."""
    calibration = {task: with_reference(diffs_of_split(suite, task, "calibration")[:limit]) for task in suite.tasks}
    return [
        LensRow(task, measured, calibration[task]) for task, measured in infos.items() if measured and calibration[task]
    ]


def best_place(suite: Suite, tokens: Iterable[LensToken]) -> Place:
    """Return where the tokens of diffs with a known reference have the best mean grade; of equal places the first.

    The mean is over the diffs that have tokens at a place, so that more diffs make no place better.
    """
    grades: dict[Place, list[float]] = {}
    for (diff, method, layer, position), answer in _texts(tokens).items():
        grades.setdefault((method, layer, position), []).append(grade(suite, suite.diff(diff), answer) or 0)
    return max(grades, key=lambda place: fmean(grades[place]))


def _texts(tokens: Iterable[LensToken]) -> dict[DiffPlace, str]:
    """Return the tokens of each diff and place as one text, the likeliest first."""
    texts: dict[DiffPlace, list[str]] = {}
    for token in tokens:
        texts.setdefault((token.diff, token.method, token.layer, token.position), []).append(token.token.strip())
    return {place: " ".join(words) for place, words in texts.items()}
