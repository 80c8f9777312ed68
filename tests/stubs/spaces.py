"""Stands in for Hugging Face's `spaces` in a test, and enforces what ZeroGPU asks of an app.

Imported before torch and Gradio; a GPU function runs in another process, and what goes there and comes back is pickled,
without tensors; it calls no other GPU function; its duration is a few seconds; no model runs in the app's own process.
Each call adds a line to the file that STUB_SPACES_LOG names.
"""

import gc
import io
import json
import multiprocessing
import os
import pickle
import sys
from functools import wraps
from importlib import import_module

INSIDE = multiprocessing.parent_process() is not None
if not INSIDE and {"torch", "gradio"} & set(sys.modules):
    raise ImportError("spaces must be imported before torch and gradio")


class Plain(pickle.Pickler):
    """Pickles anything but tensors."""

    def reducer_override(self, thing):
        if type(thing).__module__.partition(".")[0] == "torch":
            raise pickle.PicklingError(f"a {type(thing).__name__} can't cross to the GPU's process")
        return NotImplemented


def packed(thing) -> bytes:
    buffer = io.BytesIO()
    Plain(buffer).dump(thing)
    return buffer.getvalue()


def gradio_auto_wrap(function):
    return function


def GPU(task=None, *, duration=60):
    if task is None:
        return lambda task: GPU(task, duration=duration)
    process = Process(task.__module__, task.__name__)

    @wraps(task)
    def on_gpu(*args):
        if INSIDE:
            raise RuntimeError("a GPU function called another one")
        lasts = duration(*args) if callable(duration) else duration
        if not (isinstance(lasts, int) and 0 < lasts <= 120):
            raise RuntimeError(f"a call can't last {lasts} seconds")
        with open(os.environ["STUB_SPACES_LOG"], "a") as log:
            print(json.dumps({"seconds": lasts, "call": args[0].function.__name__}), file=log)
        forbid_models()
        yield from process.call(packed(args))

    return on_gpu


def forbid_models() -> None:
    """From now on no model runs in this process, and none that was loaded before has weights to look at."""
    import torch
    from transformers import PreTrainedModel

    def refuse(*_):
        raise RuntimeError("a model ran in the app's own process")

    if not hasattr(torch.nn.Embedding, "forbidden"):
        torch.nn.Embedding.forward, torch.nn.Embedding.forbidden = refuse, True
        for one in gc.get_objects():
            if isinstance(one, PreTrainedModel):
                one.to("meta")


class Process:
    """The GPU's process: begun with the first call, and kept."""

    def __init__(self, module: str, name: str):
        self.place, self.pipe = (module, name), None

    def call(self, arguments: bytes):
        if self.pipe is None:
            self.pipe, theirs = multiprocessing.get_context("spawn").Pipe()
            begin = multiprocessing.get_context("spawn").Process
            begin(target=serve, args=(*self.place, theirs), daemon=True).start()
        self.pipe.send_bytes(arguments)
        kind = "item"
        try:
            while kind == "item":
                kind, value = pickle.loads(self.pipe.recv_bytes())
                if kind == "error":
                    raise RuntimeError(value)
                if kind == "item":
                    yield value
        finally:
            while kind == "item":  # nobody reads on: what is still to come is not the next call's
                kind, _ = pickle.loads(self.pipe.recv_bytes())


def serve(module: str, name: str, pipe) -> None:
    """The other process: answers one call after another."""
    task = getattr(import_module(module), name).__wrapped__
    while True:
        arguments = pickle.loads(pipe.recv_bytes())
        try:
            for value in task(*arguments):
                pipe.send_bytes(packed(("item", value)))
            pipe.send_bytes(packed(("end", None)))
        except Exception as error:
            pipe.send_bytes(packed(("error", f"{type(error).__name__}: {error}")))
