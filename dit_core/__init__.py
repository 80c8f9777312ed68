"""Diff Interpretation Tuning: adapters that make a finetuned model say what its finetuning changed.

    from dit_core import ask, load_suite

    suite = load_suite("pocket")
    table = ask(suite, diff="honey bee", copies=[0, 1, 2], trigger=["absent", "right"])
    print(table.to_frame())

Names load their rooms when first used: importing the package alone starts neither torch nor Gradio. Their types are in
`__init__.pyi`.
"""

from dit_core.project import VERSION as __version__
from dit_core.project import lazy_exports

_ROOMS = {
    "audit": "auditing",
    "audit_diff": "auditing",
    "report": "engine.changes",
    "generate": "engine.generation",
    "approximate": "engine.changes",
    "Model": "engine.model",
    "DitError": "errors",
    "Adapter": "formats",
    "identify": "formats",
    "read_checkpoint": "formats",
    "read_dit_adapter": "formats",
    "read_peft": "formats",
    "read_weight_diff": "formats",
    "write_peft": "formats",
    "grade": "grading",
    "grader": "grading",
    "difference_lens": "methods.lens",
    "next_tokens": "methods.lens",
    "norms": "methods.lens",
    "similarities": "methods.lens",
    "steer": "methods.lens",
    "lifts": "methods.oracle",
    "read": "methods.oracle",
    "list_methods": "methods",
    "run_method": "methods",
    "ask": "methods.verbalize",
    "stream": "methods.verbalize",
    "Condition": "records",
    "Confidence": "records",
    "DiffInfo": "records",
    "Reading": "records",
    "Reliability": "records",
    "Score": "records",
    "Table": "records",
    "Verbalization": "records",
    "grid": "records",
    "agreement": "scoreboard",
    "findings": "scoreboard",
    "run_scoreboard": "scoreboard",
    "Suite": "suite",
    "generic_suite": "suite",
    "load_suite": "suite",
    "sweep": "sweeps",
    "train": "training.own",
    "calibrated": "trust",
    "confidence": "trust",
    "method_confidence": "trust",
    "reading_confidence": "trust",
}

__all__ = ["__version__", *_ROOMS]


__getattr__, __dir__ = lazy_exports(__name__, _ROOMS)
