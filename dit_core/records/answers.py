"""Records of what a model said, and of what was read and changed inside it."""

import re
import unicodedata
from dataclasses import dataclass

from dit_core.records.table import Record, secret


@dataclass(frozen=True)
class Verbalization(Record):
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
class Answer(Record):
    """What a method says about a diff, under a condition and to a question, where it has these.

    `score` is the method's own certainty, higher for more: comparable between answers of one method, of no unit. None
    where it has none.
    """

    diff: str
    text: str
    score: float | None = None
    condition: str = ""
    question: str = ""


@dataclass(frozen=True)
class Target(Record):
    """What was read: the tokens of one condition's prompt and, behind them, of what it answered.

    The first `prompt_tokens` of `tokens` are the prompt, the chat template's own among them. A prompt can hold a
    secret trigger, so listings leave the tokens out until it is revealed.
    """

    diff: str
    condition: str
    asked: str
    prompt_tokens: int
    tokens: tuple[str, ...] = secret()


@dataclass(frozen=True)
class Reading(Record):
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
    text: str
    tokens: tuple[str, ...]
    token_probabilities: tuple[float, ...]
    confidence: float
    grade: int | None = secret()
    log_prob_reference: float | None = secret()


@dataclass(frozen=True)
class Lift(Record):
    """How much likelier an oracle finds the diff's reference than other texts: nats per token, teacher-forced."""

    diff: str
    condition: str
    layer: int
    depth_percent: float
    positions: tuple[int, ...]
    question: str
    lift: float


@dataclass(frozen=True)
class NextToken(Record):
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
class Norm(Record):
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
class LensToken(Record):
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
class AdlFinding(Record):
    """What the activation difference lens as published shows of one mean activation: a token, or a steered text.

    The mean is over many texts, at one layer and position; `vector` says of what: `base`, `finetuned` (the base with
    the diff), their `difference`, or the `negative difference`. `lens` is `logit lens`, `patchscope` or `steering`.
    Of a token, `place` counts from 0, the likeliest, and `weight` is its probability; of a text that the diff's model
    wrote when it was asked `prompt`, `place` is the sample's number, and there is no weight. `scale` is how large the
    vector was made, in sizes of an activation; None for the logit lens. `grade` (1 to 5), of `text` alone, needs a diff
    whose reference is known.
    """

    diff: str
    layer: int
    depth_percent: float
    position: int
    vector: str
    lens: str
    scale: float | None
    prompt: str
    place: int
    text: str
    weight: float | None
    grade: int | None = secret()


@dataclass(frozen=True)
class Similarity(Record):
    """The cosine of the angle between a diff's mean activation differences at two layers and positions."""

    diff: str
    layer: int
    position: int
    other_layer: int
    other_position: int
    cosine: float


@dataclass(frozen=True)
class SteeredText(Record):
    """What the base wrote while `strength` times a diff's mean activation difference was added at one layer."""

    diff: str
    layer: int
    strength: float
    prompt: str
    sample: int
    text: str


@dataclass(frozen=True)
class ModuleChange(Record):
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
class SweepPoint(Record):
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
    log_prob_reference: float | None = secret()


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text as texts are compared: case folded, letters and digits only."""
    return tuple(re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold()))
