"""How well a grader agrees with grades that were given: files of graded pairs, and the figures of agreement."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy

from dit_core.errors import DitError
from dit_core.grading.grades import GRADES, GradeResult
from dit_core.stats import auroc, spearman_correlation

COLUMNS = ("reference", "guess", "grade")
GOOD = 4  # the grade from which on an answer counts as right in `roc_area`


@dataclass(frozen=True)
class GradedPair:
    """A guess and the grade, 1 to 5, that it was given against a reference. Means of several grades are no whole."""

    reference: str
    guess: str
    grade: float


@dataclass(frozen=True)
class GraderAgreement:
    """Agreement over `n` pairs; a figure is None where it is not defined, as on equal grades.

    `spearman` (of ranks) and `mean_absolute_error` are of the grader's whole grades. `roc_area` is of its scores: how
    often a pair graded 4 or more gets a higher score than another. `confusion[given - 1][found - 1]` counts pairs, a
    given grade rounded to the nearest, a half to the lower.
    """

    n: int
    spearman: float | None
    mean_absolute_error: float
    roc_area: float | None
    confusion: tuple[tuple[int, ...], ...]


def read_graded(path: Path | str) -> list[GradedPair]:
    """The graded pairs of a CSV with the columns `reference`, `guess` and `grade`.

    Rows without a reference or a grade are left out: there is nothing to agree with.

    Raises:
        DitError: the file can't be read, lacks a column, holds no graded pair, or a grade that is none.
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
    found = [pair for pair in pairs if pair]
    if not found:
        raise DitError(f"'{path}' holds no graded pair: each row needs a reference, a guess and a grade.")
    return found


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


def grader_agreement(given: Sequence[float], marks: Sequence[GradeResult]) -> GraderAgreement:
    """Agreement of a grader's marks with the grades given, pair by pair; at least one."""
    asked = numpy.asarray(given, dtype=float)
    found = numpy.asarray([mark.grade for mark in marks], dtype=float)
    confusion = numpy.zeros((len(GRADES), len(GRADES)), dtype=int)
    for grade, mark in zip(given, marks, strict=True):
        confusion[ceil(grade - 0.5) - 1, mark.grade - 1] += 1
    return GraderAgreement(
        n=len(asked),
        spearman=spearman_correlation(asked, found),
        mean_absolute_error=float(abs(asked - found).mean()),
        roc_area=auroc([mark.score for mark in marks], asked >= GOOD),
        confusion=tuple(tuple(map(int, row)) for row in confusion),
    )
