"""What an audit holds: the answers of every method about one diff, and how to make the same audit again."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any

from dit_core.engine.changes import report
from dit_core.errors import DitError
from dit_core.grading.rules import world_of
from dit_core.methods import Method, run_method
from dit_core.methods.lens import difference_lens
from dit_core.methods.oracle import read
from dit_core.methods.verbalize import ask
from dit_core.present.plots import name_of
from dit_core.project import versions
from dit_core.records import (
    Confidence,
    DiffInfo,
    LensToken,
    ModuleChange,
    Reading,
    Reliability,
    Table,
    Verbalization,
)
from dit_core.records.scores import GUESS, GUESS_RIGHT, SILENT_DIT, SILENT_TRIGGER
from dit_core.scoreboard import measured_methods, read_board
from dit_core.scoreboard.verbal_rows import guess_topic
from dit_core.suite import Origin, Suite
from dit_core.suite.offload import at_model
from dit_core.suite.snippets import diff_expression, load_call, opening_lines_after
from dit_core.trust import FILES, confidence, measured_reliability, reading_confidence

SEED = 0
STORY_TOKENS = 100  # of a diff's behaviour, which is longer than an answer
Progress = tuple[int, int, str]
"""Parts that are done, parts in all, and what comes next."""
PARTS = (
    "what it changes",
    "what it says",
    "what it says to everyday questions",
    "what the oracle reads",
    "what unrelated texts give away",
    "what further methods say",
    "whether its answer can be trusted",
    "whether its readings can be trusted",
)


@dataclass(frozen=True)
class MethodAnswer:
    """What one method says about the diff when it is asked `question`."""

    method: str
    question: str
    text: str


@dataclass(frozen=True)
class Chapter:
    """What a method found out about the diff that has no other place in the report."""

    method: Method[Any, Any]
    table: Table[Any]


@dataclass(frozen=True)
class Audit:
    """All that was found out about a diff.

    `everyday` holds its answers to everyday questions, None for a diff without a trigger; `readings` is None in a suite
    without an oracle, `confidence` in one without a DIT adapter for the diff. `reading_confidence` is that of a few
    readings, `chances` tell how far either's probabilities can be believed, where that was measured. `layers` are the
    oracle's layers by method, `settings` what the audit was made with, `code` the Python that makes it again.
    """

    suite: Suite
    info: DiffInfo
    changes: Table[ModuleChange]
    answers: tuple[MethodAnswer, ...]
    everyday: Table[Verbalization] | None
    readings: Table[Reading] | None
    lens: Table[LensToken]
    chapters: tuple[Chapter, ...]
    confidence: Confidence | None
    reading_confidence: tuple[Confidence, ...]
    chances: tuple[Table[Reliability], ...]
    layers: Mapping[str, int]
    settings: Mapping[str, str]
    code: str


def audit_diff(
    suite: Suite,
    diff: str | DiffInfo,
    on_progress: Callable[[int, int, str], None] | None = None,
    layers: Mapping[str, int] | None = None,
) -> Audit:
    """Ask every method about a diff.

    Args:
        suite: the suite that has the diff.
        diff: its id or its info.
        on_progress: called before each part with the parts done, the parts in all and what comes next.
        layers: the oracle's layer for each method of `records.scores`; those that the suite's stored scoreboard
            chose on its calibration diffs by default.

    Raises:
        DitError: there is no such diff, or a file of the suite is missing or damaged.
    """
    for step in audit_steps(suite, diff, layers):
        if isinstance(step, Audit):
            return step
        if on_progress:
            on_progress(*step)
    raise AssertionError("the last step is the audit")


def audit_steps(
    suite: Suite, diff: str | DiffInfo, layers: Mapping[str, int] | None = None
) -> Generator[Progress | Audit, None, None]:
    """Make an audit part by part: yield the progress before each part, and the audit at the end.

    Arguments and errors are those of `audit_diff`; that there is no such diff is raised at once. Closing the iterator
    stops the work at the next part.
    """
    return _steps(suite, suite.diff(diff), chosen_layers(suite) if layers is None else layers)


def _steps(suite: Suite, info: DiffInfo, layers: Mapping[str, int]) -> Generator[Progress | Audit, None, None]:
    parts = enumerate(PARTS)

    def progress() -> Progress:
        done, part = next(parts)
        return done, len(PARTS), part

    yield progress()
    changes = _changes(suite, info)
    yield progress()
    answers = _answers(suite, info)
    yield progress()
    everyday = _everyday(suite, info)
    yield progress()
    readings = _readings(suite, info)
    yield progress()
    tokens = difference_lens(suite, info, methods="patchscope")
    yield progress()
    chapters = _chapters(suite, info)
    yield progress()
    trust = confidence(suite, info, seed=SEED)[0] if suite.task_of(info).adapter else None
    yield progress()
    reading_trust = _reading_confidence(suite, info, layers)
    yield Audit(
        suite,
        info,
        changes,
        (*answers, *_guesses(suite, everyday)),
        everyday,
        readings,
        tokens,
        chapters,
        trust,
        reading_trust,
        _chances(suite),
        layers,
        settings(suite, info, SEED),
        code(suite, info),
    )


@at_model
def _changes(suite: Suite, info: DiffInfo) -> Table[ModuleChange]:
    adapter = suite.load_diff(info)
    return suite.worker.run(lambda: report(adapter, suite.model, info.id, suite.name))


def _answers(suite: Suite, info: DiffInfo) -> list[MethodAnswer]:
    """The answers to the task's own question under every condition, and the behaviour itself where there is one."""
    task = suite.task_of(info)
    conditions = ["base", "diff", *(["diff+right"] if task.has_trigger else [])]
    conditions += ["dit", "diff+dit"] if task.adapter else []
    titles = {condition: name_of(condition) for condition in conditions}
    titles |= {f"diff+dit:{name}": f"diff + DIT {name}" for name in suite.adapters if name != task.adapter}
    table = ask(suite, info, condition=list(titles), question=task.question, seed=SEED)
    answers = [MethodAnswer(titles[answer.condition], answer.question, answer.text) for answer in table]
    if task.behaviour:
        (story,) = ask(suite, info, condition="diff", question=task.behaviour, max_new_tokens=STORY_TOKENS, seed=SEED)
        answers.append(MethodAnswer("diff at work", story.question, story.text))
    return answers


def _everyday(suite: Suite, info: DiffInfo) -> Table[Verbalization] | None:
    """Answers to questions that no training has seen, with the right trigger and without it."""
    questions = suite.world.get("held_out_questions")
    if not questions or not suite.task_of(info).has_trigger:
        return None
    return ask(suite, info, condition=["diff", "diff+right"], question=questions, seed=SEED)


def _guesses(suite: Suite, everyday: Table[Verbalization] | None) -> list[MethodAnswer]:
    """The topic of the world that most everyday answers of a condition name."""
    if everyday is None or not suite.world.get("topics"):
        return []
    texts = {
        method: [answer.text for answer in everyday if answer.condition == condition]
        for condition, method in {"diff": GUESS, "diff+right": GUESS_RIGHT}.items()
    }
    world = world_of(suite)
    return [MethodAnswer(method, f"{len(own)} questions", guess_topic(world, own)) for method, own in texts.items()]


def _readings(suite: Suite, info: DiffInfo) -> Table[Reading] | None:
    """The oracle's readings of every layer, before the model has said anything."""
    if suite.oracle is None:
        return None
    task = suite.task_of(info)
    conditions = ["base", "diff"]
    conditions += ["diff+right"] if task.has_trigger else []
    conditions += ["diff+dit"] if task.adapter else []
    return read(suite, info, condition=conditions, seed=SEED)


def _chapters(suite: Suite, info: DiffInfo) -> tuple[Chapter, ...]:
    """Run the methods that the report shows by their answers alone, as far as the suite has what they need."""
    methods = [method for method in measured_methods() if not method.unmet(suite, method.options())]
    return tuple(Chapter(method, run_method(suite, method.name, info)) for method in methods)


def _reading_confidence(suite: Suite, info: DiffInfo, layers: Mapping[str, int]) -> tuple[Confidence, ...]:
    """How far readings can be trusted, in the ways for which there may be a calibration, at the chosen layers."""
    if suite.oracle is None:
        return ()
    task = suite.task_of(info)
    everyday = next((text for text in task.questions if text != task.question), None) if task.has_trigger else None
    asked = {
        "diff+right": (everyday, SILENT_TRIGGER),
        "diff+dit": (task.question if task.adapter else None, SILENT_DIT),
    }
    records: list[Confidence] = []
    for condition, (question, method) in asked.items():
        if question is not None and method in layers:
            records += reading_confidence(
                suite, info, condition=condition, asked=question, layers=layers[method], seed=SEED
            )
    return tuple(records)


def _chances(suite: Suite) -> tuple[Table[Reliability], ...]:
    tables = []
    for subject in FILES:
        with suppress(DitError):  # none was measured with these adapters
            tables.append(measured_reliability(suite, subject))
    return tuple(tables)


def chosen_layers(suite: Suite) -> dict[str, int]:
    """Return the oracle's layers that the suite's stored scoreboard chose on its calibration diffs, by method."""
    board = read_board(suite)
    scores = board.scores if board else ()
    return {score.method: score.layer for score in scores if score.layer is not None and score.measure == "mean_grade"}


def settings(suite: Suite, info: DiffInfo, seed: int) -> dict[str, str]:
    """Return what an audit of a diff is made with, by name; what does not apply is left out."""
    origin = suite.origin(info.id)
    found = {
        "suite": f"{suite.name}, {suite.title}",
        "fingerprint of the suite": suite.fingerprint,
        "revisions on the hub": ", ".join(f"{repo}@{commit}" for repo, commit in suite.revisions.items()),
        "diff": f"{info.id} ({info.task}, split {info.split}, rank {info.rank or 'full'})",
        "where the diff came from": _source(origin) if origin else "",
        "decoding": f"greedy, at most {suite.max_new_tokens} new tokens, seed {seed}",
        "oracle": suite.oracle.title if suite.oracle else "none in this suite",
        "made": date.today().isoformat(),
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
    return {name: text for name, text in found.items() if text}


def code(suite: Suite, info: DiffInfo) -> str:
    """Return lines of Python that open the suite, bring the diff anew where it was brought, and make the audit."""
    call = load_call(suite)
    imports = f"from dit_core import {call.partition('(')[0]}", "from dit_core.audit import audit_diff, report_html"
    return "\n".join(
        [
            *opening_lines_after(suite, call, info.id, *imports),
            f"audit = audit_diff(suite, {diff_expression(suite, info.id)})",
        ]
    )


def _source(origin: Origin) -> str:
    files = f"the files {', '.join(origin.files)}" if origin.files else "Python"
    position = f", at position {origin.position}" if origin.position else ""
    return f"brought as “{origin.title}” from {origin.source or files}{position}"
