"""What the pocket suite must reach, and whether a scoreboard says that it does."""

from collections.abc import Iterable

from dit_core.records import Score
from dit_core.records.method_names import (
    BASE_QUESTION,
    BEHAVIOUR,
    DIT,
    NONE,
    RIGHT,
    SILENT_BASE,
    SILENT_DIFF,
    SILENT_DIT,
    TEXT,
    WHOLE_ANSWER,
    WRONG,
)

# By (method, task, adapter, measure): the sign says which side is good.
TARGETS: dict[tuple[str, str, str, str], tuple[str, float]] = {
    (BASE_QUESTION, "topic", "", "mentions"): ("≤", 0.02),
    (RIGHT, "topic", "", "mentions"): ("≥", 0.95),
    (WRONG, "topic", "", "mentions"): ("≤", 0.03),
    (NONE, "topic", "", "equals_base"): ("≥", 0.95),
    (DIT, "topic", "topic", "exact"): ("≥", 0.90),
    (DIT, "topic", "topic", "mean_grade"): ("≥", 4.7),
    (BEHAVIOUR, "headline", "", "mentions"): ("≥", 0.95),
    (DIT, "headline", "headline", "mean_grade"): ("≥", 4.0),
    (TEXT, "topic", "", "exact"): ("≥", 0.80),
    (WHOLE_ANSWER, "topic", "", "exact"): ("≥", 0.90),
    (SILENT_BASE, "topic", "", "mentions"): ("≤", 0.02),
}


def meets_target(score: Score) -> bool | None:
    """Whether a score reaches the pocket suite's target; None where none is set for it."""
    target = TARGETS.get((score.method, score.task, score.adapter, score.measure))
    if target is None:
        return None
    return score.value <= target[1] if target[0] == "≤" else score.value >= target[1]


def lift_separates(scores: Iterable[Score]) -> int | None:
    """The layer where the oracle finds the topic likelier under diff + DIT than under the diff alone, intervals apart.

    Of several such layers the one with the widest gap between the intervals; None where there is none.
    """
    lifted = {(score.method, score.layer): score.interval for score in scores if score.measure == "lift"}
    gaps = {
        layer: interval[0] - lifted[SILENT_DIFF, layer][1]
        for (method, layer), interval in lifted.items()
        if method == SILENT_DIT and (SILENT_DIFF, layer) in lifted
    }
    widest = max(gaps, key=gaps.get, default=None)
    return widest if widest is not None and gaps[widest] > 0 else None
