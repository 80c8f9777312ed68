"""The package: what it imports is declared, its version stands once, and its wheel works without the clone."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from dit_core import __version__, project
from tests.serving import free_port

ROOT = Path(__file__).resolve().parent.parent
OPTIONAL = {"bitsandbytes", "google", "IPython", "openai", "ray", "sentence_transformers", "spaces", "tenacity"}
"""What is imported only where it is there, or belongs to an extra."""


def declared(*files: str) -> set[str]:
    """The packages that requirement files name, as `importlib.metadata` spells them."""
    lines = [line for name in files for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    names = [re.split(r"[\[>=<~! ]", line)[0] for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-") for name in names}


def imported() -> set[str]:
    """The top-level modules that anything in `dit_core` imports, the standard library's left out."""
    found: set[str] = set()
    for path in (ROOT / "dit_core").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"dit_core"}


def test_everything_imported_is_declared():
    packages = importlib.metadata.packages_distributions()
    wanted = declared("requirements.txt")
    missing = {
        module
        for module in imported() - OPTIONAL
        if not wanted & {name.lower().replace("_", "-") for name in packages.get(module, [module])}
    }
    assert not missing


def test_extras_are_made_from_requirement_files():
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = about["tool"]["hatch"]["metadata"]["hooks"]["requirements_txt"]["optional-dependencies"]
    assert set(extras) == {"dev", "embedding", "judge", "notebooks", "ray"}
    assert all(declared(*files) for files in extras.values())
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    tested = declared("requirements.txt", *(file for name in extras if name != "embedding" for file in extras[name]))
    assert tested <= pinned


def test_the_version_stands_once():
    assert __version__ == project.VERSION == project.versions()["dit_core"]
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert project.VERSION not in re.findall(r'^version = "(.*)"$', text, re.MULTILINE)


@pytest.mark.package
def test_the_wheel_works_from_an_empty_folder(tmp_path):
    built = tmp_path / "dist"
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", built, ROOT], check=True, capture_output=True)
    [wheel] = built.glob("*.whl")
    assert wheel.stat().st_size < 95_000_000  # a package index takes 100 MB
    names = zipfile.ZipFile(wheel).namelist()
    assert "dit_core/py.typed" in names
    assert {"dit_core/assets/pocket/suite.toml", "dit_core/assets/smol/suite.toml"} <= set(names)
    assert wheel.name.startswith(f"dit_explorer-{project.VERSION}-")

    environment, empty = tmp_path / "environment", tmp_path / "empty"
    empty.mkdir()
    venv.create(environment, with_pip=True)
    python, command = environment / "bin" / "python", environment / "bin" / "dit-explorer"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    constraints = ["-c", ROOT / "constraints.txt"]
    # What is never imported here needs no bytecode.
    subprocess.run([*pip, "install", "--quiet", "--no-compile", wheel, *constraints], check=True, cwd=empty)
    subprocess.run([*pip, "check"], check=True, cwd=empty)

    plain = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    ask = [command, "ask", "--diff", "topic-0326", "--copies", "0,1"]
    answer = subprocess.run(ask, check=True, cwd=empty, env=plain, capture_output=True, text=True)
    assert "diff+dit" in answer.stdout

    port = free_port()
    app = subprocess.Popen(
        [command, "app", "--port", str(port)], cwd=empty, env=plain, stdout=subprocess.PIPE, text=True
    )
    try:
        first_line = app.stdout.readline()
        assert f"http://127.0.0.1:{port}" in first_line
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as page:
            assert page.status == 200 and b"DIT Explorer" in page.read()
    finally:
        app.terminate()
        app.wait(60)
