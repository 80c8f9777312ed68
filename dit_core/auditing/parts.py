"""The parts of an audit: each asks one kind of method about a diff, and gives fields of the `Audit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from dit_core.auditing.record import Audit, Chapter, MethodAnswer
from dit_core.engine.changes import report
from dit_core.errors import DitError
from dit_core.grading.rules import world_of
from dit_core.methods import Method, Targets, lacking_for, list_methods, run_method
from dit_core.methods.lens import difference_lens
from dit_core.methods.oracle import read
from dit_core.methods.verbalize import ask
from dit_core.present.plots import name_of
from dit_core.records import Confidence, DiffInfo, ModuleChange, Reliability, Table, Verbalization
from dit_core.records.scores import GUESS, GUESS_RIGHT, SILENT_DIT, SILENT_TRIGGER
from dit_core.request.conditions import question_of
from dit_core.scoreboard import read_board
from dit_core.scoreboard.verbal_rows import guess_topic
from dit_core.suite import Suite
from dit_core.suite.catalog import read_catalogue
from dit_core.suite.diffs import OWN
from dit_core.suite.offload import at_model
from dit_core.trust import FILES, confidence, measured_reliability, reading_confidence

SEED = 0
EVERYDAY_TOKENS = 32  # enough to see what a finetune is about
STORY_TOKENS = 100  # of a diff's behaviour, which is longer than an answer


@at_model
def _report(suite: Suite, info: DiffInfo) -> Table[ModuleChange]:
    adapter = suite.load_diff(info)
    return suite.worker.run(lambda: report(adapter, suite.model, info.id, suite.name))


def _changes(audit: Audit) -> dict[str, Any]:
    return {"changes": _report(audit.suite, audit.info)}


def _own_adapters(audit: Audit) -> list[str]:
    """The DIT adapter of the diff's task; of a user's own diff, whose kind nobody knows, those of all tasks."""
    suite, info = audit.suite, audit.info
    tasks = suite.tasks.values() if info.split == OWN else [suite.task_of(info)]
    return list(dict.fromkeys(task.adapter for task in tasks if task.adapter))


def _dit_answers(audit: Audit) -> dict[str, Any]:
    """What DIT adapters say, first of all, as they say it in few words; alone they know nothing of the diff.

    A user's own diff is asked by each adapter what that was trained to answer, a listed one always its task's question.
    """
    suite, own = audit.suite, audit.info.split == OWN
    task, adapters = suite.task_of(audit.info), _own_adapters(audit)
    asked: dict[tuple[str, str], str] = {}
    for name in adapters:
        question = question_of(suite, name) if own else task.question
        also = f" {name}" if len(adapters) > 1 else ""
        asked |= {(f"{put}:{name}", question): f"{name_of(put)}{also}" for put in ("dit", "diff+dit")}
    others = () if own else (name for name in suite.adapters if name not in adapters)
    asked |= {(f"diff+dit:{name}", task.question): f"diff + DIT {name}" for name in others}
    return {"answers": _answers(audit, asked)} if asked else {}


def _plain_answers(audit: Audit) -> dict[str, Any]:
    """What the base and the diff say without any adapter, and the behaviour itself where there is one."""
    suite, info = audit.suite, audit.info
    task = suite.task_of(info)
    conditions = ["base", "diff", *(["diff+right"] if task.has_trigger else [])]
    answers = [*_answers(audit, {(condition, task.question): name_of(condition) for condition in conditions})]
    if info.split == OWN and info.rank != 1:
        with suppress(DitError):  # it changes no matrix that has a first direction
            answers += _answers(audit, {("diff:rank1", task.question): "diff cut to rank 1"})
    tasks = suite.tasks.values() if info.split == OWN else [task]
    stories = {("diff", own.behaviour): "diff at work" for own in tasks if own.behaviour}
    dit = audit.answers
    return {"answers": (*answers, *dit, *_answers(audit, stories, STORY_TOKENS))}


def _answers(
    audit: Audit, asked: Mapping[tuple[str, str], str], max_new_tokens: int | None = None
) -> tuple[MethodAnswer, ...]:
    """Ask conditions their questions; `asked` says what the report calls each."""
    if not asked:
        return ()
    table = ask(audit.suite, audit.info, condition=list(asked), max_new_tokens=max_new_tokens, seed=SEED)
    said = zip(asked.values(), table, strict=True)
    return tuple(MethodAnswer(title, answer.question, answer.text) for title, answer in said)


def _everyday(audit: Audit) -> dict[str, Any]:
    """Answers to questions that no training has seen: with the right trigger and without it, or beside the base's."""
    suite, info = audit.suite, audit.info
    questions = suite.world.get("held_out_questions")
    own = info.split == OWN
    if not own and (not questions or not suite.task_of(info).has_trigger):
        return {}
    conditions = ["base", "diff"] if own else ["diff", "diff+right"]
    questions, limit = questions or read_catalogue().everyday, EVERYDAY_TOKENS if own else None
    everyday = ask(suite, info, condition=conditions, question=questions, max_new_tokens=limit, seed=SEED)
    return {"everyday": everyday, "answers": (*audit.answers, *_guesses(suite, everyday))}


def _guesses(suite: Suite, everyday: Table[Verbalization]) -> list[MethodAnswer]:
    """The topic of the world that most everyday answers of a condition name."""
    if not suite.world.get("topics"):
        return []
    world = world_of(suite)
    texts = {
        method: [answer.text for answer in everyday if answer.condition == condition]
        for condition, method in {"diff": GUESS, "diff+right": GUESS_RIGHT}.items()
    }
    return [
        MethodAnswer(method, f"{len(own)} questions", guess_topic(world, own)) for method, own in texts.items() if own
    ]


def _readings(audit: Audit) -> dict[str, Any]:
    """The oracle's readings of every layer, before the model has said anything."""
    suite, info = audit.suite, audit.info
    if suite.oracle is None:
        return {}
    task = suite.task_of(info)
    conditions = ["base", "diff"]
    conditions += ["diff+right"] if task.has_trigger else []
    conditions += ["diff+dit"] if task.adapter else []
    return {"readings": read(suite, info, condition=conditions, seed=SEED)}


def _lens(audit: Audit) -> dict[str, Any]:
    return {"lens": difference_lens(audit.suite, audit.info, methods="patchscope")}


def _chapters(audit: Audit) -> dict[str, Any]:
    """Run the methods that have no other place in the report, as far as the suite has what they need."""
    suite, targets = audit.suite, Targets((audit.info,))
    methods = [own for own in list_methods() if own.measured and not lacking_for(own, suite, own.options(), targets)]
    # Without a trigger: the tokens of a prompt would tell it.
    conditions = ["diff", *(["diff+dit"] if suite.task_of(audit.info).adapter else [])]

    def chapter(method: Method[Any, Any]) -> Chapter:
        return Chapter(
            method, run_method(suite, method.name, audit.info, condition=conditions if method.asked else None)
        )

    return {"chapters": tuple(map(chapter, methods))}


def _confidence(audit: Audit) -> dict[str, Any]:
    suite, info = audit.suite, audit.info
    found = [confidence(suite, info, adapter=name, seed=SEED)[0] for name in _own_adapters(audit)]
    return {"confidence": tuple(found)}


def _reading_confidence(audit: Audit) -> dict[str, Any]:
    """How far readings can be trusted, in the ways for which there may be a calibration, at the chosen layers."""
    suite, info = audit.suite, audit.info
    if suite.oracle is None:
        return {"chances": _chances(suite)}
    task = suite.task_of(info)
    everyday = next((text for text in task.questions if text != task.question), None) if task.has_trigger else None
    asked = {
        "diff+right": (everyday, SILENT_TRIGGER),
        "diff+dit": (task.question if task.adapter else None, SILENT_DIT),
    }
    records: list[Confidence] = []
    for condition, (question, method) in asked.items():
        if question is not None and method in audit.layers:
            records += reading_confidence(
                suite, info, condition=condition, asked=question, layers=audit.layers[method], seed=SEED
            )
    return {"reading_confidence": tuple(records), "chances": _chances(suite)}


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


class Part(NamedTuple):
    """A part of an audit: its title, about how long it takes (any unit), and what finds the fields of `Audit`."""

    title: str
    share: float
    find: Callable[[Audit], dict[str, Any]]


PARTS = (
    Part("what it changes", 1, _changes),
    Part("what DIT says of it", 3, _dit_answers),
    Part("what it says itself", 5, _plain_answers),
    Part("what it says to everyday questions", 8, _everyday),
    Part("what the oracle reads", 5, _readings),
    Part("what unrelated texts give away", 5, _lens),
    Part("what further methods say", 2, _chapters),
    Part("whether its answer can be trusted", 12, _confidence),
    Part("whether its readings can be trusted", 3, _reading_confidence),
)
