"""What is asked of an oracle: a checked request, and the prompt it becomes, as published in arXiv 2512.15674."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

from dit_core.engine.model import Model
from dit_core.errors import DitError, checked_integer, checked_number, checked_text, did_you_mean
from dit_core.methods.sampling import Diffs, Layers, Sampling, checked_sampling
from dit_core.records.condition import MAX_NUMBER, Condition, as_list
from dit_core.request.conditions import Span
from dit_core.request.targets import ACTIVATION_KINDS, Questions, TargetRow, target_rows
from dit_core.suite import OracleInfo, Suite
from dit_core.suite.catalog import oracle_percents

SPAN = "last:10"
READING_TOKENS = 10  # of an oracle's answer, unless another number is asked for
PLACEHOLDER = " ?"
PROMPT = "Layer: {layer}\n{placeholders} \n{question}"


class TargetOptions(TypedDict, total=False):
    """What says which tokens are read; the docstring of `read` says what each means."""

    condition: str | Condition | Sequence[str | Condition | tuple[str | Condition, str]] | None
    asked: Questions
    span: str | Span
    answer_tokens: int | None
    seed: int


class ReadOptions(TargetOptions, total=False):
    """Options of `read` and `stream` besides the suite and the diff; the docstring of `read` says what each means."""

    question: str | Sequence[str] | None
    layers: Layers
    kind: str
    samples: int
    temperature: float
    max_new_tokens: int
    oracle: str | None
    block: int | None
    coefficient: float
    placeholders: int | None


@dataclass(frozen=True)
class Targets:
    """Which tokens are read, checked. `answer_tokens` is 0 where the targets need not answer."""

    suite: Suite
    rows: tuple[TargetRow, ...]
    span: Span
    answer_tokens: int
    seed: int


@dataclass(frozen=True)
class Request(Targets):
    """A checked request, its files fetched: what can fail in it now is what only the loaded base can tell."""

    questions: tuple[str, ...]
    layers: Layers
    kind: str
    sampling: Sampling
    oracle: str | None
    info: OracleInfo
    block: int
    coefficient: float
    placeholders: int | None


def checked_targets(
    suite: Suite,
    diff: Diffs,
    *,
    condition: Any = None,
    asked: Questions = None,
    span: str | Span = SPAN,
    answer_tokens: int | None = None,
    seed: int = 0,
) -> Targets:
    """Check the part of a request that needs no oracle; arguments and DitErrors are those of `read`."""
    seed = checked_integer(seed, "The seed", -(2**63), 2**63 - 1)
    span = span if isinstance(span, Span) else Span(span)
    if answer_tokens is not None:
        answer_tokens = checked_integer(
            answer_tokens, "The number of answer tokens", 1 if span.needs_answer else 0, 1000
        )
    elif span.needs_answer:
        answer_tokens = suite.max_new_tokens
    return Targets(suite, target_rows(suite, diff, condition, asked, seed), span, answer_tokens or 0, seed)


def checked_request(
    suite: Suite,
    diff: Diffs,
    *,
    question: str | Sequence[str] | None = None,
    layers: Layers = "all",
    kind: str = "with",
    samples: int = 1,
    temperature: float = 0.0,
    max_new_tokens: int = READING_TOKENS,
    oracle: str | None = None,
    block: int | None = None,
    coefficient: float = 1.0,
    placeholders: int | None = None,
    **where: Unpack[TargetOptions],
) -> Request:
    """Check what is asked of an oracle, and fetch its files; arguments and DitErrors are those of `read`."""
    info = oracle_info(suite, oracle)
    targets = checked_targets(suite, diff, **where)
    if placeholders is not None:
        placeholders = checked_integer(placeholders, "The number of placeholders", 1, 1000)
    request = Request(
        **vars(targets),
        questions=_questions(info.questions[:1] if question is None else as_list(question)),
        layers=layers,
        kind=_checked_kind(kind, targets.rows),
        sampling=checked_sampling(
            suite, samples=samples, temperature=temperature, max_new_tokens=max_new_tokens, seed=targets.seed
        ),
        oracle=str(oracle) if oracle else None,
        info=info,
        block=checked_integer(info.block if block is None else block, "The block to inject at", 0, 10_000),
        coefficient=checked_number(coefficient, "The coefficient", -MAX_NUMBER, MAX_NUMBER),
        placeholders=placeholders,
    )
    suite.fetch(oracle=request.oracle or True)
    return request


def checked_question(text: str) -> str:
    """Return the oracle's question; DitError where it holds the placeholder."""
    if PLACEHOLDER in text:
        raise DitError("The question holds the oracle's placeholder ' ?': put question marks right after a word.")
    return text


def oracle_prompt(model: Model, layer: int, count: int, question: str) -> tuple[list[int], list[int]]:
    """Encode the oracle's prompt: the layer's number, a placeholder per activation, the question.

    Returns:
        Token ids of the prompt, and the positions of its `count` placeholders.

    Raises:
        DitError: the tokenizer has no single token for the placeholder, or the question holds it.
    """
    text = PROMPT.format(layer=layer, placeholders=PLACEHOLDER * count, question=checked_question(question))
    ids = model.encode(text)
    single = model.tokenizer.encode(PLACEHOLDER, add_special_tokens=False)
    run = [position for position, token in enumerate(ids) if [token] == single][:count]
    if len(run) != count or run != list(range(run[0], run[0] + count)):
        raise DitError("This base's tokenizer has no single token for the oracle's placeholder: use another base.")
    return ids, run


def oracle_info(suite: Suite, oracle: str | None = None) -> OracleInfo:
    """Return what is known of an oracle, by default the suite's own; DitError where it has none."""
    if oracle:
        return OracleInfo(str(oracle), str(oracle), oracle_percents(str(oracle)))
    if suite.oracle is None:
        raise DitError(
            f"The suite '{suite.name}' has no activation oracle: name one made for its base, by folder or hub id."
        )
    return suite.oracle


def _questions(texts: Sequence[Any]) -> tuple[str, ...]:
    if not texts:
        raise DitError("The oracle is asked nothing: give at least one question.")
    return tuple(dict.fromkeys(checked_question(checked_text(text, "The question")) for text in texts))


def _checked_kind(kind: str, rows: Sequence[TargetRow]) -> str:
    if kind not in ACTIVATION_KINDS:
        near = did_you_mean(str(kind), ACTIVATION_KINDS)
        raise DitError(f"There is no kind of activations '{kind}': use {', '.join(ACTIVATION_KINDS)}.{near}")
    idle = [str(condition) for _, condition, _ in rows if not condition.acts]
    if kind == "difference" and idle:
        raise DitError(
            f"There is no difference to read under '{idle[0]}', where no diff acts: choose conditions with a diff or "
            "a DIT adapter, or another kind."
        )
    return kind
