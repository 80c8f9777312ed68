"""What happens on the Lens tab when a visitor does something. Every method is one event.

The visitor's `Session` keeps what was seen as `work("lens").found` and what was written as `work("steer").found`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import gradio as gr

from dit_core.present.cards import RUNNING, STOPPED, note_html
from dit_core.session.choices import everyday_choices
from dit_core.session.lens import MIDDLE, Seen, Steering, Wanted, Written, look, steer
from dit_core.session.notebook_cells import IMPORTS, call, opening
from dit_core.session.running import Failed, running
from dit_core.session.visit import Place, Session, Work
from dit_core.session.words import content, whole
from dit_core.suite import Suite
from dit_core.ui.tabs.lens import view as lens_view

LENS, STEER = "lens", "steer"
LOOKING = "Reading unrelated texts with the diff and without…"
STALE = "The settings have changed since: press Look."
STEER_STALE = "The settings have changed since: press Steer."
STOPPED_NOTE = "Stopped. What was there stays."
F = TypeVar("F", Seen, Written)


class LensEvents:
    """The events of one suite's Lens tab; `word` is how `load_suite` finds the suite."""

    def __init__(self, suite: Suite, word: str):
        self.suite, self.word = suite, word

    # ---------------------------------------------------------------- looking and steering

    def look(self, session: Session, method: str, position: int, *values: Any) -> Iterator[tuple]:
        """Looks at a diff with the lens. Gives the note, both figures, and what can be chosen from then on."""
        work, wanted = session.work(LENS), Wanted(*values)
        for now in running(work, lambda: _from(Seen(wanted), look(self.suite, wanted)), self.suite.worker):
            choices = lens_view.positions(work.found, position), lens_view.layers(work.found)
            yield _said(now, LOOKING), *self.shown(session, method, position), *choices

    def steer(self, session: Session, *values: Any) -> Iterator[tuple]:
        """Lets the base write while the diff's mean change is added. Gives the note and the texts."""
        work, wanted = session.work(STEER), Steering.of(*values)
        busy = f"Writing {len(wanted.strengths)} texts as one batch…"
        for now in running(work, lambda: _from(Written(wanted), steer(self.suite, wanted)), self.suite.worker):
            yield _said(now, busy), lens_view.texts(work.found)

    def stop_looking(self, session: Session) -> None:
        """Ends the looking at once."""
        session.work(LENS).stop.set()

    def stop_steering(self, session: Session) -> None:
        """Ends the writing at once."""
        session.work(STEER).stop.set()

    # ---------------------------------------------------------------- showing and choosing

    def shown(self, session: Session, method: str, position: int) -> tuple[str, str]:
        """The words by layer, and how the changes resemble each other."""
        seen = session.work(LENS).found
        return lens_view.words(seen, method, position), lens_view.cosine(seen, position)

    def choose(self, session: Session, diff: str, method: str, position: int) -> tuple:
        """Another diff was picked: nothing seen and nothing written yet."""
        for name in (LENS, STEER):
            session.work(name).begin()
            session.work(name).found = None
        prompts = everyday_choices(self.suite.task_of(self.suite.diff(diff)))
        return (
            note_html(""),
            *self.shown(session, method, position),
            note_html(""),
            lens_view.texts(None),
            gr.update(choices=prompts, value=prompts[0]),
            gr.update(value=MIDDLE),
        )

    def arrive(self, session: Session, diff: str, method: str, position: int) -> tuple:
        """The tab was opened: Explore's diff is picked where nothing has been looked at here yet."""
        brought = session.brings(LENS, diff)
        if session.work(LENS).found is None and session.work(STEER).found is None and brought != diff:
            return brought, *self.choose(session, brought, method, position)
        return (gr.skip(),) * 8

    def changed(self, session: Session, *values: Any) -> Any:
        """Whether what is seen still answers the controls."""
        return _stale(session.work(LENS), Wanted(*values), STALE)

    def steering_changed(self, session: Session, *values: Any) -> Any:
        """Whether what was written still answers the controls."""
        return _stale(session.work(STEER), Steering.of(*values), STEER_STALE)

    # ---------------------------------------------------------------- taking away

    def saved(self, session: Session, what: str, form: str) -> tuple[str, str]:
        """File name and content of `tokens`, `similarities` or `steered`; ("", "") where there is nothing."""
        found = session.work(STEER if what == "steered" else LENS).found
        table = getattr(found, what, None)
        return (f"{found.wanted.diff}-{table.kind}.{form}", content(table, form)) if table else ("", "")

    def cell(self, session: Session, method: str, position: int) -> str:
        """The lines that show the same in a notebook; "" before anything was looked at."""
        seen = session.work(LENS).found
        if seen is None or not seen.tokens:
            return ""
        suite, diff, positions = self.suite, seen.wanted.diff, {"positions": whole(seen.wanted.positions)}
        looked = call("difference_lens", suite, diff, positions | {"top": whole(seen.wanted.top)})
        lines = [
            *opening(
                suite, self.word, diff, *IMPORTS, "from dit_core.methods.lens import difference_lens, similarities"
            ),
            f"plots.lens_tokens({looked}, method={method!r}, position={position}).show()",
            f"plots.cosine({call('similarities', suite, diff, positions)}).show()\n",
        ]
        return "\n".join(lines)

    def steered_cell(self, session: Session) -> str:
        """The lines that write the same texts in a notebook; "" before there are any."""
        written = session.work(STEER).found
        if written is None or not written.steered:
            return ""
        wanted, layer = written.wanted, written.steered[0].layer
        steered = call("steer", self.suite, wanted.diff, {"layer": layer} | wanted.arguments)
        lines = opening(
            self.suite,
            self.word,
            wanted.diff,
            "from dit_core import load_suite",
            "from dit_core.methods.lens import steer",
        )
        return "\n".join([*lines, f"{steered}.to_frame()\n"])


def _from(start: F, items: Iterator[F]) -> Iterator[F]:
    yield start
    yield from items


def _said(now: F | Place | Failed, busy: str) -> str:
    """The note on what is going on."""
    if isinstance(now, Failed | Place):
        return note_html(str(now), "error" if isinstance(now, Failed) else "busy")
    if now.state == RUNNING:
        return note_html(busy, "busy")
    return note_html(STOPPED_NOTE if now.state == STOPPED else "")


def _stale(work: Work, wanted: Any, words: str) -> Any:
    if work.found is None or work.found.state == RUNNING:
        return gr.skip()
    return note_html(words if wanted != work.found.wanted else "")
