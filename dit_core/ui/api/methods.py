"""What the methods beside asking give, as named endpoints, and what the endpoints of every method have in common."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dit_core.methods import comparison
from dit_core.methods import lens as lens_methods
from dit_core.methods.comparison import Column, columns
from dit_core.records import DiffInfo, Table
from dit_core.records.condition import Condition
from dit_core.session.job import QueuePosition, follow
from dit_core.suite import Suite
from dit_core.trust import stream_confidence, stream_reading_confidence
from dit_core.ui.server.public import Server, in_a_sentence


@dataclass(frozen=True)
class Api:
    """The endpoints of one page: its suite, and the server that it is on."""

    suite: Suite
    server: Server

    def cards(self, info: DiffInfo, conditions: Sequence[str] | None, question: str) -> tuple[Column, ...]:
        """Return the columns for conditions in their written form; the standing comparison for none."""
        task = self.suite.task_of(info)
        if not conditions:
            return columns(task, question or None)
        parsed = [str(Condition.parse(condition)) for condition in conditions]
        return tuple(Column("other", text, text, question.strip() or task.question) for text in parsed)

    def last(self, tables: Generator[Table[Any], None, None], kind: str, request: gr.Request | None) -> dict[str, Any]:
        """Return the last of a stream's tables as JSON, an empty one of its `kind` where the client stops it before."""
        last: Table[Any] = Table(self.suite.name, kind, ())
        with self.server.running(request) as stopped:
            for table in follow(tables, stopped, frame=0):
                last = last if isinstance(table, QueuePosition) else table
        return last.to_json()


def oracle_functions(api: Api) -> list[Callable[..., Any]]:
    """Return the endpoints that read activations: by the oracle, and by the logit lens."""
    suite = api.suite

    def oracle(
        diff: str,
        conditions: list[str] | None = None,
        question: str = "",
        asked: str = "",
        layers: str = "all",
        span: str = "last:10",
        kind: str = "with",
        samples: int = 1,
        temperature: float = 0.0,
        seed: int = 0,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Read conditions of a diff through the suite's activation oracle: its answer for every layer, in words.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            conditions: conditions in their written form, such as 'diff+dit*2+right' or 'base'; empty for the
                standing comparison: base, diff, diff + right trigger, DIT alone, diff + DIT.
            question: what the oracle is asked about the activations; empty for its first preset.
            asked: what the model is asked while they are taken; empty for the question that the suite asks about
                this kind of diff.
            layers: 'all', or numbers like '0,3-5'.
            span: which tokens are read: 'last:10', 'prompt', '7', '3:9', 'answer', 'answer:3', or 'each:' and one of
                these.
            kind: 'with' the condition, 'without' it (the base on the same tokens), or their 'difference'.
            samples: readings per condition and layer; more than one needs a temperature above 0.
            temperature: 0 takes the oracle's likeliest token each time.
            seed: the same seed gives the same sampled readings.
        """
        with in_a_sentence():
            info = suite.diff(diff)
            readings = comparison.read(
                suite,
                info,
                api.cards(info, conditions, asked),
                question=question or None,
                layers=layers,
                span=span,
                kind=kind,
                samples=samples,
                temperature=temperature,
                seed=seed,
            )
            return api.last(readings, "readings", request)

    def layers(
        diff: str, conditions: list[str] | None = None, asked: str = "", reference: bool = False, seed: int = 0
    ) -> dict[str, Any]:
        """Say how high, at every layer, the token stands with which each condition begins its answer (logit lens).

        It needs no oracle.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            conditions: conditions in their written form, such as 'diff+dit*2+right' or 'base'; empty for the
                standing comparison: base, diff, diff + right trigger, DIT alone, diff + DIT.
            asked: what the model is asked; empty for the question that the suite asks about this kind of diff.
            reference: also the first token of what the diff was really trained on, which gives it away.
            seed: the same seed gives the same digits around triggers.
        """
        with in_a_sentence():
            info = suite.diff(diff)
            cards = api.cards(info, conditions, asked)
            return comparison.next_tokens(suite, info, cards, reference=reference, seed=seed).to_json()

    return [oracle, layers]


def lens_functions(api: Api) -> list[Callable[..., Any]]:
    """Return the endpoints that show what a diff changes in activations."""
    suite = api.suite

    def lens(diff: str, layers: str = "all", positions: int = 5, top: int = 5, strength: float = 1.0) -> dict[str, Any]:
        """Show the words in what a diff changes: the Activation Difference Lens, by logit lens and by patchscope.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            layers: 'all', or numbers like '0,3-5'.
            positions: how many tokens are read at the start of each unrelated text.
            top: how many words per method, layer and position, the likeliest first.
            strength: how much of the diff acts; any number but 0.
        """
        with in_a_sentence():
            return lens_methods.difference_lens(
                suite, diff, layers=layers, positions=positions, top=top, strength=strength
            ).to_json()

    def norms(
        diff: str, condition: str = "diff", question: str = "", layers: str = "all", seed: int = 0
    ) -> dict[str, Any]:
        """Say where a condition acts: how much it changes the residual stream per layer and token of the prompt.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            condition: a condition in its written form, such as 'diff', 'diff+dit*2' or 'diff+right'.
            question: what the model is asked; empty for the question that the suite asks about this kind of diff.
            layers: 'all', or numbers like '0,3-5'.
            seed: the same seed gives the same digits around triggers.
        """
        with in_a_sentence():
            return lens_methods.norms(
                suite, diff, condition=condition, asked=question or None, layers=layers, seed=seed
            ).to_json()

    return [lens, norms]


def trust_functions(api: Api) -> list[Callable[..., Any]]:
    """Return the endpoints that say how far an answer can be trusted."""
    suite = api.suite

    def confidence(
        diff: str, adapter: str = "", samples: int = 16, seed: int = 0, request: gr.Request | None = None
    ) -> dict[str, Any]:
        """Say how far what a DIT adapter says about a diff can be trusted: samples, controls, and a probability.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            adapter: the name of a DIT adapter; empty for that of the diff's task.
            samples: answers per diff and control; the calibration is for 16.
            seed: the same seed gives the same samples.
        """
        with in_a_sentence():
            tables = stream_confidence(suite, diff, adapter=adapter or None, samples=samples, seed=seed)
            return api.last(tables, "confidence", request)

    def reading_confidence(
        diff: str,
        condition: str = "diff+dit",
        layers: str = "all",
        asked: str = "",
        span: str = "last:10",
        kind: str = "with",
        question: str = "",
        samples: int = 16,
        seed: int = 0,
        request: gr.Request | None = None,
    ) -> dict[str, Any]:
        """Say how far what the oracle reads of a diff can be trusted, layer by layer: samples, controls, chance.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            condition: a condition with a diff in its written form, such as 'diff+right' or 'diff+dit'.
            layers: 'all', or numbers like '0,3-5'.
            asked: what the model is asked; empty for the question that the suite asks about this kind of diff.
            span: which tokens are read: 'last:10', 'prompt', '7', '3:9', 'answer' or 'answer:3'.
            kind: 'with' the condition, or its 'difference' to the base.
            question: what the oracle is asked; empty for its first preset.
            samples: readings per diff and control; the calibration is for 16.
            seed: the same seed gives the same samples.
        """
        with in_a_sentence():
            tables = stream_reading_confidence(
                suite,
                diff,
                condition=condition,
                layers=layers,
                asked=asked or None,
                span=span,
                kind=kind,
                question=question or None,
                samples=samples,
                seed=seed,
            )
            return api.last(tables, "reading_confidence", request)

    return [confidence, reading_confidence]
