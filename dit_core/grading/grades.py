"""What all graders are: a reference and an answer in, a grade from 1 (unrelated) to 5 (the same thing) out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dit_core.stats import logistic

GRADES = (1, 2, 3, 4, 5)
Pair = tuple[str | None, str]
Progress = Callable[[int, int, str], object]
"""Told of progress: so many done, of so many, and what is being done."""


@dataclass(frozen=True)
class GradeResult:
    """What a grader gives an answer: a whole `grade`, and a `score` from 1 to 5 that also says how near to the next."""

    grade: int
    score: float


class Grader(ABC):
    """Marks pairs of a reference and an answer. All graders are used alike; `name` is the one on the command line."""

    name: str

    def grade_all(self, pairs: Sequence[Pair], progress: Progress = lambda *_: None) -> list[GradeResult | None]:
        """One mark per (reference, answer), in order. A blank answer gets 1; without a reference there is no mark.

        Raises:
            DitError: the grader lacks something (a package, a model, an endpoint), and what to do about it.
        """
        found: list[GradeResult | None] = [
            GradeResult(1, 1.0) if (reference or "").strip() else None for reference, _ in pairs
        ]
        asked = {
            place: (reference, answer)
            for place, (reference, answer) in enumerate(pairs)
            if reference and reference.strip() and answer.strip()
        }
        for at, mark in zip(asked, self._grade_all(list(asked.values()), progress), strict=True):
            found[at] = mark
        return found

    def grade(self, reference: str | None, answer: str) -> int | None:
        """The grade of one answer, 1 to 5; None without a reference."""
        [mark] = self.grade_all([(reference, answer)])
        return mark.grade if mark else None

    def score(self, reference: str | None, answer: str) -> float | None:
        """The score of one answer, 1 to 5; None without a reference."""
        [mark] = self.grade_all([(reference, answer)])
        return mark.score if mark else None

    @abstractmethod
    def _grade_all(self, pairs: Sequence[tuple[str, str]], progress: Progress) -> Sequence[GradeResult]:
        """One mark per pair; neither text is blank."""


@dataclass(frozen=True)
class Scale:
    """From the features of a pair to its mark: the grade is above k with chance sigmoid(weights · features - cuts[k]).

    The score is the mean grade under these chances, the grade the highest that is likelier reached than not.
    """

    weights: tuple[float, ...]
    cuts: tuple[float, ...]

    def mark(self, features: Sequence[float]) -> GradeResult:
        height = sum(weight * value for weight, value in zip(self.weights, features, strict=True))
        above = [float(logistic(height - cut)) for cut in self.cuts]
        return GradeResult(1 + sum(chance > 0.5 for chance in above), 1 + sum(above))


class Fitted(Grader):
    """A grader that measures features of a pair and reads the grade off a `scale`, which `grading.fit` fits."""

    scale: Scale

    @abstractmethod
    def features(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, ...]]:
        """What is measured of each pair."""

    def _grade_all(self, pairs: Sequence[tuple[str, str]], progress: Progress) -> list[GradeResult]:
        return [self.scale.mark(features) for features in self.features(pairs)] if pairs else []
