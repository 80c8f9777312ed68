"""Fits a grader's scale to graded pairs: `python -m dit_core.grading.fit FILE... [--grader rules|embedding]`.

The scale is fitted to all pairs, with equal weight for every file. Its accuracy on unseen references is measured by
random splits: fitted on half of each file's references, reported on the other half.
"""

import random
import sys
from collections.abc import Sequence
from typing import Annotated

import numpy
import typer

from dit_core.errors import DitError
from dit_core.grading import grader as grader_of
from dit_core.grading.agreement import grader_agreement, read_graded
from dit_core.grading.grades import GRADES, Fitted, Scale
from dit_core.stats import fit_logistic

FIGURES = ("spearman", "mean_absolute_error", "roc_area")
RIDGE = 1e-4  # keeps weights finite where a feature separates the grades perfectly


def fit_scale(features: numpy.ndarray, grades: numpy.ndarray, weights: numpy.ndarray) -> Scale:
    """Return the scale of highest likelihood: features [pairs, features], grades and weights [pairs].

    An ordinal logistic regression: one fit answers "above 1?" to "above 4?" with common feature weights. A grade that
    is no whole number, a mean of several, counts as above the lower one in part.
    """
    cuts = len(GRADES) - 1
    above = numpy.clip(grades[:, None] - GRADES[:-1], 0, 1).ravel()
    rows = numpy.hstack([features.repeat(cuts, axis=0), -numpy.tile(numpy.eye(cuts), (len(grades), 1))])
    weights = (weights / weights.sum()).repeat(cuts)
    coefficients = fit_logistic(rows, above, RIDGE, weights)
    return Scale(tuple(map(float, coefficients[:-cuts])), tuple(map(float, coefficients[-cuts:])))


class GradedFile:
    """The graded pairs of a file, and a grader's features of them."""

    def __init__(self, path: str, grader: Fitted) -> None:
        self.path, self.pairs = path, read_graded(path)
        self.grades = numpy.array([pair.grade for pair in self.pairs])
        self.features = numpy.array(grader.features([(pair.reference, pair.guess) for pair in self.pairs]))

    def half(self, seed: int) -> numpy.ndarray:
        """Return which pairs belong to a random half of the references: [pairs] of bool.

        Raises:
            DitError: the file has only one reference.
        """
        references = sorted({pair.reference for pair in self.pairs})
        if len(references) < 2:
            raise DitError(f"'{self.path}' has one reference only: to fit on some and report on others takes two.")
        drawn = set(random.Random(seed).sample(references, len(references) // 2))
        return numpy.array([pair.reference in drawn for pair in self.pairs])

    def figures(self, scale: Scale, chosen: numpy.ndarray) -> list[float | None]:
        """Return the agreement on the chosen pairs ([pairs] of bool), in the order of `FIGURES`."""
        agreement = grader_agreement(self.grades[chosen], [scale.grade(features) for features in self.features[chosen]])
        return [getattr(agreement, name) for name in FIGURES]


def fit_files(files: Sequence[GradedFile], chosen: Sequence[numpy.ndarray]) -> Scale:
    """Return the scale fitted to the chosen pairs of each file, with equal weight for every file."""
    return fit_scale(
        numpy.concatenate([file.features[pairs] for file, pairs in zip(files, chosen, strict=True)]),
        numpy.concatenate([file.grades[pairs] for file, pairs in zip(files, chosen, strict=True)]),
        numpy.concatenate([numpy.full(pairs.sum(), 1 / pairs.sum()) for pairs in chosen]),
    )


def held_out_figures(files: Sequence[GradedFile], seed: int) -> list[list[float | None]]:
    """Return, per file, the figures on one half of its references under the scale fitted to the other half."""
    halves = [file.half(seed) for file in files]
    scale = fit_files(files, halves)
    return [file.figures(scale, ~half) for file, half in zip(files, halves, strict=True)]


def main(
    paths: Annotated[list[str], typer.Argument(metavar="FILE...", help="CSVs with columns reference, guess, grade.")],
    grader: Annotated[str, typer.Option(help="rules or embedding.")] = "rules",
    model: Annotated[str | None, typer.Option(help="Of the embedding grader.")] = None,
    splits: Annotated[int, typer.Option(help="How many splits to report on: seeds 0 and up.")] = 20,
) -> None:
    """Print the fitted scale, and mean and standard deviation of the agreement on held-out references."""
    if grader == "judge":
        raise DitError("A judge has no scale to fit: choose rules or embedding.")
    fitted = grader_of(grader, model=model)
    assert isinstance(fitted, Fitted), "as all graders but a judge are"
    files = [GradedFile(path, fitted) for path in paths]
    print(fit_files(files, [numpy.ones(len(file.pairs), dtype=bool) for file in files]))
    # [splits, files, figures]; a figure that is not defined for one split is nan for all.
    figures = numpy.array([held_out_figures(files, seed) for seed in range(splits)], dtype=float)
    for file, means, spreads in zip(files, figures.mean(0), figures.std(0), strict=True):
        print(f"{file.path}: {len(file.pairs)} pairs, held-out halves:")
        for name, mean, spread in zip(FIGURES, means, spreads, strict=True):
            print(f"  {name} {mean:.3f} ± {spread:.3f}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except DitError as error:
        sys.exit(f"Error: {error}")
