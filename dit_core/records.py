"""Plain records and the table that holds them: every result of this project is one of these.

A table becomes a pandas frame, a JSON object or CSV text; it holds no tensors and no model.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Generic, TypeVar, overload

from dit_core.project import versions

SCHEMA_VERSION = 1
R = TypeVar("R")


def _secret() -> Any:
    """A field that listings leave out until it is revealed, and that no log shows."""
    return field(repr=False, metadata={"secret": True})


@dataclass(frozen=True)
class Verbalization:
    """What one condition said.

    `diff` is `""` where the request has none; `tokens` are decoded pieces that join to `text`;
    `token_probabilities` holds the model's probability (at temperature 1) of each of them.
    """

    diff: str
    condition: str
    question: str
    sample: int
    seed: int
    text: str
    tokens: tuple[str, ...]
    token_probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Target:
    """What was read: the tokens of one condition's prompt and, behind them, of what it answered.

    The first `prompt_tokens` of `tokens` are the prompt, the chat template's own among them. A prompt can hold a
    secret trigger, so listings leave the tokens out until it is revealed.
    """

    diff: str
    condition: str
    asked: str
    prompt_tokens: int
    tokens: tuple[str, ...] = _secret()


@dataclass(frozen=True)
class Reading:
    """What an activation oracle read out of one layer at `positions` of a condition's prompt (and answer).

    `kind` says which activations: `with` the condition, `without` it (the base on the same tokens), or their
    `difference`. `confidence` is the geometric mean of the answer's token probabilities. `grade` (1 to 5) and
    `log_prob_reference` (in nats, of all the reference's tokens under the oracle) need a diff whose reference is known.
    """

    diff: str
    condition: str
    asked: str
    layer: int
    depth_percent: float
    positions: tuple[int, ...]
    kind: str
    question: str
    sample: int
    seed: int
    answer: str
    tokens: tuple[str, ...]
    token_probabilities: tuple[float, ...]
    confidence: float
    grade: int | None = _secret()
    log_prob_reference: float | None = _secret()


@dataclass(frozen=True)
class Lift:
    """How much likelier an oracle finds the diff's reference than other texts: nats per token, teacher-forced."""

    diff: str
    condition: str
    layer: int
    depth_percent: float
    positions: tuple[int, ...]
    question: str
    lift: float


@dataclass(frozen=True)
class NextToken:
    """How high one token stands in the logit lens of what comes after `position`, at one layer.

    `what` says which token: the `answer` that the condition really gives next, or the first of the diff's `reference`.
    `rank` 0 is the likeliest of the vocabulary; `probability` is at temperature 1.
    """

    diff: str
    condition: str
    asked: str
    layer: int
    depth_percent: float
    position: int
    what: str
    token: str
    rank: int
    probability: float


@dataclass(frozen=True)
class Norm:
    """How much a condition changes one layer's residual stream at one token of its prompt.

    `norm` is that of (condition - base) on the same tokens, `base_norm` that of the base alone; `ratio` is the one
    over the other.
    """

    diff: str
    condition: str
    asked: str
    layer: int
    depth_percent: float
    position: int
    norm: float
    base_norm: float
    ratio: float


@dataclass(frozen=True)
class LensToken:
    """A token that stands out in a diff's mean activation difference, at one layer and position of unrelated texts.

    `method` is `logit lens` or `patchscope`; `place` counts from 0, the likeliest; `weight` is its probability.
    """

    diff: str
    layer: int
    depth_percent: float
    position: int
    method: str
    place: int
    token: str
    weight: float


@dataclass(frozen=True)
class Similarity:
    """The cosine of the angle between a diff's mean activation differences at two layers and positions."""

    diff: str
    layer: int
    position: int
    other_layer: int
    other_position: int
    cosine: float


@dataclass(frozen=True)
class Steered:
    """What the base wrote while `strength` times a diff's mean activation difference was added at one layer."""

    diff: str
    layer: int
    strength: float
    prompt: str
    sample: int
    text: str


@dataclass(frozen=True)
class Change:
    """What a diff changes in one module. `type` is the module's last name, `kind` is `low-rank` or `whole`.

    `norm` is ΔW's Frobenius norm and `relative` the same over the base weight's; None where the base, which they need,
    wasn't there. `singular_values` are the largest few of a low-rank ΔW.
    """

    diff: str
    module: str
    type: str
    layer: int | None
    kind: str
    rank: int | None
    parameters: int
    norm: float | None
    relative: float | None
    singular_values: tuple[float, ...]


@dataclass(frozen=True)
class Swept:
    """What one sample said at one setting of a sweep.

    `layers` are the first and last that the adapter acts on, None for all. `confidence` is the geometric mean of the
    answer's token probabilities; `modal_share` the share of the setting's samples that say what most of them say;
    `similarity` (0 to 1) is to what most say at 1 copy, None where the sweep has no such setting.
    `log_prob_reference`, in nats, is of the whole reference as the answer, where it is known.
    """

    diff: str
    adapter: str
    copies: float
    strength: float
    layers: tuple[int, int] | None
    condition: str
    question: str
    sample: int
    seed: int
    text: str
    confidence: float
    modal_share: float
    similarity: float | None
    log_prob_reference: float | None = _secret()


@dataclass(frozen=True)
class DiffInfo:
    """What is known about a diff. `reference` is what it was really trained on (a topic or a headline).

    `rank` 0 stands for a full finetune: whole weights.
    """

    id: str
    task: str
    split: str
    rank: int
    reference: str = _secret()
    trigger: int | None = _secret()


@dataclass(frozen=True)
class Score:
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
class Finding:
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
    values: dict[str, tuple[float | None, ...]] = _secret()


@dataclass(frozen=True)
class Agreement:
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
class Scaled:
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
class Confidence:
    """How far the modal answer of a diff under a DIT adapter can be trusted; needs no reference.

    `times` of `samples` gave the answer; `log_prob` (nats) is that of all its tokens with the diff, `lift` how much
    that is over the controls' mean. Each of `controls` has its `kind`, the `diff` that it is, its own modal `answer`
    with `times`, how many of its samples gave the diff's answer (`same`), and that answer's `log_prob` there.
    `probability` that the answer is right is None, and `why` says why, where the suite has no fitting calibration.
    """

    diff: str
    adapter: str
    question: str
    answer: str
    times: int
    samples: int
    seed: int
    log_prob: float
    lift: float
    probability: float | None
    sentence: str
    why: str = ""
    controls: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class ReadingConfidence:
    """How far what an oracle reads of one layer can be trusted; needs no reference.

    `answer` is the one that most of the oracle's `samples` give; all else is as in `Confidence`, the controls being
    read in the same way under the same condition.
    """

    diff: str
    condition: str
    asked: str
    layer: int
    span: str
    kind: str
    question: str
    answer: str
    times: int
    samples: int
    seed: int
    log_prob: float
    lift: float
    probability: float | None
    sentence: str
    why: str = ""
    controls: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Reliability:
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
    ece_interval: tuple[float, float] | None
    auroc_interval: tuple[float, float] | None
    brier_interval: tuple[float, float] | None
    bins: list[dict[str, float]]


def as_dict(record: Any, reveal: bool = False) -> dict[str, Any]:
    """A record's fields by name, tuples as lists; secret fields only where `reveal` is true."""
    if not is_dataclass(record):
        raise TypeError(f"a table holds dataclasses, not {type(record).__name__}")
    named = {f.name: getattr(record, f.name) for f in fields(record) if reveal or not f.metadata.get("secret")}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}


@dataclass(frozen=True)
class Table(Sequence[R], Generic[R]):
    """Records of one kind from one suite. Behaves as a sequence; slices are tables too.

    `kind` is the key of the records in JSON (`verbalizations`, `diffs`, `rows`); `extra` holds
    further keys that stand beside it, such as `{"split": "test"}`.
    """

    suite: str
    kind: str
    records: tuple[R, ...]
    extra: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> "Table[R]": ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return Table(self.suite, self.kind, self.records[index], self.extra)
        return self.records[index]

    def __iter__(self) -> Iterator[R]:
        return iter(self.records)

    def to_json(self, reveal: bool = False) -> dict[str, Any]:
        """A JSON-ready object: `{"schema_version", "versions", "suite", ..., kind: [...]}`."""
        rows = [as_dict(record, reveal) for record in self.records]
        made_with = {"schema_version": SCHEMA_VERSION, "versions": versions(), "suite": self.suite}
        return {**made_with, **self.extra, self.kind: rows}

    def to_frame(self, reveal: bool = False):
        """A pandas data frame with one row per record."""
        import pandas

        return pandas.DataFrame([as_dict(record, reveal) for record in self.records])

    def to_csv(self, reveal: bool = False) -> str:
        """CSV text with a header line; lists and dicts stand in their cells as JSON.

        A text that a spreadsheet would take for a formula gets a `'` before it: models and strangers wrote it.
        """
        rows = [as_dict(record, reveal) for record in self.records]
        out = io.StringIO()
        writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})
        return out.getvalue()


def _cell(value: Any) -> Any:
    """A value as a cell of CSV."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\n")  # alone, a carriage return would end the row
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text
