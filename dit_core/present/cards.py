"""Cards: what one condition says, as HTML in which every text is escaped.

The colours and sizes come from CSS classes (`dit-card`, `dit-kind-…`), so that a card follows light and dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dit_core.present.html import percent, render
from dit_core.records import Confidence, Reading, SteeredText, Verbalization

WAITING, RUNNING, DONE, STOPPED = "waiting", "running", "done", "stopped"


@dataclass(frozen=True)
class Card:
    """What one card shows, in words.

    `kind` is a key of the palette, `chips` say the condition, `remark` is the one plain sentence under the answers,
    `prompt` is the user text that the model got (trigger digits already masked where they are secret), `verdicts` hold
    one grade in words per answer and are empty until revealed, `asked` is a question of the card's own, `evidence`
    that for its answer, a sentence in its place, or None for a card without. `chosen` marks the condition that the
    visitor set, `state` is one of `WAITING`, `RUNNING`, `DONE` and `STOPPED`.
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
    evidence: Confidence | str | None = None


@cache
def style() -> str:
    """Return the cards' style sheet; who shows them gives each `dit-kind-…` its colour, and the page's variables."""
    return Path(__file__).with_name("cards.css").read_text(encoding="utf-8")


def tokens_html(answer: Verbalization | Reading) -> Markup:
    """Show an answer: each token with its probability on hover, unsure ones shaded (`--u` is 1 - probability)."""
    token = Markup('<span class="dit-token" style="--u:{:.3f}" title="{}">{}</span>')
    return Markup("").join(
        token.format(1 - probability, percent(probability), text)
        for text, probability in zip(answer.tokens, answer.token_probabilities, strict=True)
    )


def evidence_html(evidence: Confidence | str) -> Markup:
    """Show the evidence for an answer in words, its controls folded under "details"; or the sentence in its place."""
    return render("present/folded_evidence.html", evidence=evidence)


def card_html(card: Card) -> Markup:
    """Show one card as an `<article>`."""
    return render("present/card.html", card=card, tokens_html=tokens_html)


def cards_html(cards: Sequence[Card]) -> Markup:
    """Show cards side by side."""
    return render("present/cards.html", cards=[card_html(card) for card in cards])


def steered_html(steered: Sequence[SteeredText], strengths: Sequence[float], state: str) -> Markup:
    """Show what the base writes, a card per strength; a strength without a text yet keeps its place."""
    texts = {strength: [record.text for record in steered if record.strength == strength] for strength in strengths}
    cards = [
        render("present/steered.html", strength=strength, texts=texts[strength], state=state) for strength in strengths
    ]
    return render("present/cards.html", cards=cards)


def note_html(text: str, kind: str = "note") -> Markup:
    """Show one sentence: `kind` is 'note', 'busy' or 'error' (announced to screen readers)."""
    role = "alert" if kind == "error" else "status"
    return Markup('<p class="dit-note dit-{}" role="{}">{}</p>').format(kind, role, text)


def rows_html(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], most: int = 200) -> Markup:
    """Show a table as text, its first `most` rows; None leaves its cell empty."""
    return render("present/rows.html", title=title, columns=columns, rows=rows[:most], more=max(len(rows) - most, 0))
