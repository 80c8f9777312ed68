"""The scoreboard's row of the activation difference lens: what unrelated texts give away, without any question.

Method, layer and position are chosen on the calibration diffs; what is graded are the likeliest tokens there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from dit_core.grading import grade
from dit_core.methods.diff_groups import known, of_split
from dit_core.methods.lens import difference_lens
from dit_core.records import DiffInfo, Finding, LensToken
from dit_core.records.method_names import ADL
from dit_core.scoreboard.ledger import Key
from dit_core.scoreboard.measures import measured
from dit_core.scoreboard.rows import Row
from dit_core.suite import Suite

TOP = 5  # tokens that are its answer
AT_ONCE = 16  # diffs: each takes two passes over the texts
Place = tuple[str, int, int]  # method, layer, position
DiffPlace = tuple[str, str, int, int]  # diff, method, layer, position


@dataclass(frozen=True)
class LensRow(Row):
    """The likeliest tokens in each diff's mean activation difference, at one place."""

    task: str
    infos: Sequence[DiffInfo]
    calibration: Sequence[DiffInfo]
    measures = ("mentions", "mean_grade")
    at_once = AT_ONCE
    tokens = 290

    @property
    def key(self) -> Key:
        return ADL, self.task, ""

    @property
    def choosing(self) -> int:
        return len(self.calibration)

    def find(self, suite: Suite, infos: Sequence[DiffInfo], choice: dict[str, Any]) -> list[Finding]:
        """Looks at the place that was chosen."""
        found = difference_lens(suite, infos, layers=choice["layer"], methods=choice["method"], top=TOP)
        said = _texts(one for one in found if one.position == choice["position"])
        return [self._finding(suite, info, choice, said) for info in infos]

    def choose(self, suite: Suite) -> dict[str, Any]:
        """The place with the best mean grade; of equals the first one."""
        method, layer, position = best_place(suite, difference_lens(suite, self.calibration, top=TOP))
        return {"method": method, "layer": layer, "position": position}

    def _finding(self, suite: Suite, info: DiffInfo, place: dict[str, Any], said: dict[DiffPlace, str]) -> Finding:
        answer = said.get((info.id, place["method"], place["layer"], place["position"]), "")
        return Finding(*self.key, place["layer"], info.id, (answer,), measured(suite, info, self.measures, answer))


def lens_rows(suite: Suite, infos: dict[str, list[DiffInfo]], limit: int | None) -> list[Row]:
    """A row of each task that has calibration diffs to choose the place on."""
    calibration = {task: known(of_split(suite, task, "calibration")[:limit]) for task in suite.tasks}
    return [LensRow(task, own, calibration[task]) for task, own in infos.items() if own and calibration[task]]


def best_place(suite: Suite, tokens: Iterable[LensToken]) -> Place:
    """Return where the tokens of diffs with a known reference have the best mean grade; of equals the first place.

    The mean is over the diffs that have tokens at a place: being shown of more diffs makes no place better.
    """
    grades: dict[Place, list[float]] = {}
    for (diff, method, layer, position), answer in _texts(tokens).items():
        grades.setdefault((method, layer, position), []).append(grade(suite, suite.diff(diff), answer) or 0)
    return max(grades, key=lambda place: fmean(grades[place]))


def _texts(tokens: Iterable[LensToken]) -> dict[DiffPlace, str]:
    """The tokens of each diff and place as one text, the likeliest first."""
    found: dict[DiffPlace, list[str]] = {}
    for token in tokens:
        found.setdefault((token.diff, token.method, token.layer, token.position), []).append(token.token.strip())
    return {place: " ".join(own) for place, own in found.items()}
