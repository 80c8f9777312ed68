"""Hugging Face ZeroGPU: a GPU that is lent to one call at a time, in another process.

Imported before torch and Gradio, as the platform's `spaces` has to come before both; elsewhere nothing of it is needed.
What crosses to the other process is a named function of a suite with plain arguments, and what it gives is plain.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dit_core.errors import DitError

if TYPE_CHECKING:
    from dit_core.suite import Suite
    from dit_core.suite.offload import RemoteCall

ZERO_GPU = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
BEGINNING = 20  # seconds until the first token: the model moves to the GPU and adapters are put on it
PER_TOKEN = 0.12  # seconds per token of an answer, all rows of a batch together
LONGEST = 120
ONE_TOKEN = 20  # tokens that a call without answers counts for
LAYERS = 8  # readings come layer by layer, and take as long as so many answers
ROWS = 64  # answers that are written in the time of one

if ZERO_GPU:
    import spaces


def seconds(call: RemoteCall) -> int:
    """Return how many seconds a call may take on the GPU, from what it asks for."""
    options = call.options
    tokens = options.get("max_new_tokens") or options.get("answer_tokens") or ONE_TOKEN
    layers = LAYERS if call.function.__module__.startswith("dit_core.methods.oracle") else 1
    batches = math.ceil(_answers(call) / ROWS)
    # What is wrong with a request is found where it is answered: no number of it is trusted here.
    return max(BEGINNING, min(LONGEST, BEGINNING + math.ceil(PER_TOKEN * tokens * layers * batches)))


def _answers(call: RemoteCall) -> int:
    """Return how many answers a call asks for: each combination of what it lists, so many times."""
    options = call.options
    listed = [*call.arguments, *(options.get(name) for name in ("diff", "condition", "question"))]
    # A mapping has conditions for each of its questions.
    counts = [
        sum(map(len, values.values())) if isinstance(values, Mapping) else len(values)
        for values in listed
        if _is_list(values)
    ]
    return math.prod(counts) * options.get("samples", 1)


def _is_list(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple) and len(value) > 0


def on_gpu(call: RemoteCall) -> Iterator[tuple[str, Any]]:
    """Yield a call's results, each as ('item', it), or ('error', a sentence): an exception would lose its words."""
    try:
        for item in call.run():
            yield "item", item
    except DitError as error:
        yield "error", str(error)


if ZERO_GPU:
    on_gpu = spaces.GPU(duration=seconds)(on_gpu)


def elsewhere(call: RemoteCall) -> Iterator[Any]:
    """Yield the results of a call on the GPU.

    Raises:
        DitError: the call raised it, or the platform lends no GPU now.
    """
    import gradio as gr

    try:
        for kind, value in on_gpu(call):
            if kind == "error":
                raise DitError(value)
            yield value
    except gr.Error as error:  # the platform's own words, such as that a visitor's quota is used up
        raise DitError(str(error.message)) from error


def move_in(suite: Suite) -> None:
    """Load a suite's base in this process, as ZeroGPU wants it, and send all work with it to the GPU's process."""
    suite.worker.run(lambda: suite.model)
    suite.worker.offload = elsewhere
