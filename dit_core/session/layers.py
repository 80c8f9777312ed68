"""Readings of the Layers tab: the settings of one, its steps and its result, free of any toolkit."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from dit_core.errors import OracleError
from dit_core.methods import lens, oracle
from dit_core.methods.oracle.request import checked_request
from dit_core.present.cards import RUNNING
from dit_core.records import Norm, Reading, Table, Target
from dit_core.records.condition import Condition, checked_text
from dit_core.session.messages import integer, number
from dit_core.session.readings import target_of
from dit_core.suite import Suite

LAST, PROMPT, ANSWER = "the last tokens", "whole prompt", "its answer"


@dataclass(frozen=True)
class LayerSettings:
    """The settings of the Layers tab, in the order of its controls; `count` is how many of 'the last tokens'."""

    diff: str
    condition: str
    asked: str
    question: str
    part: str
    count: int
    kind: str
    layers: str
    samples: int
    temperature: float
    seed: int

    @property
    def span(self) -> str:
        """The tokens to read, each on its own, as `Span` writes them."""
        return {PROMPT: "each:prompt", ANSWER: "each:answer"}.get(self.part) or f"each:last:{integer(self.count)}"

    @property
    def target(self) -> dict[str, Any]:
        """The arguments that `lens.norms` and `oracle.stream` share: which activations.

        Raises:
            DitError: the condition, the question or the seed is not valid.
        """
        return {
            "condition": str(Condition.parse(self.condition)),
            "asked": checked_text(self.asked, "The question to the model"),
            "layers": self.layers or "all",
            "seed": integer(self.seed),
        }

    @property
    def reading(self) -> dict[str, Any]:
        """The arguments of `oracle.stream`.

        Raises:
            DitError: one of them is missing or not valid.
        """
        return self.target | {
            "question": self.question,
            "span": self.span,
            "kind": self.kind,
            "samples": integer(self.samples),
            "temperature": number(self.temperature),
        }


@dataclass(frozen=True)
class LayerResult:
    """A result of the Layers tab: the target's tokens, where the diff acts, and the readings so far.

    `silent` says why the oracle reads nothing.
    """

    settings: LayerSettings
    target: Target | None = None
    norms: Table[Norm] | None = None
    readings: Table[Reading] | None = None
    silent: str = ""
    state: str = RUNNING


def steps(suite: Suite, settings: LayerSettings) -> Generator[LayerResult, None, None]:
    """Yield the result after each step: first where the diff acts, then the readings layer by layer.

    Without an oracle, or where it can't be loaded, it ends with where the diff acts. Closing the generator stops the
    work at the next batch.

    Raises:
        DitError: at once, for settings that are wrong whatever is read.
    """
    target, arguments = settings.target, settings.reading
    if suite.oracle:
        checked_request(suite, settings.diff, **arguments)
    return _steps(suite, settings, target, arguments)


def _steps(
    suite: Suite, settings: LayerSettings, request: dict[str, Any], arguments: dict[str, Any]
) -> Generator[LayerResult, None, None]:
    info, condition = suite.diff(settings.diff), Condition.parse(request["condition"])
    target = target_of(suite, info, condition, request["asked"], request["seed"], suite.max_new_tokens)
    result = LayerResult(settings, target, lens.norms(suite, info.id, **request))
    yield result
    if suite.oracle is None:
        return
    answer = len(target.tokens) - target.prompt_tokens
    tokens = {PROMPT: target.prompt_tokens, ANSWER: answer}.get(settings.part, integer(settings.count))
    # A batch per layer, so that the map fills row by row.
    at_once = max(tokens, 1) * arguments["samples"]
    try:
        with closing(oracle.stream(suite, info.id, at_once=at_once, **arguments)) as tables:
            for readings in tables:
                yield replace(result, readings=readings)
    except OracleError as error:
        yield replace(result, silent=str(error))
