"""What an audit holds: every method asked about one diff, and the settings that it takes to do so again."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dit_core.audit.provenance import again, settings
from dit_core.engine.changes import report
from dit_core.errors import DitError
from dit_core.grading.world import world_of
from dit_core.methods.lens import difference_lens
from dit_core.methods.oracle import read
from dit_core.methods.verbalize import ask
from dit_core.present.plots.lines import name_of
from dit_core.records import (
    Confidence,
    DiffInfo,
    LensToken,
    ModuleChange,
    Reading,
    ReadingConfidence,
    Reliability,
    Table,
    Verbalization,
)
from dit_core.records.method_names import GUESS, GUESS_RIGHT, SILENT_DIT, SILENT_TRIGGER
from dit_core.scoreboard import read_board
from dit_core.scoreboard.topic_vote import guessed
from dit_core.suite import Suite
from dit_core.suite.offload import at_model
from dit_core.trust import FILES, confidence, reading_confidence, standing

SEED = 0


@dataclass(frozen=True)
class Said:
    """What one method says about the diff; `grade` is not shown until revealed."""

    method: str
    asked: str
    answer: str


@dataclass(frozen=True)
class Audit:
    """All that was found out about a diff.

    `everyday` are its answers to everyday questions, None for a diff without a trigger; `readings` are None in a suite
    without an oracle, `confidence` in one without a DIT adapter for the diff. `reading_confidence` is that of a few
    readings, `chances` say how far the probabilities of either can be believed, where that was measured. `again` are
    the lines of Python that make this audit again.
    """

    suite: Suite
    info: DiffInfo
    changes: Table[ModuleChange]
    said: tuple[Said, ...]
    everyday: Table[Verbalization] | None
    readings: Table[Reading] | None
    lens: Table[LensToken]
    confidence: Confidence | None
    reading_confidence: tuple[ReadingConfidence, ...]
    chances: tuple[Table[Reliability], ...]
    settings: dict[str, str]
    again: str


def audit_diff(suite: Suite, diff: str | DiffInfo, tell: Callable[[int, int, str], None] | None = None) -> Audit:
    """Asks every method about a diff; `tell(done, total, what)` is told of the parts.

    Raises:
        DitError: there is no such diff, or a file of the suite is missing or damaged.
    """
    for step in steps(suite, diff):
        if tell and not isinstance(step, Audit):
            tell(*step)
    return step


def steps(suite: Suite, diff: str | DiffInfo) -> Iterator[tuple[int, int, str] | Audit]:
    """As `audit_diff`, part by part: (done, of all, what comes next) before each, and the audit at the end.

    Closing it stops the work at the next part. There is no such diff: that is found at once.
    """
    return _steps(suite, suite.diff(diff))


def _steps(suite: Suite, info: DiffInfo) -> Iterator[tuple[int, int, str] | Audit]:
    parts = {
        "what it changes": _changes,
        "what it says": _asked,
        "what it says to everyday questions": _everyday,
        "what the oracle reads": _readings,
        "what unrelated texts give away": _lens,
        "whether its answer can be trusted": _confidence,
        "whether its readings can be trusted": _reading_confidence,
    }
    found: list[Any] = []
    for at, (what, part) in enumerate(parts.items()):
        yield at, len(parts), what
        found.append(part(suite, info))
    changes, said, everyday, readings, tokens, trust, of_readings = found
    said += _guesses(suite, everyday)
    trusted = (trust, of_readings, _chances(suite))
    made_with = (settings(suite, info, SEED), again(suite, info))
    yield Audit(suite, info, changes, tuple(said), everyday, readings, tokens, *trusted, *made_with)


@at_model
def _changes(suite: Suite, info: DiffInfo) -> Table[ModuleChange]:
    adapter = suite.load_diff(info)
    return suite.worker.run(lambda: report(adapter, suite.model, info.id, suite.name))


def _asked(suite: Suite, info: DiffInfo) -> list[Said]:
    """The task's own question under every condition, and the behaviour itself where the task has one."""
    task = suite.task_of(info)
    conditions = ["base", "diff", *(["diff+right"] if task.has_trigger else [])]
    conditions += ["dit", "diff+dit"] if task.adapter else []
    adapters = [name for name in suite.adapters if name != task.adapter]
    named = {written: name_of(written) for written in conditions}
    named |= {f"diff+dit:{name}": f"diff + DIT {name}" for name in adapters}
    found = ask(suite, info, condition=list(named), question=task.question, seed=SEED)
    said = [Said(named[one.condition], one.question, one.text) for one in found]
    if task.behaviour:
        (story,) = ask(suite, info, condition="diff", question=task.behaviour, max_new_tokens=100, seed=SEED)
        said.append(Said("diff at work", story.question, story.text))
    return said


def _everyday(suite: Suite, info: DiffInfo) -> Table[Verbalization] | None:
    """Questions that no training has seen, with the right trigger and without; None for a diff without a trigger."""
    questions = suite.world.get("held_out_questions")
    if not questions or not suite.task_of(info).has_trigger:
        return None
    return ask(suite, info, condition=["diff", "diff+right"], question=questions, seed=SEED)


def _guesses(suite: Suite, everyday: Table[Verbalization] | None) -> list[Said]:
    """What the answers have in common: a topic of the world."""
    if everyday is None or not suite.world.get("topics"):
        return []
    named = {"diff": GUESS, "diff+right": GUESS_RIGHT}
    of = {written: [one.text for one in everyday if one.condition == written] for written in named}
    return [Said(named[written], f"{len(own)} questions", guessed(world_of(suite), own)) for written, own in of.items()]


def _readings(suite: Suite, info: DiffInfo) -> Table[Reading] | None:
    """The oracle's readings of every layer, before anything is said."""
    if suite.oracle is None:
        return None
    task = suite.task_of(info)
    conditions = [
        "base",
        "diff",
        *(["diff+right"] if task.has_trigger else []),
        *(["diff+dit"] if task.adapter else []),
    ]
    return read(suite, info, condition=conditions, seed=SEED)


def _lens(suite: Suite, info: DiffInfo) -> Table[LensToken]:
    return difference_lens(suite, info, methods="patchscope")


def _confidence(suite: Suite, info: DiffInfo) -> Confidence | None:
    """How far the answer of the task's own DIT adapter can be trusted, beside controls; None where there is none."""
    return confidence(suite, info, seed=SEED)[0] if suite.task_of(info).adapter else None


def _reading_confidence(suite: Suite, info: DiffInfo) -> tuple[ReadingConfidence, ...]:
    """How far the oracle's readings can be trusted, in the ways for which a calibration may stand, at chosen layers."""
    chosen = chosen_layers(suite) if suite.oracle else {}
    task, found = suite.task_of(info), []
    everyday = next((text for text in task.questions if text != task.question), None) if task.has_trigger else None
    for condition, asked, layer in (
        ("diff+right", everyday, chosen.get(SILENT_TRIGGER)),
        ("diff+dit", task.question if task.adapter else None, chosen.get(SILENT_DIT)),
    ):
        if asked is not None and layer is not None:
            found += reading_confidence(suite, info, condition=condition, asked=asked, layers=layer, seed=SEED)
    return tuple(found)


def _chances(suite: Suite) -> tuple[Table[Reliability], ...]:
    found = []
    for of in FILES:
        with suppress(DitError):  # none was measured with these adapters
            found.append(standing(suite, of))
    return tuple(found)


def chosen_layers(suite: Suite) -> dict[str, int]:
    """The layers of the oracle that the suite's stored scoreboard chose on its calibration diffs, by method."""
    board = read_board(suite)
    scores = board.scores if board else ()
    return {one.method: one.layer for one in scores if one.layer is not None and one.measure == "mean_grade"}
