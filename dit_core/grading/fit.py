"""Fits what graders need to graded pairs and to a model of sentences.

`python -m dit_core.grading.fit scale FILE... [--grader rules|learned|smol|embedding]` fits a grader's scale to all
pairs, with equal weight for every file, and reports its agreement with pairs whose references it was not fitted on.
`python -m dit_core.grading.fit vectors FOLDER` makes the learned grader's vectors of a sentence-embedding model, and
`centre FILE...` the mean state of smol's base over the texts of graded pairs.
"""

import json
import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy
import typer

from dit_core.errors import DitError
from dit_core.grading import grader as grader_of
from dit_core.grading.embedding import CENTRE, SMOL, VECTORS, read_smol
from dit_core.grading.grades import (
    GRADES,
    Fitted,
    GradedPair,
    GraderAgreement,
    GradeResult,
    Scale,
    grader_agreement,
    read_graded,
)
from dit_core.stats import Interval, cluster_bootstrap_intervals, fit_logistic

FIGURES = ("spearman", "mean_absolute_error", "roc_area", "quadratic_kappa", "exact", "within_one")
RIDGE = 1e-4  # keeps weights finite where a feature separates the grades perfectly
FOLDS = 10
RESAMPLES = 500


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

    def folds(self, seed: int = 0) -> numpy.ndarray:
        """Return the fold of each pair, 0 to `FOLDS` - 1: [pairs]. All pairs of a reference are in one fold.

        Raises:
            DitError: the file has only one reference.
        """
        references = sorted({pair.reference for pair in self.pairs})
        if len(references) < 2:
            raise DitError(f"'{self.path}' has one reference only: to fit on some and report on others takes two.")
        random.Random(seed).shuffle(references)
        fold = {reference: place % min(FOLDS, len(references)) for place, reference in enumerate(references)}
        return numpy.array([fold[pair.reference] for pair in self.pairs])


def fit_files(files: Sequence[GradedFile], chosen: Sequence[numpy.ndarray]) -> Scale:
    """Return the scale fitted to the chosen pairs of each file, with equal weight for every file."""
    return fit_scale(
        numpy.concatenate([file.features[pairs] for file, pairs in zip(files, chosen, strict=True)]),
        numpy.concatenate([file.grades[pairs] for file, pairs in zip(files, chosen, strict=True)]),
        numpy.concatenate([numpy.full(pairs.sum(), 1 / pairs.sum()) for pairs in chosen]),
    )


def held_out_results(files: Sequence[GradedFile]) -> list[list[GradeResult]]:
    """Return, per file, the results of all its pairs, each by a scale fitted without its fold of references."""
    folds = [file.folds() for file in files]
    scales = [
        fit_files(files, [fold != left_out for fold in folds]) for left_out in range(max(map(numpy.max, folds)) + 1)
    ]
    return [
        [scales[fold].grade(features) for fold, features in zip(of_file, file.features, strict=True)]
        for file, of_file in zip(files, folds, strict=True)
    ]


def intervals(pairs: Sequence[GradedPair], results: Sequence[GradeResult]) -> list[Interval | None]:
    """Return the 95 % interval of each of `FIGURES`, bootstrapped over references."""

    def figure(name: str, places: numpy.ndarray) -> float | None:
        agreement = grader_agreement([pairs[place].grade for place in places], [results[place] for place in places])
        value: float | None = getattr(agreement, name)
        return value

    statistics = [lambda places, name=name: figure(name, places) for name in FIGURES]
    references = [pair.reference for pair in pairs]
    return cluster_bootstrap_intervals(statistics, references, numpy.arange(len(pairs)), resamples=RESAMPLES)


def print_agreement(title: str, agreement: GraderAgreement, bounds: Sequence[Interval | None]) -> None:
    """Print an agreement's figures with their intervals, and its confusion."""
    print(f"{title}: {agreement.n} pairs, 95 % intervals over references")
    for name, interval in zip(FIGURES, bounds, strict=True):
        value = getattr(agreement, name)
        shown = "not defined" if value is None else f"{value:.3f}"
        print(f"  {name} {shown}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""))
    print("  given (rows) and found (columns), 1 to 5:")
    for row in agreement.confusion:
        print("   " + "".join(f"{count:6d}" for count in row))


def scale(
    paths: Annotated[list[str], typer.Argument(metavar="FILE...", help="CSVs with columns reference, guess, grade.")],
    grader: Annotated[str, typer.Option(help="rules, learned, smol or embedding.")] = "rules",
    model: Annotated[str | None, typer.Option(help="Of the embedding grader.")] = None,
) -> None:
    """Print the fitted scale, and the agreement on references that a scale was not fitted on, in ten folds."""
    if grader == "judge":
        raise DitError("A judge has no scale to fit: choose rules, learned, smol or embedding.")
    fitted = grader_of(grader, model=model)
    assert isinstance(fitted, Fitted), "as all graders but a judge are"
    files = [GradedFile(path, fitted) for path in paths]
    print(fit_files(files, [numpy.ones(len(file.pairs), dtype=bool) for file in files]))
    for file, results in zip(files, held_out_results(files), strict=True):
        print_agreement(file.path, grader_agreement(file.grades.tolist(), results), intervals(file.pairs, results))


DIMENSIONS = 128
COMMON_DIRECTIONS = 2  # the strongest, in which nearly all pieces point: they blur cosines


def word_vectors(states: numpy.ndarray) -> numpy.ndarray:
    """Return vectors of pieces, [pieces, `DIMENSIONS`], from the model's: [pieces, d], the commonest piece first.

    Principal components without the first `COMMON_DIRECTIONS` (Mu & Viswanath, 2018), times the logarithm of the place:
    the rarer, the longer, as in Model2Vec (2024).
    """
    centred = states - states.mean(axis=0)
    _, directions = numpy.linalg.eigh(centred.T @ centred)  # the strongest last
    kept = directions[:, ::-1][:, COMMON_DIRECTIONS : COMMON_DIRECTIONS + DIMENSIONS]
    return (centred @ kept) * numpy.log(2 + numpy.arange(len(states)))[:, None]


def vectors(
    folder: Annotated[Path, typer.Argument(help="A BERT-like model of sentences, as all-MiniLM-L6-v2.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = VECTORS,
) -> None:
    """Write the learned grader's vectors: what the model makes of each of its word pieces alone, in 8 bits."""
    import torch
    from safetensors.numpy import save_file
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    pieces = [(piece, token) for piece, token in vocabulary if re.fullmatch(r"(##)?[a-z0-9]+", piece)]
    ends = tokenizer.cls_token_id, tokenizer.sep_token_id
    states = []
    with torch.inference_mode():
        for start in range(0, len(pieces), 512):
            batch = torch.tensor([[ends[0], token, ends[1]] for _, token in pieces[start : start + 512]])
            states.append(model(input_ids=batch).last_hidden_state.mean(dim=1).numpy())
    rows = word_vectors(numpy.concatenate(states))
    steps = abs(rows).max(axis=1, keepdims=True) / 127
    tensors = {"rows": numpy.rint(rows / steps).astype(numpy.int8), "scale": steps.astype(numpy.float16)}
    save_file(tensors, out, metadata={"pieces": json.dumps([piece for piece, _ in pieces]), "model": folder.name})


def centre(
    paths: Annotated[list[str], typer.Argument(metavar="FILE...", help="CSVs with columns reference, guess, grade.")],
    out: Annotated[Path, typer.Option(help="The file to write.")] = CENTRE,
) -> None:
    """Write the mean state of smol's base over the distinct texts of graded pairs."""
    from safetensors.numpy import save_file

    texts = {text for path in paths for pair in read_graded(path) for text in (pair.reference, pair.guess)}
    save_file({"centre": read_smol(SMOL.folder).encode(sorted(texts)).mean(axis=0)}, out)


if __name__ == "__main__":
    app = typer.Typer(help=__doc__, add_completion=False)
    app.command()(scale)
    app.command()(vectors)
    app.command()(centre)
    try:
        app()
    except DitError as error:
        sys.exit(f"Error: {error}")
