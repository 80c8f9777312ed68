"""Whether an answer can be trusted: controls that carry no meaning, samples, and a calibrated probability.

A DIT adapter answers also where there is nothing to find. What it says of a diff is evidence as far as it says so time
and again, and does not say so without the diff.
"""

from dit_core.trust.answer_confidence import confidence, stream_confidence
from dit_core.trust.calibrate import SUBJECTS, calibrated, reading_trials, reliability, renew, trials
from dit_core.trust.calibration import ANSWERS, FILES, READINGS, Calibration, fit, load, standing, write
from dit_core.trust.calibration import read as read_calibration
from dit_core.trust.controls import Control, control, controls
from dit_core.trust.evidence import SAMPLES, Evidence, gather
from dit_core.trust.oracle_confidence import reading_confidence, stream_reading_confidence

__all__ = [
    "ANSWERS",
    "Calibration",
    "Control",
    "Evidence",
    "FILES",
    "READINGS",
    "SAMPLES",
    "SUBJECTS",
    "calibrated",
    "confidence",
    "control",
    "controls",
    "fit",
    "gather",
    "load",
    "read_calibration",
    "reading_confidence",
    "reading_trials",
    "reliability",
    "renew",
    "standing",
    "stream_confidence",
    "stream_reading_confidence",
    "trials",
    "write",
]
