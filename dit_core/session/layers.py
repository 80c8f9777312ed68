"""What the Layers tab reads, free of any toolkit."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from dit_core.errors import checked_text
from dit_core.methods import lens, oracle
from dit_core.methods.oracle.request import checked_request
from dit_core.records import Norm, Reading, Table, Target
from dit_core.records.condition import Condition
from dit_core.session.job import Result, State, TimeLeft
from dit_core.session.readings import target_of
from dit_core.session.tab import Tab, integer, number
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.suite.snippets import IMPORTS, call, opening_lines

NO_ORACLE = "This suite has no activation oracle, so nothing is read in words; where the diff acts needs none."
LAST, PROMPT, ANSWER = "the last tokens", "whole prompt", "its answer"


@dataclass(frozen=True)
class LayerSettings:
    """The settings of the Layers tab; `count` is how many of 'the last tokens'."""

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
class LayerResult(Result[LayerSettings]):
    """A result of the Layers tab: the target's tokens, where the diff acts, and the readings so far."""

    target: Target | None = None
    norms: Table[Norm] | None = None
    readings: Table[Reading] | None = None


class LayerTab(Tab[LayerSettings, LayerResult]):
    """Reads layers: first where the diff acts, then what the oracle reads, layer by layer."""

    name, button, settings_type, result_type = "layers", "Read", LayerSettings, LayerResult
    counting = "Reading {done} of {total}"

    def __init__(self, suite: Suite, suite_ref: str = "") -> None:
        super().__init__(suite, suite_ref)
        self.idle = "" if suite.oracle else NO_ORACLE

    def start(self, first: LayerResult) -> Generator[LayerResult, None, None]:
        """Return the result after each step; without an oracle it ends with where the diff acts.

        Raises:
            DitError: at once, for settings that are wrong whatever is read.
        """
        request, arguments = first.settings.target, first.settings.reading
        if self.suite.oracle:
            checked_request(self.suite, first.settings.diff, **arguments)
        return self._steps(first, request, arguments)

    def _steps(
        self, first: LayerResult, request: dict[str, Any], arguments: dict[str, Any]
    ) -> Generator[LayerResult, None, None]:
        suite, settings = self.suite, first.settings
        info, condition = suite.diff(settings.diff), Condition.parse(request["condition"])
        target = target_of(suite, info, condition, request["asked"], request["seed"], suite.max_new_tokens)
        result = replace(first, target=target, norms=lens.norms(suite, info.id, **request))
        yield result
        if suite.oracle is None:
            return
        answer = len(target.tokens) - target.prompt_tokens
        tokens = {PROMPT: target.prompt_tokens, ANSWER: answer}.get(settings.part, integer(settings.count))
        # A batch per layer, so that the map fills row by row.
        at_once = max(tokens, 1) * arguments["samples"]
        with closing(oracle.stream(suite, info.id, at_once=at_once, **arguments)) as tables:
            for readings in tables:
                yield replace(result, readings=readings)

    def progress(self, result: LayerResult) -> tuple[float, float]:
        """Return how many readings there are, of how many."""
        return (len(result.readings), result.readings.extra["n_readings"]) if result.readings else (0, 0)

    def words(self, result: LayerResult, clock: TimeLeft) -> str:
        """Return which step is under way, and how far the readings are."""
        if result.norms is None:
            return "Reading the prompt…"
        if result.readings is None:
            return "Asking the oracle…" if self.suite.oracle else "Comparing with the base…"
        return super().words(result, clock)

    def ending(self, result: LayerResult) -> str:
        """Return how a reading has ended, and why there is less to see where that is so."""
        if result.state is State.STOPPED:
            return f"Stopped after {len(result.readings or ())} readings. What was read stays."
        return self.idle

    def cell(self, visit: Visit) -> str:
        """Return the lines that read and draw the same in a notebook; "" before anything was read."""
        result = self.result(visit)
        if result is None or not result.norms:
            return ""
        suite, settings = self.suite, result.settings
        acts = call("norms", suite, settings.diff, settings.target)
        target = call("targets", suite, settings.diff, {**settings.target, "span": settings.span})
        imports = "from dit_core.methods.lens import norms", "from dit_core.methods.oracle import targets"
        drawn = [f"plots.difference_norms({acts}, target.tokens).show()"]
        if suite.oracle:
            imports = imports[0], "from dit_core.methods.oracle import read, targets"
            read = call("read", suite, settings.diff, settings.reading)
            drawn.append(f"plots.heat_map({read}, target.tokens).show()")
        lines = opening_lines(suite, self.suite_ref, settings.diff, *IMPORTS, *imports)
        return "\n".join([*lines, f"[target] = {target}", *drawn, ""])
