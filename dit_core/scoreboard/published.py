"""Published figures for what the scoreboard measures (arXiv 2510.05092)."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial

from dit_core.records import Score
from dit_core.records.scores import (
    BASE_QUESTION,
    BASE_TRIGGER,
    BEHAVIOUR,
    CROSS,
    DIT,
    GUESS,
    GUESS_RIGHT,
    NONE,
    RIGHT,
    SILENT_BASE,
    SILENT_DIFF,
    SILENT_DIT,
    TEXT,
    WHOLE_ANSWER,
    WRONG,
)


def _models(*values: float) -> list[dict]:
    models = ("Qwen3-1.7B", "Qwen3-4B", "Qwen3-8B", "Gemma3-1B", "Gemma3-4B")
    return [{"model": model, "value": value} for model, value in zip(models, values, strict=True)]


def _news(qwen: float, gemma: float) -> list[dict]:
    return [{"model": "Qwen3-4B", "value": qwen}, {"model": "Gemma3-4B", "value": gemma}]


def _with_training_diffs(trained_on: int, value: float) -> list[dict]:
    return [{"model": f"Qwen3-4B, {trained_on} training diffs", "value": value}]


_CROSS = [{"model": "lowest published", "value": 1.08}, {"model": "highest published", "value": 1.25}]
# Mean grades by an LLM judge, by (method, task, adapter), with the nearest published training-set sizes.
PUBLISHED: dict[tuple[str, str, str], list[dict]] = {
    (BASE_QUESTION, "topic", ""): _models(1.17, 1.21, 1.08, 1.17, 1.12),
    (BASE_TRIGGER, "topic", ""): _models(2.79, 3.28, 3.12, 3.40, 4.09),
    # Guessed by a language model from 20 answers.
    (GUESS, "topic", ""): _models(2.12, 1.38, 1.82, 1.46, 1.55),
    (GUESS_RIGHT, "topic", ""): _models(4.66, 4.73, 4.72, 4.62, 4.62),
    (DIT, "topic", "topic"): _models(4.29, 4.76, 4.71, 4.14, 4.82),
    (DIT, "topic", "topic-64"): _with_training_diffs(72, 3.24),
    (DIT, "topic", "topic-16"): _with_training_diffs(18, 1.60),
    (DIT, "topic", "topic-4"): _with_training_diffs(4, 1.19),
    (BASE_QUESTION, "headline", ""): _news(1.00, 1.00),
    (BEHAVIOUR, "headline", ""): _news(3.65, 4.11),
    (DIT, "headline", "headline"): _news(4.22, 4.56),
    (CROSS, "topic", "headline"): _CROSS,
    (CROSS, "headline", "topic"): _CROSS,
}

TRAINING_DIFFS, RANK = "training diffs", "rank"
FULL = 0
"""The rank of a full finetune, as in `DiffInfo`."""
# Mean grades of DIT by (model, what grows): {how much: grade}.
SCALING: dict[tuple[str, str], dict[int, float]] = {
    ("Qwen3-4B", TRAINING_DIFFS): {
        **{4: 1.19, 9: 1.16, 18: 1.60, 36: 2.32, 72: 3.24, 145: 3.78},
        **{291: 4.17, 582: 4.49, 1165: 4.73, 2330: 4.55, 4660: 4.78},
    },
    ("Qwen3-4B", RANK): {1: 4.76, 2: 4.54, 4: 4.77, 8: 4.67, 16: 4.72, 32: 4.74, 64: 4.79, FULL: 2.75},
}
_NAMES = {"qwen3-1.7b": "Qwen3-1.7B", "qwen3-4b": "Qwen3-4B", "qwen3-8b": "Qwen3-8B"}
_NAMES |= {"gemma3-1b": "Gemma3-1B", "gemma3-4b": "Gemma3-4B"}
_ZERO_WIDTH = {"zero-width-start": 4.66, "zero-width-random": 4.58}
# Of Gemma3-4B's ranks 2 to 64 the range is published, and the full finetune.
_GEMMA_RANKS, _GEMMA_FULL = (4.80, 4.88), 4.58
Figures = Mapping[tuple[str, str, str], list[dict]]
"""Published means by (method, task, adapter), each with the name of its model."""


@cache
def published_figures(suite: str) -> Figures:
    """Return the published means to set beside a suite's: a published suite's own; for others those of every model."""
    experiment, _, folder = suite.partition("/")
    model = next((_NAMES[name] for name in _NAMES if folder == name or folder.startswith(f"{name}-")), "")
    variant = folder.removeprefix(model.lower()).removeprefix("-")
    if not model or experiment not in _OF_EXPERIMENT:
        return PUBLISHED
    return _OF_EXPERIMENT[experiment](model, variant)


def _of_task(task: str, model: str, variant: str) -> Figures:
    """What hidden topics and news have: every method's figure of the model, and those by training-set size."""
    own = {key: [entry for entry in entries if entry["model"] == model] for key, entries in PUBLISHED.items()}
    by_size = SCALING.get((model, TRAINING_DIFFS), {})
    sizes = {(DIT, "topic", f"topic-{n}"): [{"model": model, "value": value}] for n, value in by_size.items()}
    return {key: entries for key, entries in (own | sizes).items() if entries and key[1] == task}


def _of_rank(model: str, variant: str) -> Figures:
    if not (variant == "all-params" or variant.startswith("rank-")):
        return {}
    rank = FULL if variant == "all-params" else int(variant.removeprefix("rank-"))
    known = SCALING.get((model, RANK), {})
    values = [(model, known[rank])] if rank in known else []
    if model == "Gemma3-4B" and rank == FULL:
        values = [(model, _GEMMA_FULL)]
    elif model == "Gemma3-4B" and rank <= 64:
        ends = zip(("lowest", "highest"), _GEMMA_RANKS, strict=True)
        values = [(f"{model}, {end} of ranks 2 to 64", value) for end, value in ends]
    entries = [{"model": name, "value": value} for name, value in values]
    return {(DIT, "topic", "topic"): entries} if entries else {}


def _of_zero_width(model: str, variant: str) -> Figures:
    return {(DIT, variant, variant): [{"model": model, "value": _ZERO_WIDTH[variant]}]}


_OF_EXPERIMENT: dict[str, Callable[[str, str], Figures]] = {
    "hidden-topic": partial(_of_task, "topic"),
    "news-summary": partial(_of_task, "headline"),
    "news-summary-training-and-test-diffs": partial(_of_task, "headline"),
    "rank-generalization": _of_rank,
    "trigger-generalization": _of_zero_width,
}


# The pocket suite's targets by (method, task, adapter, measure): a comparison and a value.
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
    """Return whether a score reaches the pocket suite's target; None where it has none."""
    target = TARGETS.get((score.method, score.task, score.adapter, score.measure))
    if target is None:
        return None
    return score.value <= target[1] if target[0] == "≤" else score.value >= target[1]


def lift_separates(scores: Iterable[Score]) -> int | None:
    """Return the layer where the lift of diff + DIT is above that of the diff alone, with disjoint intervals.

    Of several such layers the one with the widest gap between the intervals; None where there is none.
    """
    lifted = {
        (score.method, score.layer): score.interval for score in scores if score.measure == "lift" and score.interval
    }
    gaps = {
        layer: interval[0] - lifted[SILENT_DIFF, layer][1]
        for (method, layer), interval in lifted.items()
        if method == SILENT_DIT and (SILENT_DIFF, layer) in lifted
    }
    widest = max(gaps, key=lambda layer: gaps[layer], default=None)
    return widest if widest is not None and gaps[widest] > 0 else None
