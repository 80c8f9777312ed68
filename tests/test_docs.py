"""The documents: their Python runs as it stands, their commands and options exist, their links lead somewhere."""

import re
import shlex
from contextlib import nullcontext
from pathlib import Path

import pytest
from typer.main import get_command

from dit_core import load_suite, write_peft
from dit_core.__main__ import make_program
from tests.serving import served

ADDRESS = "http://127.0.0.1:7860"
ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)[^)]*\)")
PROGRAM = re.compile(r"^(?:python -m dit_core|dit-explorer) (.*)$")


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page.name, text) for page in PAGES for kind, text in FENCE.findall(page.read_text("utf-8")) if kind == language
    ]


@pytest.mark.parametrize(("page", "code"), [block for block in blocks("python") if block[0] != "adding-a-method.md"])
def test_python_runs_as_it_stands(page, code, tmp_path, monkeypatch, capsys):
    suite = load_suite("pocket")
    lora = tmp_path / "path" / "to" / "lora"
    lora.parent.mkdir(parents=True)
    write_peft(lora, suite.load_diff(suite.diff("topic-0326")), "pocket")
    monkeypatch.chdir(tmp_path)
    with served(suite) if ADDRESS in code else nullcontext(ADDRESS) as address:
        exec(code.replace(ADDRESS, address.rstrip("/")), {})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("page", "line"),
    [(page, line) for page, text in blocks("sh") for line in text.splitlines() if PROGRAM.match(line)],
)
def test_commands_exist_with_these_options(page, line):
    command, *arguments = shlex.split(PROGRAM.match(line)[1], comments=True)
    if command == "--help":
        return
    known = get_command(make_program()).commands[command]
    options = {name for parameter in known.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {argument.partition("=")[0] for argument in arguments if argument.startswith("--")} <= options


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in LINK.findall(page.read_text("utf-8")):
        assert (page.parent / target).exists(), target
