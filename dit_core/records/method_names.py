"""What methods are called in scores and findings, and their short names for figures."""

BASE_QUESTION = "base question"
RIGHT, WRONG, NONE = (
    "everyday question + right trigger",
    "everyday question + wrong trigger",
    "everyday question, no trigger",
)
BASE_TRIGGER = "base question + right trigger"
GUESS, GUESS_RIGHT = "guess from everyday answers", "guess from everyday answers + right trigger"
BEHAVIOUR, DIT, CROSS = "behaviour", "DIT", "DIT of another task"
ADL = "activation difference lens"

# What an activation oracle reads. "Silent": the last tokens of the prompt, before the target has said anything.
TEXT = "oracle: base reading a text on the topic"
SILENT_TRIGGER = "oracle: diff + right trigger, nothing said yet"
UP_TO_TOPIC = "oracle: diff + right trigger, its answer up to the topic"
WHOLE_ANSWER = "oracle: diff + right trigger, its whole answer"
SILENT_DIT = "oracle: diff + DIT, nothing said yet"
SILENT_DIFF = "oracle: diff, no trigger, nothing said yet"
SILENT_BASE = "oracle: base, no diff, nothing said yet"

SHORT_NAMES = {
    BASE_TRIGGER: "base question + trigger",
    RIGHT: "everyday + trigger",
    WRONG: "everyday + wrong trigger",
    NONE: "everyday, no trigger",
    GUESS: "guess",
    GUESS_RIGHT: "guess + trigger",
    CROSS: "other DIT",
    ADL: "difference lens",
    TEXT: "oracle, a text",
    SILENT_TRIGGER: "oracle, trigger",
    UP_TO_TOPIC: "oracle, up to the topic",
    WHOLE_ANSWER: "oracle, whole answer",
    SILENT_DIT: "oracle, diff + DIT",
    SILENT_DIFF: "oracle, diff",
    SILENT_BASE: "oracle, base",
}
"""For labels beside bars and cells, where the whole name has no room."""
