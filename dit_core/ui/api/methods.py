"""What the oracle and the logit lens read, as named endpoints beside those of `api`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import gradio as gr

from dit_core.methods import comparison
from dit_core.methods import lens as lens_methods
from dit_core.methods.oracle.request import ReadOptions
from dit_core.records import DiffInfo, Reading, Table
from dit_core.session.job import follow
from dit_core.suite import Suite
from dit_core.trust import stream_confidence, stream_reading_confidence


def oracle_functions(
    suite: Suite,
    plainly: Callable[[], AbstractContextManager],
    running: Callable[[Any], AbstractContextManager],
    asked_columns: Callable[[Suite, DiffInfo, list[str], str], Sequence[comparison.Column]],
) -> list[Callable]:
    """The endpoints' functions over one suite.

    `plainly` turns a `DitError` into what a client sees, `running` gives the signal that stops what a client waits
    for, `asked_columns` the conditions that stand side by side.
    """

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
    ) -> dict:
        """Reads conditions of a diff through the suite's activation oracle: its answer for every layer, in words.

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
        options: ReadOptions = {"question": question or None, "layers": layers, "span": span, "kind": kind}
        options |= {"samples": samples, "temperature": temperature, "seed": seed}
        readings: Table[Reading] = Table(suite.name, "readings", ())
        with plainly(), running(request) as stopped:
            info = suite.diff(diff)
            wanted = asked_columns(suite, info, conditions or [], asked)
            for table in follow(comparison.readings(suite, info, wanted, **options), stopped, frame=0):
                readings = table
        return readings.to_json()

    def layers(
        diff: str, conditions: list[str] | None = None, asked: str = "", reference: bool = False, seed: int = 0
    ) -> dict:
        """Says how high, at every layer, the token stands with which each condition begins its answer (logit lens).

        It needs no oracle.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            conditions: conditions in their written form, such as 'diff+dit*2+right' or 'base'; empty for the
                standing comparison: base, diff, diff + right trigger, DIT alone, diff + DIT.
            asked: what the model is asked; empty for the question that the suite asks about this kind of diff.
            reference: also the first token of what the diff was really trained on, which gives it away.
            seed: the same seed gives the same digits around triggers.
        """
        with plainly():
            info = suite.diff(diff)
            wanted = asked_columns(suite, info, conditions or [], asked)
            return comparison.next_tokens(suite, info, wanted, reference=reference, seed=seed).to_json()

    return [oracle, layers]


def lens_functions(suite: Suite, plainly: Callable[[], AbstractContextManager]) -> list[Callable]:
    """The endpoints' functions over one suite; `plainly` turns a `DitError` into what a client sees."""

    def lens(diff: str, layers: str = "all", positions: int = 5, top: int = 5, strength: float = 1.0) -> dict:
        """Shows the words in what a diff changes: the Activation Difference Lens, by logit lens and by patchscope.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            layers: 'all', or numbers like '0,3-5'.
            positions: how many tokens are read at the start of each unrelated text.
            top: how many words per method, layer and position, the likeliest first.
            strength: how much of the diff acts; any number but 0.
        """
        with plainly():
            found = lens_methods.difference_lens(
                suite, diff, layers=layers, positions=positions, top=top, strength=strength
            )
        return found.to_json()

    def norms(diff: str, condition: str = "diff", question: str = "", layers: str = "all", seed: int = 0) -> dict:
        """Says where a condition acts: how much it changes the residual stream per layer and token of the prompt.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            condition: a condition in its written form, such as 'diff', 'diff+dit*2' or 'diff+right'.
            question: what the model is asked; empty for the question that the suite asks about this kind of diff.
            layers: 'all', or numbers like '0,3-5'.
            seed: the same seed gives the same digits around triggers.
        """
        with plainly():
            return lens_methods.norms(
                suite, diff, condition=condition, asked=question or None, layers=layers, seed=seed
            ).to_json()

    return [lens, norms]


def trust_functions(
    suite: Suite, plainly: Callable[[], AbstractContextManager], running: Callable[[Any], AbstractContextManager]
) -> list[Callable]:
    """The endpoints' functions over one suite.

    `plainly` turns a `DitError` into what a client sees, `running` gives the signal that stops what a client waits for.
    """

    def last(tables: Callable[[], Generator[Table[Any], None, None]], kind: str, request: gr.Request | None) -> dict:
        newest: Table[Any] = Table(suite.name, kind, ())
        with plainly(), running(request) as stopped:
            for table in follow(tables(), stopped, frame=0):
                newest = table
        return newest.to_json()

    def confidence(
        diff: str, adapter: str = "", samples: int = 16, seed: int = 0, request: gr.Request | None = None
    ) -> dict:
        """Says how far what a DIT adapter says about a diff can be trusted: samples, controls, and a probability.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            adapter: the name of a DIT adapter; empty for that of the diff's task.
            samples: answers per diff and control; the calibration is for 16.
            seed: the same seed gives the same samples.
        """
        return last(
            lambda: stream_confidence(suite, diff, adapter=adapter or None, samples=samples, seed=seed),
            "confidence",
            request,
        )

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
    ) -> dict:
        """Says how far what the oracle reads of a diff can be trusted, layer by layer: samples, controls, chance.

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
        return last(
            lambda: stream_reading_confidence(
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
            ),
            "reading_confidence",
            request,
        )

    return [confidence, reading_confidence]
