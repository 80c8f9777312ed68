"""Grades from 1 (unrelated) to 5 (the same thing): the interface of all graders, and how they agree with given ones."""

import csv
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path

import numpy

from dit_core.errors import DitError
from dit_core.stats import auroc, logistic, quadratic_kappa, spearman_correlation

GRADES = (1, 2, 3, 4, 5)
COLUMNS = ("reference", "guess", "grade")
GOOD = 4  # the lowest grade of a right answer, for `roc_area`
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


@dataclass(frozen=True)
class GradedPair:
    """A guess and the grade, 1 to 5, that it was given against a reference; a mean of several may be a fraction."""

    reference: str
    guess: str
    grade: float


@dataclass(frozen=True)
class GraderAgreement:
    """Agreement over `n` pairs; a figure is None where it is not defined, as where all grades are equal.

    Attributes:
        n: number of pairs.
        spearman: rank correlation of the grader's whole grades with those given.
        mean_absolute_error: between the same, in grades.
        roc_area: area under the ROC curve of the grader's scores: how often a pair that was given 4 or more gets a
            higher score than another pair.
        quadratic_kappa: Cohen's kappa of the same rounded grades, weighted by the square of their distance.
        exact: share of pairs with the same rounded grade.
        within_one: share of pairs at most one grade apart.
        confusion: counts of pairs, `confusion[given - 1][grader's - 1]`; a given grade is rounded to the nearest, a
            half to the lower.
    """

    n: int
    spearman: float | None
    mean_absolute_error: float
    roc_area: float | None
    quadratic_kappa: float | None
    exact: float
    within_one: float
    confusion: tuple[tuple[int, ...], ...]


def read_graded(path: Path | str) -> list[GradedPair]:
    """Read the graded pairs of a CSV with the columns `reference`, `guess` and `grade`.

    Rows without a reference or a grade are left out.

    Raises:
        DitError: the file can't be read, lacks a column, holds no graded pair, or a grade that is not from 1 to 5.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
            columns = [name for name in reader.fieldnames or () if name]
    except FileNotFoundError as error:
        raise DitError(f"There is no file '{path}': give a CSV of graded pairs.") from error
    except (OSError, ValueError, csv.Error) as error:
        raise DitError(f"'{path}' can't be read as a CSV in UTF-8: {error}.") from error
    if missing := [name for name in COLUMNS if name not in columns]:
        raise DitError(
            f"'{path}' needs the columns {', '.join(COLUMNS)} in its first line, and lacks {' and '.join(missing)}."
        )
    pairs = [_pair(path, line, *((row[name] or "").strip() for name in COLUMNS)) for line, row in rows]
    graded = [pair for pair in pairs if pair]
    if not graded:
        raise DitError(f"'{path}' holds no graded pair: each row needs a reference, a guess and a grade.")
    return graded


def _pair(path: Path | str, line: int, reference: str, guess: str, grade: str) -> GradedPair | None:
    if not reference or not grade:
        return None
    try:
        value = float(grade)
    except ValueError:
        value = 0.0
    if not GRADES[0] <= value <= GRADES[-1]:
        raise DitError(f"'{path}', line {line}: a grade is a number from 1 to 5, and not '{grade}'.")
    return GradedPair(reference, guess, value)


def grader_agreement(grades: Sequence[float], results: Sequence[GradeResult]) -> GraderAgreement:
    """Return the agreement of a grader's results with the grades given, pair by pair; at least one pair."""
    given = numpy.asarray(grades, dtype=float)
    graded = numpy.asarray([result.grade for result in results], dtype=float)
    confusion = numpy.zeros((len(GRADES), len(GRADES)), dtype=int)
    for grade, result in zip(grades, results, strict=True):
        confusion[ceil(grade - 0.5) - 1, result.grade - 1] += 1
    apart = abs(numpy.subtract.outer(GRADES, GRADES))
    return GraderAgreement(
        n=len(given),
        spearman=spearman_correlation(given, graded),
        mean_absolute_error=float(abs(given - graded).mean()),
        roc_area=auroc([result.score for result in results], given >= GOOD),
        quadratic_kappa=quadratic_kappa(confusion),
        exact=float(confusion[apart == 0].sum() / len(given)),
        within_one=float(confusion[apart <= 1].sum() / len(given)),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
    )
