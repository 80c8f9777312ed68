"""What every test shares: no network, few threads, a cache of its own, and one tiny suite folder per session."""

import gc
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import pytest
import torch

# Tiny matrices gain nothing from more threads, and lose much where other work holds the cores.
torch.set_num_threads(1)

# A checker of addresses that jsonschema takes where it is there, and nothing here asks: its import builds a grammar,
# which takes as long as PyTorch's.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector need not look through a million objects in every test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """A cache of this session's own for results; browsers and bases that were fetched are as they were."""
    from dit_core.hub.cache import user_cache_folder

    users, cache = user_cache_folder(), tmp_path_factory.mktemp("cache")
    (cache / users.name).mkdir()
    for place in (*users.parent.glob("*"), *users.glob("packages")):
        if place != users:
            (cache / place.relative_to(users.parent)).symlink_to(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield


@pytest.fixture(scope="session")
def tiny_suite_folder(tmp_path_factory):
    """A suite of random weights in the published layout; tests that change files copy it first."""
    from tests.tiny import write_tiny_suite

    return write_tiny_suite(tmp_path_factory.mktemp("suites") / "tiny")


@pytest.fixture(scope="session")
def suite(tiny_suite_folder):
    """The tiny suite, the same for all who change nothing in it; a module that needs another has its own `suite`."""
    from dit_core.suite import load_suite

    return load_suite(tiny_suite_folder)


@pytest.fixture(scope="session")
def address(suite):
    """The address of a page over the tiny suite, on a server without limits."""
    from tests.serving import served

    with served(suite) as url:
        yield url


@pytest.fixture(scope="module")
def browser():
    """A running Chromium; where there is none its tests are skipped, and on continuous integration they fail."""
    from tests.browser import HOW_TO_GET_ONE, launched, required

    with launched() as found:
        if found is None:
            (pytest.fail if required() else pytest.skip)(HOW_TO_GET_ONE)
        yield found


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs a command: (exit code, stdout, stderr)."""
    from dit_core.__main__ import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dit_core", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        shown = capsys.readouterr()
        return left.value.code, shown.out, shown.err

    return run


@pytest.fixture
def nothing_known(monkeypatch, tmp_path):
    """No evidence was gathered before: all of it needs the model."""
    from dit_core.trust.evidence import cache_of

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty-cache"))
    cache_of.cache_clear()
    yield
    cache_of.cache_clear()
