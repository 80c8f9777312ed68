"""Plain records and the table that holds them: every result of this project is one of these.

A table becomes a pandas frame, a JSON object or CSV text; it holds no tensors and no model.
"""

from dit_core.records.answers import (
    AdlFinding,
    Answer,
    LensToken,
    Lift,
    ModuleChange,
    NextToken,
    Norm,
    Reading,
    Similarity,
    SteeredText,
    SweepPoint,
    Target,
    Verbalization,
    words,
)
from dit_core.records.condition import Condition, as_list, grid
from dit_core.records.scores import (
    Agreement,
    Confidence,
    DiffInfo,
    Finding,
    NamedDiffs,
    Reliability,
    ScalingPoint,
    Score,
)
from dit_core.records.table import SCHEMA_VERSION, Record, Table, as_dict, records_from_json

__all__ = [
    "AdlFinding",
    "Agreement",
    "Answer",
    "ModuleChange",
    "Condition",
    "Confidence",
    "DiffInfo",
    "Finding",
    "LensToken",
    "Lift",
    "NamedDiffs",
    "NextToken",
    "Norm",
    "Reading",
    "Record",
    "Reliability",
    "SCHEMA_VERSION",
    "ScalingPoint",
    "Score",
    "Similarity",
    "SteeredText",
    "SweepPoint",
    "Table",
    "Target",
    "Verbalization",
    "as_dict",
    "as_list",
    "grid",
    "records_from_json",
    "words",
]
