"""What the explorer asks, step by step: answers, evidence, and what the oracle reads. No widget is known here."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

from dit_core.errors import DitError
from dit_core.methods.comparison import columns, compare
from dit_core.present.cards import DONE, RUNNING, STOPPED, WAITING
from dit_core.records import Table
from dit_core.records.condition import checked_text
from dit_core.session import answer_evidence
from dit_core.session.job import follow
from dit_core.session.oracle import Found, steps
from dit_core.session.settings import PanelSettings, Settings
from dit_core.session.time_left import AnswerProgress, ReadingProgress
from dit_core.session.visit import Result
from dit_core.suite import Suite


def unasked(suite: Suite, settings: Settings) -> Result:
    """A result without answers: its cards keep their places."""
    try:
        chosen = settings.condition
    except DitError:
        chosen = None  # half-written settings: asking says what is wrong
    wanted = columns(suite.task_of(suite.diff(settings.diff)), settings.question, chosen)
    return Result(settings, wanted, Table(suite.name, "verbalizations", ()), WAITING)


def answers(suite: Suite, settings: Settings, stop: threading.Event) -> Iterator[tuple[Result, str]]:
    """The standing comparison and the chosen condition, token by token, each with a word on how far it is.

    Setting `stop` ends it at once, with what was said until then. Raises DitError for settings that make no sense.
    """
    settings = replace(settings, question=checked_text(settings.question, "The question"))
    info, _ = suite.diff(settings.diff), settings.condition
    result = replace(unasked(suite, settings), state=RUNNING)
    clock, length = AnswerProgress(settings.max_new_tokens), 0
    yield result, f"Asking {len(result.columns)} conditions as one batch…"
    for table in follow(compare(suite, info, result.columns, **settings.sampling), stop):
        length = max((len(answer.tokens) for answer in table), default=0)
        result = replace(result, table=table)
        yield result, clock.words(length)
    stopped = stop.is_set()
    note = f"Stopped after {length} tokens. What was said stays." if stopped else ""
    yield replace(result, state=STOPPED if stopped else DONE), note


def weighed(suite: Suite, result: Result, stop: threading.Event) -> Iterator[Result]:
    """The same result with the evidence for its cards: first with its place, then with what has come in."""
    if not answer_evidence.missing_evidence(suite, result):
        return
    result = replace(result, weighing=answer_evidence.WEIGHING)
    yield result
    for found in follow(answer_evidence.fetch_evidence(suite, result), stop):
        if len(found) > len(result.evidence):
            result = replace(result, evidence=found)
            yield result
    yield replace(result, weighing=answer_evidence.UNWEIGHED)


def readings(suite: Suite, result: Result, stop: threading.Event) -> Iterator[tuple[Found, str]]:
    """What the oracle reads of the same conditions, layer by layer, each with a word on how far it is."""
    clock = ReadingProgress()
    for found in follow(steps(suite, result, PanelSettings()), stop):
        yield found, clock.words(found.readings)
