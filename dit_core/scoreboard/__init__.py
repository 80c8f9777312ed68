"""Experiments on many diffs at once. The scoreboard: how often each method tells what a diff was trained on.

Each method is asked of all held-out diffs, greedily, many diffs to a batch; measured figures stand beside the
published ones.
"""

from dit_core.records.scores import (
    ADL,
    BASE_QUESTION,
    BASE_TRIGGER,
    BEHAVIOUR,
    CROSS,
    DIT,
    GUESS,
    GUESS_RIGHT,
    NONE,
    RIGHT,
    WRONG,
)
from dit_core.scoreboard.board import KINDS, expected_seconds, findings, new_ledger, run_scoreboard, stream, summed_up
from dit_core.scoreboard.jobs import Engine
from dit_core.scoreboard.measures import SHARES, by_marks, regraded, to_grade
from dit_core.scoreboard.method_agreement import agreement, named
from dit_core.scoreboard.published import PUBLISHED, TARGETS, lift_separates, meets_target
from dit_core.scoreboard.ray_engine import OnRay
from dit_core.scoreboard.stored import Board, board, read_board, read_scaling, scaled
from dit_core.scoreboard.verbal_rows import asked_note, methods

__all__ = [
    "ADL",
    "BASE_QUESTION",
    "BASE_TRIGGER",
    "BEHAVIOUR",
    "Board",
    "CROSS",
    "DIT",
    "Engine",
    "GUESS",
    "GUESS_RIGHT",
    "KINDS",
    "NONE",
    "OnRay",
    "PUBLISHED",
    "RIGHT",
    "SHARES",
    "TARGETS",
    "WRONG",
    "agreement",
    "asked_note",
    "board",
    "by_marks",
    "expected_seconds",
    "findings",
    "lift_separates",
    "meets_target",
    "methods",
    "named",
    "new_ledger",
    "read_board",
    "read_scaling",
    "regraded",
    "scaled",
    "run_scoreboard",
    "stream",
    "summed_up",
    "to_grade",
]
