"""Fits a grader's scale to graded pairs: `python -m dit_core.grading.fit FILE... [--grader rules|embedding]`.

The scale is fitted to all pairs, every file weighing the same. How it does on references that it never saw is measured
by splits: fitted on a random half of each file's references, reported on the other half, many times over.
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
RIDGE = 1e-4  # keeps weights finite where a feature parts the grades without a fault


def fit_scale(features: numpy.ndarray, grades: numpy.ndarray, weights: numpy.ndarray) -> Scale:
    """The scale under which the grades are likeliest: features [pairs, features], grades and weights [pairs].

    One logistic regression answers all of "above 1?" to "above 4?" with common weights. A grade between two, a mean
    of several, is above the lower one in part.
    """
    cuts = len(GRADES) - 1
    above = numpy.clip(grades[:, None] - GRADES[:-1], 0, 1).ravel()
    rows = numpy.hstack([features.repeat(cuts, axis=0), -numpy.tile(numpy.eye(cuts), (len(grades), 1))])
    weights = (weights / weights.sum()).repeat(cuts)
    found = fit_logistic(rows, above, RIDGE, weights)
    return Scale(tuple(map(float, found[:-cuts])), tuple(map(float, found[-cuts:])))


class File:
    """The graded pairs of a file and what a grader measures of them."""

    def __init__(self, path: str, grader: Fitted) -> None:
        self.path, self.pairs = path, read_graded(path)
        self.grades = numpy.array([pair.grade for pair in self.pairs])
        self.features = numpy.array(grader.features([(pair.reference, pair.guess) for pair in self.pairs]))

    def half(self, seed: int) -> numpy.ndarray:
        """Which pairs are of a random half of the references: [pairs] of bool."""
        references = sorted({pair.reference for pair in self.pairs})
        if len(references) < 2:
            raise DitError(f"'{self.path}' has one reference only: to fit on some and report on others takes two.")
        drawn = set(random.Random(seed).sample(references, len(references) // 2))
        return numpy.array([pair.reference in drawn for pair in self.pairs])

    def figures(self, scale: Scale, chosen: numpy.ndarray) -> list[float | None]:
        """Agreement on the chosen pairs."""
        found = grader_agreement(self.grades[chosen], [scale.mark(features) for features in self.features[chosen]])
        return [getattr(found, name) for name in FIGURES]


def over(files: Sequence[File], chosen: Sequence[numpy.ndarray]) -> Scale:
    """The scale fitted to the chosen pairs of each file."""
    return fit_scale(
        numpy.concatenate([file.features[pairs] for file, pairs in zip(files, chosen, strict=True)]),
        numpy.concatenate([file.grades[pairs] for file, pairs in zip(files, chosen, strict=True)]),
        numpy.concatenate([numpy.full(pairs.sum(), 1 / pairs.sum()) for pairs in chosen]),
    )


def held_out(files: Sequence[File], seed: int) -> list[list[float | None]]:
    """Per file, the figures on one half of its references under the scale fitted to the other half."""
    halves = [file.half(seed) for file in files]
    scale = over(files, halves)
    return [file.figures(scale, ~half) for file, half in zip(files, halves, strict=True)]


def main(
    paths: Annotated[list[str], typer.Argument(metavar="FILE...", help="CSVs with columns reference, guess, grade.")],
    grader: Annotated[str, typer.Option(help="rules or embedding.")] = "rules",
    model: Annotated[str | None, typer.Option(help="Of the embedding grader.")] = None,
    splits: Annotated[int, typer.Option(help="How many splits to report on: seeds 0 and up.")] = 20,
) -> None:
    """Prints the fitted scale, and mean and spread of the agreement on held-out references."""
    if grader == "judge":
        raise DitError("A judge has no scale to fit: choose rules or embedding.")
    measured = grader_of(grader, model=model)
    assert isinstance(measured, Fitted), "as all graders but a judge are"
    files = [File(path, measured) for path in paths]
    print(over(files, [numpy.ones(len(file.pairs), dtype=bool) for file in files]))
    # [splits, files, figures]; a figure that is not defined somewhere is nan throughout.
    found = numpy.array([held_out(files, seed) for seed in range(splits)], dtype=float)
    for file, means, spreads in zip(files, found.mean(0), found.std(0), strict=True):
        print(f"{file.path}: {len(file.pairs)} pairs, held-out halves:")
        for name, mean, spread in zip(FIGURES, means, spreads, strict=True):
            print(f"  {name} {mean:.3f} ± {spread:.3f}")


if __name__ == "__main__":
    try:
        typer.run(main)
    except DitError as error:
        sys.exit(f"Error: {error}")
