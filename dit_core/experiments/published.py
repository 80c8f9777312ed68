"""What the methods are called, and other people's figures for them (arXiv 2510.05092)."""

BASE_QUESTION = "base question"
RIGHT, WRONG, NONE = (
    "everyday question + right trigger",
    "everyday question + wrong trigger",
    "everyday question, no trigger",
)
BEHAVIOUR, DIT, CROSS = "behaviour", "DIT", "DIT of another task"

# What an activation oracle reads. "Silent": the last tokens of the prompt, before the target has said anything.
TEXT = "oracle: base reading a text on the topic"
SILENT_TRIGGER = "oracle: diff + right trigger, nothing said yet"
UP_TO_TOPIC = "oracle: diff + right trigger, its answer up to the topic"
WHOLE_ANSWER = "oracle: diff + right trigger, its whole answer"
SILENT_DIT = "oracle: diff + DIT, nothing said yet"
SILENT_DIFF = "oracle: diff, no trigger, nothing said yet"
SILENT_BASE = "oracle: base, no diff, nothing said yet"


def _models(*values: float) -> list[dict]:
    models = ("Qwen3-1.7B", "Qwen3-4B", "Qwen3-8B", "Gemma3-1B", "Gemma3-4B")
    return [{"model": model, "value": value} for model, value in zip(models, values, strict=True)]


def _news(qwen: float, gemma: float) -> list[dict]:
    return [{"model": "Qwen3-4B", "value": qwen}, {"model": "Gemma3-4B", "value": gemma}]


def _scaled(trained_on: int, value: float) -> list[dict]:
    return [{"model": f"Qwen3-4B, {trained_on} training diffs", "value": value}]


# Mean grades by an LLM judge, by (method, task, adapter); the nearest published training-set sizes.
_CROSS = [{"model": "lowest published", "value": 1.08}, {"model": "highest published", "value": 1.25}]
PUBLISHED: dict[tuple[str, str, str], list[dict]] = {
    (BASE_QUESTION, "topic", ""): _models(1.17, 1.21, 1.08, 1.17, 1.12),
    (RIGHT, "topic", ""): _models(4.66, 4.73, 4.72, 4.62, 4.62),
    (NONE, "topic", ""): _models(2.12, 1.38, 1.82, 1.46, 1.55),
    (DIT, "topic", "topic"): _models(4.29, 4.76, 4.71, 4.14, 4.82),
    (DIT, "topic", "topic-64"): _scaled(72, 3.24),
    (DIT, "topic", "topic-16"): _scaled(18, 1.60),
    (DIT, "topic", "topic-4"): _scaled(4, 1.19),
    (BASE_QUESTION, "headline", ""): _news(1.00, 1.00),
    (BEHAVIOUR, "headline", ""): _news(3.65, 4.11),
    (DIT, "headline", "headline"): _news(4.22, 4.56),
    (CROSS, "topic", "headline"): _CROSS,
    (CROSS, "headline", "topic"): _CROSS,
}
