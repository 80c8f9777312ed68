"""How far an answer or a reading can be trusted, as named endpoints beside those of `api`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import gradio as gr

from dit_core.records import Table
from dit_core.session.job import follow
from dit_core.suite import Suite
from dit_core.trust import stream_confidence, stream_reading_confidence


def trust_functions(
    suite: Suite, plainly: Callable[[], AbstractContextManager], running: Callable[[Any], AbstractContextManager]
) -> list[Callable]:
    """The endpoints' functions over one suite.

    `plainly` turns a `DitError` into what a client sees, `running` gives the signal that stops what a client waits for.
    """

    def last(tables: Callable[[], Iterator[Table]], kind: str, request: gr.Request | None) -> dict:
        found = Table(suite.name, kind, ())
        with plainly(), running(request) as stopped:
            for table in follow(tables(), stopped, frame=0):
                found = table
        return found.to_json()

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
        options = {"adapter": adapter or None, "samples": samples, "seed": seed}
        return last(lambda: stream_confidence(suite, diff, **options), "confidence", request)

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
        options = {"condition": condition, "layers": layers, "asked": asked or None, "span": span, "kind": kind}
        options |= {"question": question or None, "samples": samples, "seed": seed}
        return last(lambda: stream_reading_confidence(suite, diff, **options), "reading_confidence", request)

    return [confidence, reading_confidence]
