"""Whether an answer can be trusted: controls that carry no meaning, samples, and a calibrated probability.

A DIT adapter answers also where there is nothing to find. What it says of a diff is evidence as far as it says so time
and again, and does not say so without the diff. One algorithm (`evidence`, `assess`) does that for every `Subject`:
answers of a DIT adapter, readings of an oracle, and texts of any other method.
"""

from dit_core.trust.answer_confidence import (
    AnswerSubject,
    MethodSubject,
    confidence,
    method_confidence,
    stream_confidence,
    stream_method_confidence,
)
from dit_core.trust.assessment import assess
from dit_core.trust.calibrate import calibrated, labelled_batches, recalibrate, reliability
from dit_core.trust.calibration import (
    ANSWERS,
    FILES,
    READINGS,
    Calibration,
    fit_weights,
    measured_reliability,
    read_calibration,
    valid_calibration,
    write_calibration,
)
from dit_core.trust.control_diffs import Control, control, controls
from dit_core.trust.evidence import SAMPLES, Evidence, Query, Subject, gather
from dit_core.trust.oracle_confidence import ReadingSubject, reading_confidence, stream_reading_confidence

__all__ = [
    "ANSWERS",
    "AnswerSubject",
    "Calibration",
    "Control",
    "Evidence",
    "FILES",
    "MethodSubject",
    "Query",
    "READINGS",
    "ReadingSubject",
    "SAMPLES",
    "Subject",
    "assess",
    "calibrated",
    "confidence",
    "control",
    "controls",
    "fit_weights",
    "gather",
    "labelled_batches",
    "measured_reliability",
    "method_confidence",
    "read_calibration",
    "reading_confidence",
    "recalibrate",
    "reliability",
    "stream_confidence",
    "stream_method_confidence",
    "stream_reading_confidence",
    "valid_calibration",
    "write_calibration",
]
