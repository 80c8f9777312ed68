"""Plain records and the table that holds them: every result of this project is one of these.

A table becomes a pandas frame, a JSON object or CSV text; it holds no tensors and no model.
"""

from dit_core.records.answers import (
    Change,
    LensToken,
    Lift,
    NextToken,
    Norm,
    Reading,
    Similarity,
    Steered,
    Swept,
    Target,
    Verbalization,
)
from dit_core.records.condition import Condition, grid
from dit_core.records.scores import (
    Agreement,
    Confidence,
    DiffInfo,
    Finding,
    ReadingConfidence,
    Reliability,
    Scaled,
    Score,
)
from dit_core.records.table import SCHEMA_VERSION, Table, as_dict

__all__ = [
    "Agreement",
    "Change",
    "Condition",
    "Confidence",
    "DiffInfo",
    "Finding",
    "LensToken",
    "Lift",
    "NextToken",
    "Norm",
    "Reading",
    "ReadingConfidence",
    "Reliability",
    "SCHEMA_VERSION",
    "Scaled",
    "Score",
    "Similarity",
    "Steered",
    "Swept",
    "Table",
    "Target",
    "Verbalization",
    "as_dict",
    "grid",
]
