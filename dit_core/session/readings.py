"""What a visitor may see of what was read: the target's tokens, its trigger masked, and readings as escaped HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from itertools import islice

from dit_core.present.cards import tokens_html
from dit_core.present.html import percent
from dit_core.records import DiffInfo, Reading, Table, Target
from dit_core.records.condition import Condition
from dit_core.request.prompts import SECRET_TRIGGERS, mask_digits
from dit_core.request.targets import tokenize_targets
from dit_core.suite import Suite
from dit_core.suite.offload import at_model


@at_model
def target_of(
    suite: Suite, info: DiffInfo, condition: Condition, asked: str, seed: int = 0, answer_tokens: int = 0
) -> Target:
    """Return the tokens of one condition's prompt and of its greedy answer of at most `answer_tokens`."""
    return suite.worker.run(
        lambda: tokenize_targets(suite, [(info, condition, asked)], seed, answer_tokens)[0].record(suite)
    )


def shown_target(target: Target, open_now: bool) -> Target:
    """Return the same tokens, the digits of a right or wrong trigger masked unless `open_now`.

    Digits of the question itself and of the answer stay.
    """
    if open_now or Condition.parse(target.condition).trigger not in SECRET_TRIGGERS:
        return target
    prompt = target.tokens[: target.prompt_tokens]
    rest = iter(mask_digits("".join(prompt), target.asked))
    masked = ["".join(islice(rest, len(token))) for token in prompt]
    return replace(target, tokens=(*masked, *target.tokens[target.prompt_tokens :]))


def answer_of(target: Target) -> str:
    """Return what the target answered."""
    return "".join(target.tokens[target.prompt_tokens :]).strip()


def readings_html(readings: Sequence[Reading], target: Target | None = None, open_now: bool = False) -> str:
    """All `readings` of one layer, grouped by what was read. `target` (digits already masked) gives the tokens' text.

    Grades and the reference's log-probability are shown only where `open_now`.
    """
    groups: dict[tuple, list[Reading]] = {}
    for reading in readings:
        groups.setdefault((reading.layer, reading.condition, reading.positions, reading.question), []).append(reading)
    inside = "".join(_group(group, target, open_now) for group in groups.values())
    return f'<section class="dit-readings" aria-live="polite">{inside}</section>' if inside else ""


def _group(readings: Sequence[Reading], target: Target | None, open_now: bool) -> str:
    first = readings[0]
    where = f"layer {first.layer} <small>{first.depth_percent:g} % deep</small> · {_tokens(first, target)}"
    asked = f'<p class="dit-asked">{escape(first.condition)} · asked the oracle: {escape(first.question)}</p>'
    said = "".join(_reading(reading, open_now) for reading in readings)
    return f"<h3>{where}</h3>{asked}<ul>{said}</ul>"


def _tokens(reading: Reading, target: Target | None) -> str:
    """The text of what was read, and where it stands."""
    start, stop = reading.positions[0], reading.positions[-1]
    place = f"token {start}" if start == stop else f"tokens {start} to {stop}"
    if target is None or stop >= len(target.tokens):
        return place
    text = "".join(target.tokens[position] for position in reading.positions)
    return f"<q>{escape(text)}</q> <small>{place}</small>"


def _reading(reading: Reading, open_now: bool) -> str:
    answer = tokens_html(reading) if reading.text else '<span class="dit-none">(says nothing)</span>'
    facts = [f"confidence {percent(reading.confidence)}"]
    if open_now and reading.grade is not None:
        facts.append(f"grade {reading.grade} of 5")
    if open_now and reading.log_prob_reference is not None:
        facts.append(f"log-probability of the reference {reading.log_prob_reference:.1f}".replace("-", "\u2212"))
    return f'<li><span class="dit-said" dir="auto">{answer}</span> <small>{" · ".join(facts)}</small></li>'


def visible(table: Table, open_now: bool) -> Table:
    """A table as it may be shown: readings without what needs to know the reference, unless `open_now`."""
    if open_now:
        return table
    return replace(table, records=tuple(_unrevealed(record) for record in table))


def _unrevealed(record: object) -> object:
    return replace(record, grade=None, log_prob_reference=None) if isinstance(record, Reading) else record
