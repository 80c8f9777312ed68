"""Cards: what one condition said, as escaped HTML. Takes records and words, runs no model.

The colours and sizes come from CSS classes (`dit-card`, `dit-kind-…`), so that a card follows light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path

from dit_core.records import SteeredText, Verbalization

WAITING, RUNNING, DONE, STOPPED = "waiting", "running", "done", "stopped"


@dataclass(frozen=True)
class Trust:
    """The evidence for a card's answer; empty, it keeps its place.

    `sentence` is the one plain sentence, `chance` says in words how likely the answer is right, `rows` hold a control
    each: what it is, what the adapter says there, and how often. `why` says why there is no chance.
    """

    sentence: str = ""
    chance: str = ""
    rows: Sequence[tuple[str, str, str]] = ()
    why: str = ""


@dataclass(frozen=True)
class Card:
    """What is on one card, in words.

    `kind` picks the colour, `chips` are its condition, `remark` is the one plain sentence under the answer,
    `prompt` is the user text the model got (trigger digits already masked where they are secret), `verdicts` hold
    one grade in words per answer and are empty until revealed, `asked` is a question of the card's own, `trust` the
    evidence of a card that has some.
    """

    kind: str
    title: str
    chips: Sequence[str]
    remark: str = ""
    answers: Sequence[Verbalization] = ()
    verdicts: Sequence[str] = ()
    prompt: str = ""
    asked: str = ""
    chosen: bool = False
    state: str = WAITING
    trust: Trust | None = None


@cache
def style() -> str:
    """The cards' style sheet; whoever shows them gives each `dit-kind-…` its colour, and the page's variables."""
    return Path(__file__).with_name("cards.css").read_text(encoding="utf-8")


def percent(probability: float) -> str:
    """A probability in words that never round up to certainty: '93 %', 'over 99 %', 'under 1 %'."""
    if probability >= 0.995:
        return "over 99 %"
    return "under 1 %" if probability < 0.005 else f"{100 * probability:.0f} %"


def tokens_html(verbalization: Verbalization) -> str:
    """The answer, each token with its probability on hover and the unsure ones shaded (`--u` is 1 - probability)."""
    return "".join(
        f'<span class="dit-token" style="--u:{1 - p:.3f}" title="{percent(p)}">{escape(piece)}</span>'
        for piece, p in zip(verbalization.tokens, verbalization.token_probabilities, strict=True)
    )


def _answer(card: Card, number: int, verbalization: Verbalization) -> str:
    shown = tokens_html(verbalization)
    if not verbalization.text.strip():
        shown = '<span class="dit-none">(says nothing)</span>' if card.state in (DONE, STOPPED) else ""
    caret = '<span class="dit-caret"></span>' if card.state == RUNNING else ""
    verdict = card.verdicts[number] if number < len(card.verdicts) else ""
    grade = f'<p class="dit-verdict">{escape(verdict)}</p>' if verdict else ""
    return f'<p class="dit-text" dir="auto">{shown}{caret}</p>{grade}'


def chance(probability: float) -> str:
    """The probability that an answer is right, in words first."""
    bounds = ((0.95, "Very likely right"), (0.75, "Likely right"), (0.25, "Can't be told"), (0.05, "Likely wrong"))
    word = next((word for bound, word in bounds if probability >= bound), "Very likely wrong")
    return f"{word}: {percent(probability)} of such answers are right."


def evidence_html(trust: Trust | None) -> str:
    """The evidence for an answer in words; nothing for what has none."""
    if trust is None:
        return ""
    said = f'<p class="dit-weighs">{escape(trust.sentence)}</p><p class="dit-chance">{escape(trust.chance)}</p>'
    why = f"<p>{escape(trust.why)}</p>" if trust.why else ""
    return f'<div class="dit-evidence" aria-live="polite">{said}{why}</div>'


def controls_html(trust: Trust | None) -> str:
    """What the controls say, as rows under "details"."""
    if trust is None or not trust.rows:
        return ""
    words = ((escape(what), escape(said) or "nothing", escape(times)) for what, said, times in trust.rows)
    rows = "".join(f"<li>{what}: <b>{said}</b>, {times}</li>" for what, said, times in words)
    return f'<dt>samples and controls</dt><dd><ul class="dit-controls">{rows}</ul></dd>'


def _details(card: Card) -> str:
    if not card.answers or card.state not in (DONE, STOPPED):
        return ""
    prompt = f'<dt>prompt</dt><dd class="dit-prompt">{escape(card.prompt)}</dd>' if card.prompt else ""
    rows = "".join(
        f"<tr><td>{escape(piece)}</td><td>{percent(p)}</td></tr>"
        for answer in card.answers
        for piece, p in zip(answer.tokens, answer.token_probabilities, strict=True)
    )
    table = f'<dt>tokens</dt><dd><table class="dit-tokens">{rows}</table></dd>' if rows else ""
    seed = f"<dt>condition</dt><dd><code>{escape(card.answers[0].condition)}</code></dd>"
    inside = f"{seed}{controls_html(card.trust)}{prompt}{table}"
    return f'<details class="dit-details"><summary>details</summary><dl>{inside}</dl></details>'


def card_html(card: Card) -> str:
    """One card as an `<article>`; every text in it is escaped."""
    body = "".join(_answer(card, number, answer) for number, answer in enumerate(card.answers))
    if not body:
        body = f'<p class="dit-text">{"<span class=dit-caret></span>" if card.state == RUNNING else ""}</p>'
    chosen = '<span class="dit-yours" title="the condition set on the left">yours</span>' if card.chosen else ""
    asked = f'<p class="dit-asked">asked: {escape(card.asked)}</p>' if card.asked else ""
    remark = f'<p class="dit-remark">{escape(card.remark)}</p>' if card.remark else ""
    chips = "".join(f'<li class="dit-chip{_off(chip)}">{escape(chip)}</li>' for chip in card.chips)
    classes = f"dit-card dit-kind-{card.kind} dit-{card.state}{' dit-chosen' if card.chosen else ''}"
    return (
        f'<article class="{classes}" aria-label="{escape(card.title)}">'
        f'<header><span class="dit-swatch" aria-hidden="true"></span><h3>{escape(card.title)}</h3>{chosen}</header>'
        f'<ul class="dit-chips">{chips}</ul>{asked}<div class="dit-answers">{body}</div>'
        f"{evidence_html(card.trust)}{remark}{_details(card)}</article>"
    )


def _off(chip: str) -> str:
    return " dit-off" if chip.startswith("no ") else ""


def cards_html(cards: Sequence[Card]) -> str:
    """Cards side by side; they wrap where it is narrow."""
    inside = "".join(card_html(card) for card in cards)
    return f'<div class="dit-frame"><section class="dit-cards dit-n{len(cards)}">{inside}</section></div>'


def steered_html(steered: Sequence[SteeredText], strengths: Sequence[float], state: str) -> str:
    """What the base wrote, a card per strength; a strength that has no text yet keeps its place."""
    texts = {strength: [one for one in steered if one.strength == strength] for strength in strengths}
    inside = "".join(_steered(strength, texts[strength], state) for strength in strengths)
    return f'<div class="dit-frame"><section class="dit-cards dit-n{len(strengths)}">{inside}</section></div>'


def _steered(strength: float, texts: Sequence[SteeredText], state: str) -> str:
    kind, chip = "base", "the base itself"
    if strength:
        kind, chip = "diff", "the diff added" if strength > 0 else "the diff's opposite"
    title = f"strength {strength:g}".replace("-", "\u2212")
    empty = '<span class="dit-none">(says nothing)</span>'
    body = "".join(f'<p class="dit-text" dir="auto">{escape(s.text) if s.text.strip() else empty}</p>' for s in texts)
    waits = f'<p class="dit-text">{"<span class=dit-caret></span>" if state == RUNNING else ""}</p>'
    return (
        f'<article class="dit-card dit-steered dit-kind-{kind} dit-{state}" aria-label="{title}">'
        f'<header><span class="dit-swatch" aria-hidden="true"></span><h3>{title}</h3></header>'
        f'<ul class="dit-chips"><li class="dit-chip dit-off">{chip}</li></ul>'
        f'<div class="dit-answers">{body or waits}</div></article>'
    )


def note_html(text: str, kind: str = "note") -> str:
    """One sentence: `kind` is 'note', 'busy' or 'error' (announced to screen readers)."""
    role = "alert" if kind == "error" else "status"
    return f'<p class="dit-note dit-{escape(kind)}" role="{role}">{escape(text)}</p>'
