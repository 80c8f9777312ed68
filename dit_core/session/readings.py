"""What a visitor may see of readings: the tokens that were read, with the trigger masked, and the readings as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from dit_core.present.cards import tokens_html
from dit_core.present.html import percent, render
from dit_core.records import DiffInfo, Reading, Table, Target
from dit_core.records.condition import Condition
from dit_core.request.conditions import SECRET_TRIGGERS, mask_digits
from dit_core.request.targets import tokenize_targets
from dit_core.suite import Suite
from dit_core.suite.offload import at_model


@at_model
def target_of(
    suite: Suite, info: DiffInfo, condition: Condition, asked: str, seed: int = 0, answer_tokens: int = 0
) -> Target:
    """Return the tokens of one condition's prompt and of its greedy answer of at most `answer_tokens` tokens."""
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
    """Return the text that the target answered."""
    return "".join(target.tokens[target.prompt_tokens :]).strip()


def readings_html(readings: Sequence[Reading], target: Target | None = None, open_now: bool = False) -> str:
    """Return all `readings` of one layer as HTML, grouped by what was read.

    `target`, its digits already masked, gives the text of the tokens. Grades and the reference's log-probability are
    shown only where `open_now`.
    """
    groups: dict[tuple, list[Reading]] = {}
    for reading in readings:
        groups.setdefault((reading.layer, reading.condition, reading.positions, reading.question), []).append(reading)
    return render(
        "session/readings.html",
        groups=[{"readings": group, "first": group[0], **_source(group[0], target)} for group in groups.values()],
        facts=lambda reading: _facts(reading, open_now),
        tokens_html=tokens_html,
    )


def _source(reading: Reading, target: Target | None) -> dict[str, str | None]:
    """Return the text of the tokens that were read, None where it is not known, and their place in the prompt."""
    start, stop = reading.positions[0], reading.positions[-1]
    place = f"token {start}" if start == stop else f"tokens {start} to {stop}"
    if target is None or stop >= len(target.tokens):
        return {"text": None, "place": place}
    return {"text": "".join(target.tokens[position] for position in reading.positions), "place": place}


def _facts(reading: Reading, open_now: bool) -> list[str]:
    facts = [f"confidence {percent(reading.confidence)}"]
    if open_now and reading.grade is not None:
        facts.append(f"grade {reading.grade} of 5")
    if open_now and reading.log_prob_reference is not None:
        facts.append(f"log-probability of the reference {reading.log_prob_reference:.1f}".replace("-", "\u2212"))
    return facts


def visible(table: Table, open_now: bool) -> Table:
    """Return a table without what needs to know the reference, unless `open_now`."""
    if open_now:
        return table
    return replace(table, records=tuple(_unrevealed(record) for record in table))


def _unrevealed(record: object) -> object:
    return replace(record, grade=None, log_prob_reference=None) if isinstance(record, Reading) else record
