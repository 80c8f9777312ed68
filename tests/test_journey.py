"""The ways of a question and of a reading are those that the page on how it works draws."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import dit_core
from dit_core.methods.comparison import read
from dit_core.session.settings import Settings
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui.tabs.explore.events import Events

ROOT = Path(dit_core.__file__).parent
PAGE = (ROOT.parent / "docs" / "how-it-works.md").read_text("utf-8")
LOOPS = ("engine.worker:FairQueue.serve", "engine.worker:_fill")  # which go on while a request passes
STEP = re.compile(r"^\d+\. `([\w.]+:[\w.]+)`", re.MULTILINE)


def drawn(heading: str) -> list[str]:
    """The functions that the page lists under a heading, in order."""
    return STEP.findall(PAGE.partition(heading)[2].partition("\n## ")[0])


def name_of(code) -> str:
    """A function of the project as the page writes it; one inside another is called as the outer one is."""
    path = Path(code.co_filename)
    if not path.is_relative_to(ROOT):
        return ""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts) + ":" + code.co_qualname.partition(".<locals>")[0]


def travelled(suite: Suite, begin: Callable[[], Iterator]) -> list[tuple[str, str]]:
    """Calls and returns of the project's functions in both threads, as (event, name), until the iterator ends."""
    seen: list[tuple[str, str]] = []

    def watch(frame, event, arg) -> None:
        if event in ("call", "return") and (name := name_of(frame.f_code)):
            seen.append((event, name))

    suite.worker.run(lambda: sys.setprofile(watch))
    sys.setprofile(watch)
    try:
        for _ in begin():
            pass
    finally:
        sys.setprofile(None)
        suite.worker.run(lambda: sys.setprofile(None))
    return seen


def in_order(steps: list[str], names: list[str]) -> str:
    """The first of the steps that does not come after those before it; "" where all do."""
    rest = iter(names)
    return next((step for step in steps if step not in rest), "")


@pytest.fixture(scope="module")
def values(suite) -> dict:
    return vars(Settings.for_diff(suite, "topic-0412"))


def test_a_question_goes_the_way_that_is_drawn(suite, values):
    events, steps = Events(suite, "tiny"), drawn("## The way of a question")
    down, back = steps[:17], steps[17:]
    assert "passes 17 functions" in PAGE and "passes 7 on" in PAGE and (len(down), len(back)) == (17, 7)
    list(events.ask(Visit(), values))  # the base is loaded
    seen = travelled(suite, lambda: events.ask(Visit(), values))
    assert ("call", "engine.worker:_fill") in seen
    passed = [step for step in down if step not in LOOPS]
    assert not in_order(passed, [name for event, name in seen if event == "call"])
    first = seen.index(("return", down[-1]))
    passed = [step for step in back if step not in LOOPS]
    assert not in_order(passed, [name for event, name in seen[first:] if event == "return"])


def test_a_reading_goes_the_way_that_is_drawn(suite, values):
    events, visit = Events(suite, "tiny"), Visit()
    list(events.ask(visit, values))
    cards = visit.result.columns
    seen = travelled(suite, lambda: read(suite, suite.diff("topic-0412"), cards, cards))
    assert not in_order(drawn("## The way of a reading"), [name for event, name in seen if event == "call"])
