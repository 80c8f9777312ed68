"""From evidence to a probability that the answer is right: a logistic curve, fitted on the calibration diffs alone.

Shipped with a suite, one file for the answers of its DIT adapters and one for its oracle's readings, with the digests
of the adapters that it was fitted and measured on: for others it says nothing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, log
from pathlib import Path
from typing import Any

import numpy

from dit_core.errors import DitError
from dit_core.hub import Source, parse_source
from dit_core.records import DiffInfo, Reliability, Table, as_dict, records_from_json
from dit_core.request.conditions import question_of
from dit_core.stats import fit_logistic, logistic
from dit_core.suite import Suite
from dit_core.trust.evidence import Evidence

ANSWERS, READINGS = "answers", "readings"
FILES = {ANSWERS: "calibration.json", READINGS: "oracle-calibration.json"}
ORACLE = "(oracle)"  # beside the names of DIT adapters, none of which has brackets
WEIGHTS = ("constant", "share", "lift")
TRAIN = "train"  # the split of what DIT adapters were trained on
ENOUGH = 8.0  # nats of lift (3,000 times likelier): more says no more, by the calibration diffs
PENALTY = 1.0  # on the squared weights of standardised features: little beside a few hundred trials


@dataclass(frozen=True)
class Calibration:
    """Weights of the evidence; `adapters` holds a digest of each adapter, `recipe` says how it was fitted."""

    constant: float
    share: float
    lift: float
    adapters: dict[str, str] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)

    def probability(self, evidence: Evidence) -> float:
        """Return the probability that the answer is right."""
        share, lift = _features(evidence)
        return float(logistic(self.constant + self.share * share + self.lift * lift))


def fit(evidence: Sequence[Evidence], right: Sequence[bool]) -> Calibration:
    """Fit the weights by ridge-penalised logistic regression (as Platt scaling, 1999, but of two features).

    Raises:
        DitError: there is no evidence.
    """
    if not evidence:
        raise DitError("A calibration needs diffs of the split 'calibration', and this suite has none.")
    features, truth = numpy.array([_features(one) for one in evidence]), numpy.array(right, dtype=float)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    X = numpy.c_[(features - mean) / spread, numpy.ones(len(truth))]
    weights = fit_logistic(X, truth, [PENALTY, PENALTY, 0.01])
    share, lift = weights[:2] / spread
    return Calibration(float(weights[2] - (weights[:2] / spread * mean).sum()), float(share), float(lift))


def load(suite: Suite, *adapters: str, of: str = ANSWERS) -> Calibration:
    """Load the suite's calibration of answers or readings that stands for these: DIT adapters, or `ORACLE`.

    Raises DitError where the suite has none, it can't be read, or it was not made with one of them.
    """
    found, _ = read(suite, of)
    for name in adapters:
        if found.adapters.get(name) != digest(suite, name):
            oracle = suite.oracle if name == ORACLE else None
            what = f"oracle than '{oracle.title}'" if oracle else f"DIT adapter than this '{name}'"
            raise DitError(f"The suite's calibration of {of} was made with another {what}: {_anew(suite, of)}.")
    return found


def chance(suite: Suite, info: DiffInfo, evidence: Evidence, *adapters: str, of: str = ANSWERS) -> float:
    """Return the probability that an answer about a diff is right, where `adapters` act: DIT adapters, or `ORACLE`.

    Raises DitError, saying why, where the suite's calibration does not stand for it: as in `load`, and for another
    number of samples than it was fitted with or a diff such as an adapter was trained on.
    """
    calibration = load(suite, *adapters, of=of)
    if evidence.samples != (fitted := calibration.recipe["samples"]):
        raise DitError(f"No chance is known for {evidence.samples} samples: it was measured with {fitted}.")
    for name in adapters:
        if name != ORACLE and info.split == TRAIN and (suite.adapter(name).task or info.task) == info.task:
            raise DitError(f"No chance is known: the DIT adapter '{name}' was trained on diffs of the split '{TRAIN}'.")
    return calibration.probability(evidence)


def read(suite: Suite, of: str = ANSWERS) -> tuple[Calibration, Table[Reliability]]:
    """Read the suite's calibration and what was measured of it; DitError where there is none that can be read."""
    try:
        stored = json.loads(_path(suite, of).read_text(encoding="utf-8"))
        constant, share, lift = (float(stored["weights"][name]) for name in WEIGHTS)
        if not all(map(isfinite, (constant, share, lift))):
            raise ValueError("a weight is no number")
        rows = [_checked(row) for row in records_from_json(stored["report"], Reliability)]
        table = suite.table("reliability", rows, {"of": of, "split": stored["split"], "recipe": stored["recipe"]})
        recipe = dict(stored["recipe"])
        recipe |= {name: int(recipe[name]) for name in ("trials", "samples")} | {"split": str(recipe["split"])}
        recipe |= {name: list(recipe.get(name, ())) for name in ("by", "layers")}
        return Calibration(constant, share, lift, dict(stored["adapters"]), recipe), table
    except FileNotFoundError as error:
        raise DitError(f"The suite '{suite.name}' has no calibration of {of} yet: {_anew(suite, of)}.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, DitError) as error:
        raise DitError(f"The suite's '{FILES[of]}' can't be read: {_anew(suite, of)}.") from error


def standing(suite: Suite, of: str = ANSWERS) -> Table[Reliability]:
    """Return what was measured of a calibration that stands for the suite's adapters as they are.

    Raises DitError where none does.
    """
    calibration, table = read(suite, of)
    load(suite, *calibration.adapters, of=of)
    return table


def write(suite: Suite, calibration: Calibration, report: Table[Reliability], of: str = ANSWERS) -> Path:
    """Write a calibration and its report beside the suite; DitError where that can't be done."""
    content = {
        "weights": {name: getattr(calibration, name) for name in WEIGHTS},
        "adapters": calibration.adapters,
        "recipe": calibration.recipe,
        "split": report.extra["split"],
        "report": [as_dict(row) for row in report],
    }
    path = _path(suite, of)
    try:
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DitError(f"The calibration can't be written to '{path}': make room, or copy the suite.") from error
    return path


def _anew(suite: Suite, of: str) -> str:
    """What brings a calibration that stands."""
    if not any(info.split == "calibration" for info in suite.diffs):
        return "fitting one takes diffs of the split 'calibration', and the suite lists none"
    own = "" if suite.name == "pocket" else ", with `--suite` and its path"
    return f"run `python -m dit_core calibrate --of {of} --anew`{own}"


def _checked(row: Reliability) -> Reliability:
    """A row of a report; raises where its bins can't be, for a figure is drawn of it."""
    for one in row.bins:
        if not (one["n"] >= 1 and 0 <= one["probability"] <= 1 and 0 <= one["right"] <= 1):
            raise ValueError("a bin is no bin")
    return row


def digest(suite: Suite, name: str) -> str:
    """Return 16 hex digits over what the answers of a DIT adapter, or of the `ORACLE`, come of.

    They are its file and its question, of the oracle where it is injected too, and the base's files' sizes.
    """
    found = hashlib.sha256()
    if name == ORACLE:
        oracle = suite.oracle
        if oracle is None:
            return ""
        found.update(f"{oracle.questions[0]}|{oracle.block}".encode())
        own: Source = parse_source(oracle.source)
    else:
        found.update(question_of(suite, name).encode())
        own = suite.spec.at(suite.adapter(name).file)
    files: list[Source] = [*sorted(own.glob("adapter_*"))] if isinstance(own, Path) else []
    for where in (*(files or [own]), suite.spec.base):
        found.update(b"|")
        if not isinstance(where, Path):
            found.update(str(where).encode())
        elif where.is_file():
            found.update(where.read_bytes())
        else:
            sizes = sorted((path.name, path.stat().st_size) for path in where.rglob("*") if path.is_file())
            found.update(json.dumps(sizes).encode())
    return found.hexdigest()[:16]


def _features(evidence: Evidence) -> tuple[float, float]:
    """Log-odds of the answer's share, half a sample added to both sides, and its lift as far as it counts."""
    odds = (evidence.times + 0.5) / (evidence.samples - evidence.times + 0.5)
    return log(odds), max(-ENOUGH, min(evidence.lift, ENOUGH))


def _path(suite: Suite, of: str) -> Path:
    return Path(suite.folder) / FILES[of]
