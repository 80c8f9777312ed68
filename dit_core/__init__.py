"""Diff Interpretation Tuning: adapters that make a finetuned model say what its finetuning changed.

    from dit_core import ask, load_suite

    suite = load_suite("pocket")
    table = ask(suite, diff="volcano", copies=[0, 1, 2], trigger=["absent", "right"])
    print(table.to_frame())

Names load their rooms when first used: importing the package alone starts neither torch nor Gradio.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    "DitError": "errors",
    "DiffInfo": "records",
    "Score": "records",
    "Table": "records",
    "Verbalization": "records",
    "Adapter": "formats",
    "read_dit_adapter": "formats",
    "read_peft": "formats",
    "read_weight_diff": "formats",
    "write_peft": "formats",
    "Model": "model",
    "generate": "generation",
    "Suite": "suite",
    "load_suite": "suite",
    "Condition": "conditions",
    "grid": "conditions",
    "grade": "grading",
    "ask": "verbalize",
    "stream": "verbalize",
    "scoreboard": "experiments",
}

__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'dit_core' has no attribute '{name}'")
    return getattr(import_module(f"dit_core.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
