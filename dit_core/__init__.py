"""Diff Interpretation Tuning: adapters that make a finetuned model say what its finetuning changed.

    from dit_core import ask, load_suite

    suite = load_suite("pocket")
    table = ask(suite, diff="honey bee", copies=[0, 1, 2], trigger=["absent", "right"])
    print(table.to_frame())

Names load their rooms when first used: importing the package alone starts neither torch nor Gradio.
"""

from importlib import import_module
from typing import Any

from dit_core.project import VERSION as __version__

_ROOMS = {
    "DitError": "errors",
    "DiffInfo": "records",
    "Reading": "records",
    "Score": "records",
    "Table": "records",
    "Verbalization": "records",
    "Adapter": "formats",
    "identify": "formats",
    "read_checkpoint": "formats",
    "read_dit_adapter": "formats",
    "read_peft": "formats",
    "read_weight_diff": "formats",
    "write_peft": "formats",
    "Model": "engine.model",
    "generate": "engine.generation",
    "Suite": "suite",
    "load_suite": "suite",
    "generic_suite": "suite",
    "Condition": "records",
    "grid": "records",
    "grade": "grading",
    "grader": "grading",
    "ask": "methods.verbalize",
    "stream": "methods.verbalize",
    "read": "methods.oracle",
    "lifts": "methods.oracle",
    "difference_lens": "methods.lens",
    "next_tokens": "methods.lens",
    "norms": "methods.lens",
    "similarities": "methods.lens",
    "steer": "methods.lens",
    "report": "engine.changes",
    "approximate": "engine.low_rank",
    "run_scoreboard": "scoreboard",
    "findings": "scoreboard",
    "agreement": "scoreboard",
    "sweep": "sweeps.run",
    "Confidence": "records",
    "ReadingConfidence": "records",
    "Reliability": "records",
    "calibrated": "trust",
    "confidence": "trust",
    "reading_confidence": "trust",
}

__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'dit_core' has no attribute '{name}'")
    room = import_module(f"dit_core.{_ROOMS[name]}")
    # Where a room has the name itself (`lens`), its import has put it here: it is called as the function is.
    return globals().get(name) or getattr(room, name)


def __dir__() -> list[str]:
    return sorted(__all__)
