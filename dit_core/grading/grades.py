"""The interface of all graders: a reference and an answer in, a grade from 1 (unrelated) to 5 (the same thing) out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from dit_core.stats import logistic

GRADES = (1, 2, 3, 4, 5)
Pair = tuple[str | None, str]
Progress = Callable[[int, int, str], object]
"""A callback for progress: how many are done, of how many, and what is being done."""


@dataclass(frozen=True)
class GradeResult:
    """The result of grading one answer.

    Attributes:
        grade: a whole number from 1 (unrelated) to 5 (the same thing).
        score: a number from 1 to 5 that also tells answers of one grade apart.
        by: the grader that gave it; two results are equal whoever gave them.
    """

    grade: int
    score: float
    by: str = field(default="", compare=False)


class Grader(ABC):
    """Base class of graders of (reference, answer) pairs; `name` is the one used on the command line."""

    name: str

    def grade_all(self, pairs: Sequence[Pair], progress: Progress = lambda *_: None) -> list[GradeResult | None]:
        """Return one result per (reference, answer), in order; None without a reference. A blank answer gets 1.

        Raises:
            DitError: the grader lacks something (a package, a model, an endpoint); the error says what to do about it.
        """
        results: list[GradeResult | None] = [
            GradeResult(1, 1.0, self.name) if (reference or "").strip() else None for reference, _ in pairs
        ]
        gradable = {
            index: (reference, answer)
            for index, (reference, answer) in enumerate(pairs)
            if reference and reference.strip() and answer.strip()
        }
        for index, result in zip(gradable, self._grade_all(list(gradable.values()), progress), strict=True):
            results[index] = replace(result, by=result.by or self.name)
        return results

    def grade(self, reference: str | None, answer: str) -> int | None:
        """Return the grade of one answer, 1 to 5; None without a reference."""
        [result] = self.grade_all([(reference, answer)])
        return result.grade if result else None

    def score(self, reference: str | None, answer: str) -> float | None:
        """Return the score of one answer, 1 to 5; None without a reference."""
        [result] = self.grade_all([(reference, answer)])
        return result.score if result else None

    @abstractmethod
    def _grade_all(self, pairs: Sequence[tuple[str, str]], progress: Progress) -> Sequence[GradeResult]:
        """Return one result per pair; neither text is blank."""


@dataclass(frozen=True)
class Scale:
    """A map from the features of a pair to its grade: P(grade > k) = sigmoid(weights · features - cuts[k - 1]).

    The score is the mean grade under these probabilities; the grade is 1 and one more for each that is over 0.5.
    """

    weights: tuple[float, ...]
    cuts: tuple[float, ...]

    def grade(self, features: Sequence[float]) -> GradeResult:
        """Return the result for the features of one pair."""
        value = sum(weight * feature for weight, feature in zip(self.weights, features, strict=True))
        above = [float(logistic(value - cut)) for cut in self.cuts]
        return GradeResult(1 + sum(probability > 0.5 for probability in above), 1 + sum(above))


class Fitted(Grader):
    """A grader that measures features of a pair and maps them to a grade by a `scale`, which `grading.fit` fits."""

    scale: Scale

    @abstractmethod
    def features(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, ...]]:
        """Return the features of each pair."""

    def _grade_all(self, pairs: Sequence[tuple[str, str]], progress: Progress) -> list[GradeResult]:
        return [self.scale.grade(features) for features in self.features(pairs)] if pairs else []
