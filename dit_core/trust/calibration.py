"""From evidence to a probability that the answer is right: a logistic curve, fitted on the calibration diffs alone.

Kept with a suite, one file for the answers of its DIT adapters and one for its oracle's readings, with the digests
of the adapters that it was fitted and measured on: it does not hold for others.
"""

import hashlib
import json
from collections.abc import Sequence
from math import log
from pathlib import Path
from typing import Annotated

import numpy
from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from dit_core.errors import DitError
from dit_core.hub import BaseSource, PackagedBase, Source, parse_source
from dit_core.records import DiffInfo, Reliability, Table
from dit_core.request.conditions import question_of
from dit_core.stats import fit_logistic, logistic
from dit_core.suite import Suite
from dit_core.trust.evidence import Evidence

ANSWERS, READINGS = "answers", "readings"
FILES = {ANSWERS: "calibration.json", READINGS: "oracle-calibration.json"}
ORACLE = "(oracle)"  # beside the names of DIT adapters, none of which has brackets
TRAIN = "train"  # the split of what DIT adapters were trained on
MAX_LIFT = 8.0  # nats (3,000 times likelier): more says no more, by the calibration diffs
PENALTY = 1.0  # on the squared weights of standardised features: little beside a few hundred examples


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class Weights(_Stored):
    """Weights of the evidence: a constant, and those of the answer's share of the samples and of its lift."""

    constant: float
    share: float
    lift: float

    def probability(self, evidence: Evidence) -> float:
        """Return the probability that the answer is right."""
        share, lift = _features(evidence)
        return float(logistic(self.constant + self.share * share + self.lift * lift))


class Recipe(_Stored):
    """How a calibration was fitted.

    Attributes:
        trials: answers of the diffs of `split`, `right` of which are right.
        by: what gave them: DIT adapters, or ways of reading.
        layers: those at which an oracle was read.
    """

    date: str
    samples: int
    split: str
    trials: int
    right: int
    by: list[str] = Field(validation_alias=AliasChoices("by", "adapters"))
    layers: list[int] = []


def _checked_bins(row: Reliability) -> Reliability:
    """Return a row of a report; ValueError where its bins can't be drawn."""
    if not all(bin["n"] >= 1 and 0 <= bin["probability"] <= 1 and 0 <= bin["right"] <= 1 for bin in row.bins):
        raise ValueError("a bin is no bin")
    return row


class Calibration(_Stored):
    """A calibration as its file holds it.

    Attributes:
        adapters: a digest of each adapter that it holds for, by name.
        report: what was measured of it on the diffs of `split`.
    """

    weights: Weights
    adapters: dict[str, str]
    recipe: Recipe
    split: str
    report: list[Annotated[Reliability, AfterValidator(_checked_bins)]]

    def table(self, suite: Suite, of: str) -> Table[Reliability]:
        """Return the report as a table."""
        extra = {"of": of, "split": self.split, "recipe": self.recipe.model_dump()}
        return suite.table("reliability", self.report, extra)


def fit_weights(evidence: Sequence[Evidence], right: Sequence[bool]) -> Weights:
    """Fit the weights by ridge-penalised logistic regression (as Platt scaling, 1999, but of two features).

    Raises:
        DitError: there is no evidence.
    """
    if not evidence:
        raise DitError("A calibration needs diffs of the split 'calibration', and this suite has none.")
    features, truth = numpy.array([_features(own) for own in evidence]), numpy.array(right, dtype=float)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    X = numpy.c_[(features - mean) / spread, numpy.ones(len(truth))]
    weights = fit_logistic(X, truth, [PENALTY, PENALTY, 0.01])
    share, lift = weights[:2] / spread
    constant = float(weights[2] - (weights[:2] / spread * mean).sum())
    return Weights(constant=constant, share=float(share), lift=float(lift))


def read_calibration(suite: Suite, of: str = ANSWERS) -> Calibration:
    """Read the suite's calibration of answers or readings, whatever adapters it was made with.

    Raises:
        DitError: there is none, or it can't be read.
    """
    try:
        return Calibration.model_validate_json(_path(suite, of).read_bytes())
    except FileNotFoundError as error:
        raise DitError(f"The suite '{suite.name}' has no calibration of {of} yet: {_remedy(suite, of)}.") from error
    except (OSError, ValidationError, KeyError, TypeError) as error:
        raise DitError(f"The suite's '{FILES[of]}' can't be read: {_remedy(suite, of)}.") from error


def valid_calibration(suite: Suite, *adapters: str, of: str = ANSWERS) -> Calibration:
    """Read the suite's calibration if it holds for these adapters as they are: DIT adapters, or `ORACLE`.

    By default for all that it was made with.

    Raises:
        DitError: the suite has none, it can't be read, or it was made with others.
    """
    calibration = read_calibration(suite, of)
    for name in adapters or calibration.adapters:
        if calibration.adapters.get(name) != adapter_digest(suite, name):
            oracle = suite.oracle if name == ORACLE else None
            what = f"oracle than '{oracle.title}'" if oracle else f"DIT adapter than this '{name}'"
            raise DitError(f"The suite's calibration of {of} was made with another {what}: {_remedy(suite, of)}.")
    return calibration


def measured_reliability(suite: Suite, of: str = ANSWERS) -> Table[Reliability]:
    """Return what was measured of the suite's calibration; DitError where none holds for its adapters as they are."""
    return valid_calibration(suite, of=of).table(suite, of)


def calibrated_probability(
    suite: Suite, info: DiffInfo, evidence: Evidence, *adapters: str, of: str = ANSWERS
) -> float:
    """Return the probability that an answer about a diff is right, where `adapters` act: DIT adapters, or `ORACLE`.

    Raises:
        DitError: the suite's calibration does not hold for it: as `valid_calibration` does, and for another number of
            samples than it was fitted with or a diff such as an adapter was trained on.
    """
    calibration = valid_calibration(suite, *adapters, of=of)
    if evidence.samples != (fitted := calibration.recipe.samples):
        raise DitError(f"No chance is known for {evidence.samples} samples: it was measured with {fitted}.")
    for name in adapters:
        if name != ORACLE and info.split == TRAIN and (suite.adapter(name).task or info.task) == info.task:
            raise DitError(f"No chance is known: the DIT adapter '{name}' was trained on diffs of the split '{TRAIN}'.")
    return calibration.weights.probability(evidence)


def write_calibration(suite: Suite, calibration: Calibration, of: str = ANSWERS) -> Path:
    """Write a calibration beside the suite and return its path; DitError where that can't be done."""
    path = _path(suite, of)
    try:
        path.write_text(json.dumps(calibration.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DitError(f"The calibration can't be written to '{path}': make room, or copy the suite.") from error
    return path


def adapter_digest(suite: Suite, name: str) -> str:
    """Return 16 hex digits over what the answers of a DIT adapter, or of the `ORACLE`, depend on.

    They are its file and its question, of the oracle where it is injected too, and the base's files' sizes.
    """
    digest = hashlib.sha256()
    if name == ORACLE:
        oracle = suite.oracle
        if oracle is None:
            return ""
        digest.update(f"{oracle.questions[0]}|{oracle.block}".encode())
        own: Source = parse_source(oracle.source)
    else:
        digest.update(question_of(suite, name).encode())
        own = suite.spec.at(suite.adapter(name).file)
    files: list[Source] = [*sorted(own.glob("adapter_*"))] if isinstance(own, Path) else []
    sources: tuple[BaseSource, ...] = (*(files or [own]), suite.spec.base)
    for source in sources:
        digest.update(b"|")
        if isinstance(source, PackagedBase):
            digest.update(source.weights.encode())
        elif not isinstance(source, Path):
            digest.update(str(source).encode())
        elif source.is_file():
            digest.update(source.read_bytes())
        else:
            sizes = sorted((path.name, path.stat().st_size) for path in source.rglob("*") if path.is_file())
            digest.update(json.dumps(sizes).encode())
    return digest.hexdigest()[:16]


def _remedy(suite: Suite, of: str) -> str:
    """Say how to get a calibration that holds."""
    if not any(info.split == "calibration" for info in suite.diffs):
        return "fitting one takes diffs of the split 'calibration', and the suite lists none"
    own = "" if suite.name == "pocket" else ", with `--suite` and its path"
    return f"run `python -m dit_core calibrate --of {of} --anew`{own}"


def _features(evidence: Evidence) -> tuple[float, float]:
    """Return the log-odds of the answer's share, half a sample added to both sides, and its lift within ±`MAX_LIFT`."""
    odds = (evidence.times + 0.5) / (evidence.samples - evidence.times + 0.5)
    return log(odds), max(-MAX_LIFT, min(evidence.lift or 0.0, MAX_LIFT))


def _path(suite: Suite, of: str) -> Path:
    return Path(suite.folder) / FILES[of]
