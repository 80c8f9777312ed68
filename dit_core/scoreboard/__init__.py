"""The scoreboard: how often each method finds what a diff was trained on, over many held-out diffs.

Each method asks all held-out diffs, greedily, many diffs to a batch; published figures are shown next to measured ones.
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
from dit_core.scoreboard.jobs import Engine
from dit_core.scoreboard.measures import SHARES, pairs_to_grade, regrade, with_grades
from dit_core.scoreboard.method_agreement import agreement, named_diffs
from dit_core.scoreboard.method_rows import measured_methods
from dit_core.scoreboard.published import PUBLISHED, TARGETS, lift_separates, meets_target, published_figures
from dit_core.scoreboard.ray_engine import OnRay
from dit_core.scoreboard.run import (
    KINDS,
    expected_seconds,
    findings,
    mean_scores,
    measured_kinds,
    new_ledger,
    run_scoreboard,
    stream,
)
from dit_core.scoreboard.stored import Board, board, read_board, read_scaling, scaling_points
from dit_core.scoreboard.verbal_rows import asked_note, make_verbal_rows

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
    "with_grades",
    "expected_seconds",
    "findings",
    "lift_separates",
    "measured_kinds",
    "measured_methods",
    "meets_target",
    "make_verbal_rows",
    "named_diffs",
    "new_ledger",
    "read_board",
    "read_scaling",
    "regrade",
    "scaling_points",
    "run_scoreboard",
    "stream",
    "mean_scores",
    "pairs_to_grade",
    "published_figures",
]
