"""Experiments on many diffs at once. The scoreboard: how often each method tells what a diff was trained on.

Each method is asked of all held-out diffs, greedily, many diffs to a batch; measured figures stand beside the
published ones.
"""

from dit_core.experiments.board import scoreboard
from dit_core.experiments.goals import TARGETS, lift_separates, meets_target
from dit_core.experiments.intervals import bootstrap, wilson
from dit_core.experiments.measures import SHARES
from dit_core.experiments.published import BASE_QUESTION, BEHAVIOUR, CROSS, DIT, NONE, PUBLISHED, RIGHT, WRONG
from dit_core.experiments.verbal_rows import methods

__all__ = [
    "BASE_QUESTION",
    "BEHAVIOUR",
    "CROSS",
    "DIT",
    "NONE",
    "PUBLISHED",
    "RIGHT",
    "SHARES",
    "TARGETS",
    "WRONG",
    "bootstrap",
    "lift_separates",
    "meets_target",
    "methods",
    "scoreboard",
    "wilson",
]
