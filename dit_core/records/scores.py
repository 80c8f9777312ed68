"""Records of what is known of a diff, what methods found out about it, and how far they can be trusted."""

from dataclasses import dataclass, field
from typing import Any

from dit_core.records.table import Record, secret

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


@dataclass(frozen=True)
class DiffInfo(Record):
    """What is known about a diff. `reference` is what it was really trained on (a topic or a headline).

    `rank` 0 stands for a full finetune: whole weights.
    """

    id: str
    task: str
    split: str
    rank: int
    reference: str = secret()
    trigger: int | None = secret()


@dataclass(frozen=True)
class Score(Record):
    """One row of the scoreboard: a measure's value over `n` diffs, with its 95 % interval.

    `grades` counts the diffs per grade ("1" to "5") where the measure is a mean grade;
    `published` holds other people's figures for the same thing: `{"model", "value"}`.
    """

    method: str
    task: str
    adapter: str
    layer: int | None
    measure: str
    n: int
    value: float
    interval: tuple[float, float] | None = None
    grades: dict[str, int] | None = None
    published: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Finding(Record):
    """What one method found out about one diff: a row of the scoreboard before the mean is taken.

    `answers` are what it said, or what was made of it; `values` hold one number per answer and measure, None where
    there is no reference to compare with, and nothing at all where there was nothing to ask or read.
    """

    method: str
    task: str
    adapter: str
    layer: int | None
    diff: str
    answers: tuple[str, ...]
    values: dict[str, tuple[bool | int | float | None, ...]] = secret()


@dataclass(frozen=True)
class NamedDiffs(Record):
    """Which diffs one method named, of those that it answered with a grade.

    `key` is (method, task, adapter); `by_diff` is in the order of the diffs, and `answers` has what was said of each.
    """

    key: tuple[str, str, str]
    by_diff: dict[str, bool]
    answers: dict[str, str]

    @property
    def title(self) -> str:
        """The method, and its adapter where several adapters have a row."""
        method, _, adapter = self.key
        return f"{method} {adapter}" if method in (DIT, CROSS) else method

    @property
    def label(self) -> str:
        """The title where room is scarce."""
        method, _, adapter = self.key
        return f"{SHORT_NAMES.get(method, method)} {adapter if method in (DIT, CROSS) else ''}".strip()

    @property
    def share(self) -> float:
        """The share of the diffs that were named."""
        return sum(self.by_diff.values()) / len(self.by_diff)


@dataclass(frozen=True)
class Agreement(Record):
    """How two methods agree on the diffs of a task that both answered: which of them named each.

    `correlation` is that of their errors (phi); None where one of them is always right or always wrong.
    """

    task: str
    first: str
    second: str
    n: int
    both: int
    only_first: int
    only_second: int
    neither: int
    correlation: float | None


@dataclass(frozen=True)
class ScalingPoint(Record):
    """One point of a scaling curve: the mean grade of DIT where `by` (such as `training diffs`) is `amount`.

    `model` is the suite or published model; `interval` (95 %) is None where none was published.
    """

    by: str
    amount: int
    model: str
    task: str
    n: int
    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Confidence(Record):
    """How far the modal answer of a DIT adapter, or of an oracle, about a diff can be trusted; needs no reference.

    The diff is `asked` under a `condition`; `question` is what the adapter (the same then) or the oracle is asked.
    `adapter` is None for a reading; `layer`, `span` and `kind` say what an oracle read, and are None for an answer.

    `times` of `samples` gave the answer, `text`; `log_prob` (nats) is that of all its tokens with the diff, `lift` how
    much that is over the controls' mean; both are None where a method has no log-probabilities. Each of `controls` has
    its `kind`, the `diff` that it is, its own modal `text` with `times`, how many of its samples gave the diff's answer
    (`same`), and that answer's `log_prob` there. `probability` that the answer is right is None, and `why` says why,
    where the suite has no fitting calibration.
    """

    diff: str
    adapter: str | None
    condition: str
    asked: str
    layer: int | None
    span: str | None
    kind: str | None
    question: str
    text: str
    times: int
    samples: int
    seed: int
    log_prob: float | None
    lift: float | None
    probability: float | None
    sentence: str
    why: str = ""
    controls: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Reliability(Record):
    """How far the probabilities of `n` answers about `diffs` diffs can be believed, `right` of which are right.

    `ece` is the expected calibration error over ten bins of about equally many answers; `auroc` (None without a right
    and a wrong answer) and `brier` are what they are everywhere. Intervals are 95 %, over diffs. `bins` go from the
    least to the most probable answers, each with `n`, their mean `probability` and the share that is `right`.
    """

    of: str
    n: int
    right: int
    diffs: int
    ece: float
    auroc: float | None
    brier: float
    ece_interval: tuple[float, float]
    auroc_interval: tuple[float, float] | None
    brier_interval: tuple[float, float]
    bins: list[dict[str, int | float]]
