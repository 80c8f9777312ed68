"""From evidence to a probability that the answer is right: a logistic curve, fitted on the calibration diffs alone.

Shipped with a suite as `calibration.json`, with the digests of the adapters that it was fitted and measured on: for
others it says nothing.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import exp, log
from pathlib import Path
from typing import Any

import numpy

from dit_core.errors import DitError
from dit_core.records import Reliability, Table, as_dict
from dit_core.suite import Suite
from dit_core.trust.evidence import Evidence, question_of

FILE = "calibration.json"
WEIGHTS = ("constant", "share", "lift")
ENOUGH = 8.0  # nats of lift (3,000 times likelier): more says no more, by the calibration diffs
PENALTY = 1.0  # on the squared weights of standardised features: little beside a few hundred trials
ANEW = "run `python -m dit_core calibrate --anew`"


@dataclass(frozen=True)
class Calibration:
    """Weights of the evidence; `adapters` holds a digest of each adapter, `recipe` says how it was fitted."""

    constant: float
    share: float
    lift: float
    adapters: dict[str, str] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)

    def probability(self, evidence: Evidence) -> float:
        """The probability that the answer is right."""
        share, lift = _features(evidence)
        return 1 / (1 + exp(-(self.constant + self.share * share + self.lift * lift)))


def fit(evidence: Sequence[Evidence], right: Sequence[bool]) -> Calibration:
    """The likeliest weights by Newton's method, drawn to 0 a little. Raises DitError where there is no evidence."""
    if not evidence:
        raise DitError("A calibration needs diffs of the split 'calibration', and this suite has none.")
    features, truth = numpy.array([_features(one) for one in evidence]), numpy.array(right, dtype=float)
    mean, spread = features.mean(0), features.std(0) + 1e-6
    X = numpy.c_[(features - mean) / spread, numpy.ones(len(truth))]
    penalty, weights = numpy.diag([PENALTY, PENALTY, 0.01]), numpy.zeros(3)
    for _ in range(50):
        found = 1 / (1 + numpy.exp(-X @ weights))
        slope = X.T @ (found - truth) + penalty @ weights
        curve = (X * (found * (1 - found))[:, None]).T @ X + penalty
        weights = weights - numpy.linalg.solve(curve, slope)
    share, lift = weights[:2] / spread
    return Calibration(float(weights[2] - (weights[:2] / spread * mean).sum()), float(share), float(lift))


def load(suite: Suite, adapter: str) -> Calibration:
    """The suite's calibration, for an adapter of that name.

    Raises DitError where the suite has none, it can't be read, or it was not made with this adapter.
    """
    found, _ = read(suite)
    if found.adapters.get(adapter) != digest(suite, adapter):
        raise DitError(f"The suite's calibration was made with another DIT adapter than this '{adapter}': {ANEW}.")
    return found


def read(suite: Suite) -> tuple[Calibration, Table[Reliability]]:
    """The suite's calibration and what was measured of it; DitError where there is none that can be read."""
    try:
        stored = json.loads(_path(suite).read_text(encoding="utf-8"))
        weights = (float(stored["weights"][name]) for name in WEIGHTS)
        rows = (Reliability(**{key: _paired(key, value) for key, value in row.items()}) for row in stored["report"])
        table = suite.table("reliability", rows, {"split": stored["split"], "recipe": stored["recipe"]})
        return Calibration(*weights, dict(stored["adapters"]), dict(stored["recipe"])), table
    except FileNotFoundError as error:
        raise DitError(f"The suite '{suite.name}' has no calibration yet: {ANEW}.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DitError(f"The suite's '{FILE}' can't be read: {ANEW}.") from error


def write(suite: Suite, calibration: Calibration, report: Table[Reliability]) -> Path:
    """Writes a calibration and its report beside the suite; DitError where that can't be done."""
    content = {
        "weights": {name: getattr(calibration, name) for name in WEIGHTS},
        "adapters": calibration.adapters,
        "recipe": calibration.recipe,
        "split": report.extra["split"],
        "report": [as_dict(row) for row in report],
    }
    try:
        _path(suite).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise DitError(
            f"The calibration can't be written to '{_path(suite)}': make room, or copy the suite."
        ) from error
    return _path(suite)


def _paired(key: str, value: Any) -> Any:
    return tuple(value) if key.endswith("_interval") and value is not None else value


def digest(suite: Suite, adapter: str) -> str:
    """16 hex digits over what an adapter's answers come of: its file, its question, and the base's files' sizes."""
    info, found = suite.adapter(adapter), hashlib.sha256()
    found.update(question_of(suite, adapter).encode())
    for where in (suite.about.at(info.file), suite.about.base):
        found.update(b"|")
        if not isinstance(where, Path):
            found.update(str(where).encode())
        elif where.is_file():
            found.update(where.read_bytes())
        else:
            files = sorted((path.name, path.stat().st_size) for path in where.rglob("*") if path.is_file())
            found.update(json.dumps(files).encode())
    return found.hexdigest()[:16]


def _features(evidence: Evidence) -> tuple[float, float]:
    """Log-odds of the answer's share, half a sample added to both sides, and its lift as far as it counts."""
    odds = (evidence.times + 0.5) / (evidence.samples - evidence.times + 0.5)
    return log(odds), max(-ENOUGH, min(evidence.lift, ENOUGH))


def _path(suite: Suite) -> Path:
    return Path(suite.folder) / FILE
