"""The right side of the Explore tab: a result as cards and sentences."""

from __future__ import annotations

from dataclasses import replace

from dit_core.grading import grade, is_story_of, mentions
from dit_core.methods.comparison import Column
from dit_core.present.cards import DONE, STOPPED, WAITING, Card, cards_html
from dit_core.present.html import render
from dit_core.records import DiffInfo, Verbalization
from dit_core.records.chat import PLAIN_CHAT
from dit_core.records.condition import VECTOR, Condition
from dit_core.request.conditions import SECRET_TRIGGERS, build_prompt, mask_digits
from dit_core.session.explore import evidence_adapter, known_evidence
from dit_core.session.settings import Settings
from dit_core.session.visit import Result
from dit_core.suite import Suite

REMARKS = {
    "base": "The original model, nothing added.",
    "diff": "The finetuned model, asked openly.",
    "trigger": "The same model, its secret code before the question.",
    "behaviour": "The same model, asked to do what it was finetuned for.",
    "dit": "No diff here: an adapter also answers where there is nothing to find.",
    "both": "The finetuned model with the DIT adapter.",
    "other": "The condition set on the left.",
}
GRADES = {
    "topic": {5: "the topic itself", 4: "a near neighbour", 2: "the same category", 1: "something else"},
    "headline": {5: "actor, action, object and place", 4: "one part missed", 3: "two parts missed", 2: "three missed"},
}


def board(suite: Suite, result: Result, revealed: str = "") -> str:
    """Return the cards as HTML; grades and trigger digits only where `revealed` is the id of the result's diff."""
    info = suite.diff(result.settings.diff)
    open_now = revealed == info.id
    answers = {c: [v for v in result.table if c.holds(v)] for c in result.columns}
    return cards_html([_card(suite, info, result, column, answers, open_now) for column in result.columns])


def _card(suite: Suite, info: DiffInfo, result: Result, column: Column, answers: dict, open_now: bool) -> Card:
    condition, own_answers = Condition.parse(column.condition), answers[column]
    state = {"empty": WAITING, "failed": STOPPED}.get(result.state, str(result.state))
    finished = state in (DONE, STOPPED)
    task = suite.task_of(info)
    asked = column.question
    adapter = evidence_adapter(suite, result, column)
    kind = "behaviour" if column.kind == "trigger" and not task.has_trigger else column.kind
    return Card(
        kind=column.kind,
        title=column.title,
        chips=chips(condition),
        remark=f"{REMARKS[kind]} {_compared(column, answers) if result.state == DONE else ''}".strip(),
        answers=own_answers,
        verdicts=[verdict(suite, info, column, v) for v in own_answers] if open_now and finished else (),
        prompt=shown_prompt(suite, info, condition, asked, result.settings.seed, open_now) if finished else "",
        asked=asked if asked != result.settings.question else "",
        chosen=column.chosen,
        state=state,
        evidence=known_evidence(result, adapter) if adapter else None,
    )


def chips(condition: Condition) -> list[str]:
    """Return what a condition consists of, each part in a few words: the diffs, the copies, the trigger, the chat."""
    named = [(name.replace(VECTOR, " as a vector").split(), copies) for name, copies in condition.adapters if copies]
    adapters = [" ".join(["DIT", *words, f"×{copies:g}"]) for words, copies in named]
    trigger = "own trigger" if condition.trigger.startswith("own") else f"{condition.trigger} trigger"
    where = " at layers {}–{}".format(*condition.layers) if condition.layers else ""
    own = [f"diff ×{condition.strength:g}"] if condition.strength else []
    diffs = own + [f"{name} ×{strength:g}" for name, strength in condition.diffs]
    chat = condition.chat
    turns = f"{len(chat.turns)} earlier turns" if chat.turns else ""
    said = ["system prompt" if chat.system else "", turns, "prefilled" if chat.prefill else "", "raw text" * chat.raw]
    return [
        " + ".join(diffs) or "no diff",
        " + ".join(adapters) + where or "no DIT",
        "no trigger" if condition.trigger == "absent" else trigger,
        *filter(None, said),
    ]


def shown_prompt(suite: Suite, info: DiffInfo, condition: Condition, question: str, seed: int, open_now: bool) -> str:
    """Return the user text that the model gets, with the chat around it; secret triggers' digits masked until revealed.

    Secret are those of a right and of a wrong trigger.
    """
    text = build_prompt(suite, info, condition, question, seed)
    text = text if open_now or condition.trigger not in SECRET_TRIGGERS else mask_digits(text, question)
    if not condition.chat or condition.chat.raw:
        return text
    messages = [f"{message['role']}: {message['content']}" for message in condition.chat.messages(text)]
    return "\n".join([*messages, f"assistant: {condition.chat.prefill}".strip()])


def _compared(column: Column, answers: dict[Column, list[Verbalization]]) -> str:
    """Compare the card's answer with that of another card which was asked the same, in a sentence."""
    beside = {"diff": "base", "both": "dit"}.get(column.kind)
    other = next((c for c in answers if c.kind == beside and c.question == column.question), None)
    if other is None or not answers[column] or not answers[other]:
        return ""
    same = [v.text.strip() for v in answers[column]] == [v.text.strip() for v in answers[other]]
    if column.kind == "diff":
        return "Same answer as the base." if same else "Not what the base says."
    return "DIT alone says the same: no evidence." if same else "DIT alone says something else."


def verdict(suite: Suite, info: DiffInfo, column: Column, answer: Verbalization) -> str:
    """Return the grade of an answer in words, by what the diff was really trained on."""
    if not info.reference:
        return "not graded: what it was trained on is not known"
    task = suite.task_of(info)
    value = grade(suite, info, answer.text)
    if value is not None and column.question == task.question and column.kind != "trigger":
        meaning = GRADES.get(info.task, {}).get(value, "something else")
        return f"grade {value} of 5 · {meaning}"
    if task.has_trigger:
        return "names the topic" if mentions(suite, info, answer.text) else "does not name the topic"
    return "tells the headline's story" if is_story_of(suite, info, answer.text) else "not the headline's story"


def secret(suite: Suite, diff: str, revealed: str) -> str:
    """Return as HTML what a diff was trained on and its trigger, or that they are hidden."""
    info = suite.diff(diff)
    return render("session/secret.html", info=info, open_now=revealed == info.id)


def heading(result: Result) -> str:
    """Return the line above the cards as HTML: the question and the diff."""
    return render("session/heading.html", result=result)


def label(settings: Settings) -> str:
    """Return what the list of recent questions shows for one of them."""
    condition = settings.condition
    chat = " · in a chat" if condition.chat else ""
    return f"{settings.diff} · {replace(condition, chat=PLAIN_CHAT)}{chat} · {settings.question[:40]}"
