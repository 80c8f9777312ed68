"""The package's public names: loaded when first used, the same ever after, and none of them shared with a module."""

import ast
import importlib
import pkgutil
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from inspect import isfunction
from pathlib import Path

import pytest

import dit_core
from tests.tiny import tiny_model, tiny_tokenizer


def in_fresh_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_starts_nothing_heavy():
    heavy = "{'torch', 'transformers', 'peft', 'gradio', 'pandas', 'pydantic'}"
    code = f"import dit_core, sys; dit_core.DitError; dit_core.Table; print({heavy} & set(sys.modules))"
    assert in_fresh_process(code) == "set()"
    assert {"ask", "load_suite", "run_scoreboard", "Condition", "__version__"} <= set(dir(dit_core))
    with pytest.raises(AttributeError, match="nothing"):
        _ = dit_core.nothing


@pytest.mark.long
def test_names_stay_what_they_are_whatever_is_imported():
    """Importing a submodule sets its name on the package it is in: over a function of that name, if there were one."""
    code = """
import importlib, pkgutil, sys, dit_core
before = {name: (getattr(dit_core, name), getattr(dit_core, name)) for name in dit_core.__all__}
for module in pkgutil.walk_packages(dit_core.__path__, "dit_core."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
after = {name: (getattr(dit_core, name), getattr(dit_core, name)) for name in dit_core.__all__}
same = all(before[name][0] is one for name in before for one in (*before[name], *after[name]))
places = {name: name.rpartition(".") for name in sys.modules if name.startswith("dit_core.")}
hidden = [name for name, (room, _, own) in places.items() if getattr(sys.modules[room], own) is not sys.modules[name]]
print(len(before), same, hidden)
"""
    assert in_fresh_process(code) == f"{len(dit_core.__all__)} True []", "no function hides a module of its name"


@pytest.mark.parametrize("name", dit_core.__all__)
def test_no_function_shares_the_name_of_a_module_that_it_is_in(name):
    value = getattr(dit_core, name)
    if isfunction(value):
        assert name not in value.__module__.split(".")
    assert name not in {module.name for module in pkgutil.iter_modules(dit_core.__path__)}


def test_types_are_those_of_the_names():
    stub = ast.parse((Path(dit_core.__file__).parent / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [statement for statement in stub.body if isinstance(statement, ast.ImportFrom)]
    typed = {alias.asname: statement.module for statement in imports for alias in statement.names}
    assert typed.keys() | {"__version__"} == set(dit_core.__all__)
    for name, module in typed.items():
        assert getattr(importlib.import_module(module), name) is getattr(dit_core, name)


@pytest.fixture(scope="module")
def files(tiny_suite_folder, tmp_path_factory):
    """One file or folder of each kind that there is a reader for."""
    return {
        "read_checkpoint": tiny_suite_folder / "base",
        "read_dit_adapter": tiny_suite_folder / "hidden-topic" / "dit-adapter.pt",
        "read_peft": tiny_suite_folder / "oracle",
        "read_weight_diff": next((tiny_suite_folder / "hidden-topic" / "weight-diffs").glob("*.pt")),
        "identify": tiny_suite_folder / "oracle",
        "write_peft": tmp_path_factory.mktemp("files") / "peft",
    }


def uses(suite, files):
    """A small valid use of each public function and class."""
    model = suite.model
    diff, short = "topic-0412", {"max_new_tokens": 1}
    adapter = suite.load_diff(suite.diff(diff))
    found = dit_core.findings(suite, limit=1, kinds=["verbal"])
    return {
        "audit": lambda: dit_core.audit(str(files["read_weight_diff"]), suite=suite),
        "audit_diff": lambda: dit_core.audit_diff(suite, diff),
        "report": lambda: dit_core.report(adapter),
        "generate": lambda: suite.worker.run(lambda: list(dit_core.generate(model, [[3, 4]], {}, 1))),
        "approximate": lambda: suite.worker.run(lambda: dit_core.approximate(adapter, 1, model)),
        "Model": lambda: dit_core.Model(tiny_model(), tiny_tokenizer()),
        "DitError": lambda: dit_core.DitError("Say what to do."),
        "Adapter": lambda: dit_core.Adapter(adapter.factors, adapter.scaling),
        "grade": lambda: dit_core.grade(suite, suite.diff(diff), "a volcano"),
        "grader": lambda: dit_core.grader("rules").grade("volcano", "a volcano"),
        "difference_lens": lambda: dit_core.difference_lens(suite, diff, positions=1, top=1),
        "next_tokens": lambda: dit_core.next_tokens(suite, diff),
        "norms": lambda: dit_core.norms(suite, diff),
        "similarities": lambda: dit_core.similarities(suite, diff, positions=1),
        "steer": lambda: dit_core.steer(suite, diff, layer=1, strengths=1, **short),
        "lifts": lambda: dit_core.lifts(suite, diff, ["violin"], layers=1),
        "read": lambda: dit_core.read(suite, diff, layers=1, **short),
        "ask": lambda: dit_core.ask(suite, diff, **short),
        "list_methods": lambda: dit_core.list_methods(),
        "run_method": lambda: dit_core.run_method(suite, "lens", diff),
        "method_confidence": lambda: dit_core.method_confidence(suite, "lens", diff),
        "stream": lambda: list(dit_core.stream(suite, diff, **short)),
        "Condition": lambda: dit_core.Condition(1.0),
        "DiffInfo": lambda: dit_core.DiffInfo("topic-0001", "topic", "test", 1, "tram", 7),
        "Table": lambda: dit_core.Table("tiny", "rows", ()),
        "grid": lambda: dit_core.grid(copies=[0, 1]),
        "agreement": lambda: dit_core.agreement(suite, found),
        "findings": lambda: dit_core.findings(suite, limit=1, kinds=["verbal"]),
        "run_scoreboard": lambda: dit_core.run_scoreboard(suite, limit=1, kinds=["verbal"]),
        "Suite": lambda: isinstance(suite, dit_core.Suite),
        "generic_suite": lambda: dit_core.generic_suite(str(files["read_checkpoint"])),
        "load_suite": lambda: dit_core.load_suite(suite.folder),
        "sweep": lambda: dit_core.sweep(suite, diff, copies=[0, 1], **short),
        "train": lambda: dit_core.train(files["read_checkpoint"], ["too", "few", "topics"], files["write_peft"]),
        "calibrated": lambda: dit_core.calibrated(suite, limit=1),
        "confidence": lambda: dit_core.confidence(suite, diff, samples=2),
        "reading_confidence": lambda: dit_core.reading_confidence(suite, diff, samples=2, layers=1),
        "write_peft": lambda: dit_core.write_peft(files["write_peft"], adapter, "tiny"),
        **{
            name: lambda name=name, path=path: getattr(dit_core, name)(path)
            for name, path in files.items()
            if name != "write_peft"
        },
        **{
            name: lambda name=name: getattr(dit_core, name)(*(None for _ in fields(getattr(dit_core, name))))
            for name in ("Confidence", "Reading", "Reliability", "Score", "Verbalization")
        },
    }


def test_every_name_can_be_used_twice(tiny_suite_folder, files, tmp_path):
    """What the first use imports must not stand in the way of the second, as a module of the function's name would."""
    short = shutil.copytree(tiny_suite_folder, tmp_path / "short") / "suite.toml"  # whose answers are a token long
    short.write_text(re.sub(r"max_new_tokens = \d+", "max_new_tokens = 1", short.read_text()))
    known = uses(dit_core.load_suite(short.parent), files)
    assert set(known) == set(dit_core.__all__) - {"__version__"}
    for name, use in known.items():
        before = getattr(dit_core, name)
        for _ in range(2):
            try:
                use()
            except dit_core.DitError:
                assert name in ("calibrated", "train")  # too little to fit a curve on, too few topics
        assert getattr(dit_core, name) is before
