"""The notebooks: all run on the pocket suite, what is committed is what comes out, and Colab gets what it needs."""

import importlib.util
import re
import shutil
import subprocess
import sys
import types
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest

from dit_core import project
from notebooks.make import HERE, LIVE, notebooks, prepared, run

NAMES = [path.name for path in notebooks()]
KILOBYTES = 300
LATER = {"02": pytest.mark.long, "04": pytest.mark.long} | dict.fromkeys(("03", "05", "06"), pytest.mark.slow)
TRAINING_STEPS = re.compile(r"\bsteps=\d+")
REPOSITORY = re.compile(r"colab\.research\.google\.com/github/(.+?)/blob/")


def read(name: str):
    return nbformat.read(HERE / name, as_version=4)


def shape(notebook) -> list[list[tuple]]:
    """What kinds of output each code cell has; exact numbers may differ between machines."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [[(out.output_type, *sorted(out.get("data", ()))) for out in cell.outputs] for cell in cells]


def again(cells):
    """The same code cells, to run a second time."""
    return [nbformat.v4.new_code_cell(cell.source) for cell in cells if cell.cell_type == "code"]


def test_there_are_six():
    assert [name[:2] for name in NAMES] == ["01", "02", "03", "04", "05", "06"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed_reads_well_on_the_web(name):
    notebook = read(name)
    nbformat.validate(notebook)
    title, setup, *rest = notebook.cells
    named = {part for other in NAMES for part in REPOSITORY.findall(read(other).cells[0].source)}
    repository = named.pop() if named else None
    assert not named and title.source.startswith("# ") and project.badge(name, repository) in title.source
    assert setup.source == project.setup_cell(repository) and not setup.outputs
    assert sum('load_suite("pocket")' in cell.source for cell in rest) == 1  # the one line to change
    outputs = [out for cell in rest if cell.cell_type == "code" for out in cell.outputs]
    assert outputs and all(out.output_type != "error" and LIVE not in out.get("data", ()) for out in outputs)
    assert all("text/plain" in out.data for out in outputs if "data" in out)
    text = (HERE / name).read_text(encoding="utf-8")
    assert len(text) < KILOBYTES * 1000
    assert str(HERE.parent) not in text and str(Path.home()) + "/" not in text


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=LATER[name[:2]]) for name in NAMES[1:])])
def test_runs_from_top_to_bottom(name):
    """And cells with a widget once more: what the first call imports must not stand in the way of the second.

    Training takes two steps here, which make outputs of the same kinds; `make test-slow` trains as long as readers do.
    """
    notebook = prepared(HERE / name)
    for cell in notebook.cells:
        cell.source = TRAINING_STEPS.sub("steps=2", cell.source)
    notebook.cells += again([cell for cell in notebook.cells if "explorer(" in cell.source])
    made = shape(run(notebook))  # raises where a cell fails
    expected = shape(read(name))
    assert made[: len(expected)] == expected, "run `make notebooks`: what is committed is of another day"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_runs_twice_in_one_kernel(name):
    notebook = prepared(HERE / name)
    code = again(notebook.cells)
    for cell in code:  # loaded already, which it would say
        cell.source = cell.source.replace("%load_ext", "%reload_ext")
    notebook.cells += code
    made = shape(run(notebook))
    assert made[: len(code)] == made[len(code) :] == shape(read(name))


def test_whether_methods_agree_can_be_asked_of_a_suite_without_a_calibration_split(tiny_suite_folder, tmp_path):
    folder = shutil.copytree(tiny_suite_folder, tmp_path / "published")
    for index in folder.rglob("index.csv"):
        index.write_text(index.read_text().replace("calibration", "train"))
    cells = [cell.source for cell in read(NAMES[5]).cells if cell.cell_type == "code"][1:]
    code = "\n".join(cells).replace("%load_ext dit_core.widgets", "").replace('"pocket"', repr(str(folder)))
    scope: dict = {}
    exec(code, scope)
    assert {info.split for info in scope["calibration"]} == {"train"} and set(scope["said"]) == set(scope["grades"]) | {
        "trained on"
    }


def test_made_twice_is_the_same(tmp_path):
    path = tmp_path / "01_what_changed.ipynb"
    source = """
    import sys, time, random
    from ipywidgets import HTML
    print("one"); time.sleep(0.2); print("two")
    print(time.time(), file=sys.stderr)
    display(HTML("live"))
    display({"text/plain": "a", "application/json": [1 / 3 + random.random() / 1e9]}, raw=True)
    """
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("old")]
    cells.append(nbformat.v4.new_code_cell("\n".join(line.strip() for line in source.strip().split("\n"))))
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    first, second = (run(prepared(path)) for _ in range(2))
    assert first == second
    assert [out.get("text", out.get("data")) for out in first.cells[2].outputs] == [
        "one\ntwo\n",
        {"text/plain": "a", "application/json": [0.3333]},
    ]


# ---------------------------------------------------------------- the address


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://github.com/some-body/a.fork.git", "some-body/a.fork"),
        ("git@github.com:some-body/fork.git", "some-body/fork"),
        ("ssh://git@github.com/some-body/fork", "some-body/fork"),
        ("https://gitlab.com/some-body/fork.git", project.REPOSITORY),
        ("/srv/github.com/some-body/fork", project.REPOSITORY),
        ("", project.REPOSITORY),
    ],
)
def test_the_address_is_that_of_the_clones_origin(origin, expected, monkeypatch):
    monkeypatch.delenv("DIT_REPOSITORY", raising=False)
    answer = types.SimpleNamespace(stdout=f"{origin}\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert project.repository() == expected
    monkeypatch.setenv("DIT_REPOSITORY", "me/mine")
    assert project.repository() == "me/mine"
    assert "github/me/mine/" in prepared(HERE / NAMES[0]).cells[0].source


def test_what_is_not_published_has_no_badge_and_no_address(monkeypatch):
    assert project.badge(NAMES[0], None) == ""
    assert "github.com" not in project.setup_cell(None) and "{" not in project.setup_cell(None).replace("{version(", "")
    for path in notebooks():
        assert "owner_" not in path.read_text(encoding="utf-8")


# ---------------------------------------------------------------- the first cell


@pytest.mark.parametrize("repository", [None, "somebody/a-fork"])
def test_the_first_cell_does_nothing_where_all_is_there(repository, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was run"))
    path = list(sys.path)
    exec(project.setup_cell(repository), {})
    assert sys.path == path


@pytest.fixture
def colab(monkeypatch):
    """A process on Colab that knows neither this project nor what it needs; the list says what was enabled there."""
    enabled: list[bool] = []
    module = types.ModuleType("google.colab")
    module.output = types.SimpleNamespace(enable_custom_widget_manager=lambda: enabled.append(True))
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "dit_core" else known(name))
    return enabled


def pip_installs(command: list[str]) -> list[str]:
    return command[command.index("--quiet") + 1 :]


@pytest.mark.parametrize("repository", [None, "somebody/a-fork"])
def test_the_first_cell_on_colab(repository, colab, monkeypatch, tmp_path):
    commands: list[list[str]] = []

    def run_command(command, check):
        commands.append(command)
        if command[0] == "git":
            make_clone(Path(command[-1]))

    def make_clone(folder: Path) -> None:
        (folder / "dit_core").mkdir(parents=True)
        (folder / "requirements.txt").write_text((HERE.parent / "requirements.txt").read_text())

    monkeypatch.setattr(subprocess, "run", run_command)
    monkeypatch.chdir(tmp_path)
    clone = tmp_path / "dit-explorer"
    if repository is None:
        with pytest.raises(SystemExit, match="inside a clone"):
            exec(project.setup_cell(repository), {})
        make_clone(clone)
        monkeypatch.chdir(clone / "dit_core")  # as in the folder of the notebooks
    exec(project.setup_cell(repository), {})

    if repository:
        fetch = commands.pop(0)
        assert fetch[:2] == ["git", "clone"] and f"https://github.com/{repository}" in fetch
    names = (HERE.parent / "requirements.txt").read_text().split()
    wanted = [name for name in names if not name.startswith("torch")] + [f"torch=={version('torch')}"]
    assert [pip_installs(command) for command in commands] == [wanted]
    assert sys.path[0] == str(clone) and colab == [True]
