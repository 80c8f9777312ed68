"""The project itself: version and addresses, what a result was made with, what it ships, and what is loaded late.

The version and every address stand here once. There is no public address yet: until REPOSITORY has one, no badge and no
link is shown, and notebooks install from the clone they lie in. A fork needs no edit: its `origin` is asked.
"""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

T = TypeVar("T")
VERSION = "0.1.0"
REPOSITORY: str | None = None
"""`owner/name` on GitHub, once the project is published."""
BRANCH = "main"
COLAB = "https://colab.research.google.com"
COMPUTING_PACKAGES = ("torch", "transformers", "peft")
_GITHUB = re.compile(r"(?:https://|git@|ssh://git@)github\.com[:/]([\w-]+/[\w.-]+?)(?:\.git)?/?")
_PACKAGE = Path(__file__).resolve().parent


def assets() -> Path:
    """Return the folder of the embedded suites: inside an installed package, beside it in a clone."""
    installed = _PACKAGE / "assets"
    return installed if installed.is_dir() else _PACKAGE.parent / "assets"


@lru_cache
def versions() -> dict[str, str]:
    """Return the versions of this package, of Python and of what computes, by name.

    Packages that are not installed are left out; none is imported.
    """
    found = {"dit_core": VERSION, "python": platform.python_version()}
    for package in COMPUTING_PACKAGES:
        try:
            found[package] = installed_version(package)
        except PackageNotFoundError:
            continue
    return found


def lazy_exports(package: str, rooms: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__`, which load names from their modules when first used (PEP 562).

    `rooms` has the module inside the package for each name. Their types need an import under TYPE_CHECKING, or a stub.
    """

    def load(name: str) -> Any:
        if name not in rooms:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(import_module(f"{package}.{rooms[name]}"), name)

    return load, lambda: sorted({*vars(sys.modules[package]), *rooms})


class lazy_property(Generic[T]):
    """A property whose value is kept in its object; nothing is kept where computing it raises.

    `functools.cached_property` up to Python 3.11 computes under one lock for all objects of a class, so that fetching
    one suite would block every other one. Here two threads may compute the same value twice, which does no harm.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self.__doc__ = compute, compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> "lazy_property[T]": ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> T: ...

    def __get__(self, instance: object, owner: type | None = None) -> "T | lazy_property[T]":
        if instance is None:
            return self
        value: T = instance.__dict__.setdefault(self._name, self._compute(instance))
        return value


def repository() -> str | None:
    """Return `owner/name` on GitHub: from DIT_REPOSITORY, else this clone's `origin`, else REPOSITORY."""
    if wanted := os.environ.get("DIT_REPOSITORY"):
        return wanted
    command = ["git", "remote", "get-url", "origin"]
    try:
        origin = subprocess.run(command, cwd=_PACKAGE, capture_output=True, text=True).stdout.strip()
    except OSError:  # no git
        origin = ""
    match = _GITHUB.fullmatch(origin)
    return match[1] if match else REPOSITORY


def badge(notebook: str, repository: str | None) -> str:
    """Return the "Open in Colab" line, in Markdown, of a notebook in `notebooks/`; "" where nothing is published."""
    if repository is None:
        return ""
    picture, link = f"{COLAB}/assets/colab-badge.svg", f"{COLAB}/github/{repository}/blob/{BRANCH}/notebooks/{notebook}"
    return f"[![Open in Colab]({picture})]({link})"


def setup_cell(repository: str | None) -> str:
    """Return the first code cell of every notebook: it makes `dit_core` importable, on Colab and elsewhere."""
    fetch = _FETCH.replace("{address}", f"https://github.com/{repository}") if repository else ""
    return _SETUP.replace("{fetch}", fetch)


_FETCH = """\
if on_colab and not Path("dit_core").is_dir():
    import os

    if not Path("dit-explorer").is_dir():
        subprocess.run(["git", "clone", "--quiet", "--depth=1", "{address}", "dit-explorer"], check=True)
    os.chdir("dit-explorer")
"""
# Torch is held at the version that is there: Colab's own fits its GPU.
_SETUP = """\
# Finds the clone of DIT Explorer that this notebook lies in, and installs what is missing.
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

on_colab = "google.colab" in sys.modules
{fetch}\
if find_spec("dit_core") is None:
    folders = [folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "dit_core").is_dir()]
    if not folders:
        raise SystemExit("Open this notebook inside a clone of DIT Explorer, or go to one (%cd), and run this again.")
    sys.path.insert(0, str(folders[0]))
    if on_colab or find_spec("peft") is None:
        lines = (folders[0] / "requirements.txt").read_text().split()
        wanted = [line for line in lines if not line.startswith("torch")]
        wanted.append(f"torch=={version('torch')}" if find_spec("torch") else "torch")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted], check=True)
if on_colab:
    from google.colab import output

    output.enable_custom_widget_manager()  # for the explorer's plot"""
