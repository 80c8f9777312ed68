"""The package's public names: loaded when first used, the same ever after, and none of them shared with a module."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from inspect import isfunction
from pathlib import Path

import pytest

import dit_core


def in_fresh_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_starts_nothing_heavy():
    heavy = "{'torch', 'transformers', 'peft', 'gradio', 'pandas', 'pydantic'}"
    code = f"import dit_core, sys; dit_core.DitError; dit_core.Table; print({heavy} & set(sys.modules))"
    assert in_fresh_process(code) == "set()"
    assert {"ask", "load_suite", "run_scoreboard", "Condition", "__version__"} <= set(dir(dit_core))
    with pytest.raises(AttributeError, match="nothing"):
        _ = dit_core.nothing


def test_names_stay_what_they_are_whatever_is_imported():
    """Importing a submodule sets its name on the package it is in: over a function of that name, if there were one."""
    code = """
import importlib, pkgutil, dit_core
before = {name: (getattr(dit_core, name), getattr(dit_core, name)) for name in dit_core.__all__}
for module in pkgutil.walk_packages(dit_core.__path__, "dit_core."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
after = {name: (getattr(dit_core, name), getattr(dit_core, name)) for name in dit_core.__all__}
print(len(before), all(before[name][0] is one for name in before for one in (*before[name], *after[name])))
"""
    assert in_fresh_process(code) == f"{len(dit_core.__all__)} True"


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
