"""Events of the panel under the cards. Every method is one event.

The visitor's `Visit` keeps the result as `job(PANEL).result`. The panel reads for the cards that are shown: after they
were answered, and whenever Read is pressed, without asking them anew.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr

from dit_core.errors import DitError
from dit_core.present.cards import DONE, RUNNING, STOPPED, WAITING
from dit_core.present.palette import TITLES
from dit_core.records import Table
from dit_core.session import reading_evidence
from dit_core.session.choices import measure, measures
from dit_core.session.job import Failed, QueuePosition, run_job
from dit_core.session.messages import file_content
from dit_core.session.oracle import PanelDisplay, PanelResult, steps
from dit_core.session.settings import ALL_KINDS, PanelSettings
from dit_core.session.time_left import ReadingProgress
from dit_core.session.visit import PANEL, Visit
from dit_core.suite import Suite
from dit_core.ui.tabs.explore import oracle_view as view

STALE = "The panel's settings have changed since: press Read."
HALTED = "The cards were stopped, so nothing was read: press Read to read what they ask all the same."
UNASKED = "Press Ask first: the panel reads the conditions on the cards."
CHOSEN = ("the chosen condition", "")
TOKENS = "Press Read to read these tokens."


class OracleEvents:
    """The events of one suite's panel.

    Those that show something get both figures' y axes and then the controls' values, in the order of `PanelSettings`;
    they give note, y axis, both figures, tokens and readings in full.
    """

    def __init__(self, suite: Suite):
        self.suite = suite

    # ---------------------------------------------------------------- reading

    def after_cards(self, visit: Visit, y: str, next_y: str, *values: Any) -> Iterator[tuple]:
        """Read what the cards show once they are answered; nothing where they were stopped or never asked."""
        state = visit.result.state if visit.result else WAITING
        if state == DONE:
            yield from self.read(visit, y, next_y, *values)
        else:
            yield view.note(HALTED) if state == STOPPED else gr.skip(), *(gr.skip(),) * 5

    def read(self, visit: Visit, y: str, next_y: str, *values: Any) -> Iterator[tuple]:
        """Read what the panel's controls say; the figure fills layer by layer. The last note says how it ended."""
        job, clock, asked = visit.job(PANEL), ReadingProgress(), PanelSettings.from_controls(self.suite, *values)
        display, lens_is_there = PanelDisplay(y, next_y, asked.of), False
        for now in run_job(job, lambda: self._steps(visit, asked, display), self.suite.worker, kept=_with_display):
            if isinstance(now, QueuePosition):
                yield view.note(str(now), "busy", job.result), *(gr.skip(),) * 5
            elif isinstance(now, Failed):
                yield self._shown(visit, asked.span, view.note(str(now), "error"))
            elif now.state == RUNNING:
                words = clock.words(now.readings) if now.next_tokens else "Reading the prompts…"
                frame = self._shown(visit, asked.span, view.note(words, "busy", now))
                yield (*frame[:3], *(gr.skip(),) * 3) if lens_is_there else frame
                lens_is_there = now.next_tokens is not None
            else:
                yield self._shown(visit, asked.span, self._ending(now))

    def _steps(self, visit: Visit, asked: PanelSettings, display: PanelDisplay) -> Generator[PanelResult, None, None]:
        if visit.result is None or visit.result.state == WAITING:
            raise DitError(UNASKED)
        yield PanelResult(visit.result, asked, display=display)
        yield from steps(self.suite, visit.result, asked)

    def _ending(self, panel: PanelResult) -> str:
        if panel.silent:
            return view.note(panel.silent, "error")
        if self.suite.oracle is None:
            return view.note(view.NO_ORACLE)
        if panel.state == STOPPED:
            return view.note(f"Stopped after {len(panel.readings or ())} readings. What was read stays.")
        return view.note(panel.left_out)

    def stop(self, visit: Visit) -> None:
        """End the running reading at once."""
        visit.job(PANEL).stop.set()

    # ---------------------------------------------------------------- showing

    def blank(self) -> tuple:
        """Return the empty panel: before any reading, and once the cards are asked or show something else."""
        return self._shown(Visit(), PanelSettings().span, view.note("" if self.suite.oracle else view.NO_ORACLE))

    def show(self, visit: Visit, y: str, next_y: str, *values: Any) -> tuple:
        """Show the same in another way: another y axis, another condition's tokens, or revealed."""
        job, asked = visit.job(PANEL), PanelSettings.from_controls(self.suite, *values)
        if job.result is not None:
            job.result = replace(job.result, display=replace(job.result.display, y=y, next_y=next_y, of=asked.of))
        return self._shown(visit, asked.span, gr.skip())

    def _shown(self, visit: Visit, span: str, note: Any) -> tuple:
        panel, open_now = self._panel(visit), self._open(visit)
        y = measure(panel.display.y if panel else "", open_now)
        return (
            note,
            gr.update(choices=measures(open_now), value=y),
            view.by_layer(panel, open_now),
            view.next_token(panel, open_now),
            view.token_buttons(panel, span, open_now),
            view.details(panel, open_now),
        )

    def _panel(self, visit: Visit) -> PanelResult | None:
        return visit.job(PANEL).result

    def _open(self, visit: Visit) -> bool:
        panel = self._panel(visit)
        return panel is not None and visit.revealed == panel.cards.settings.diff

    # ---------------------------------------------------------------- clicking

    def clicked(self, visit: Visit, event: gr.EventData) -> str:
        """Show all readings of the layer that was clicked."""
        job = visit.job(PANEL)
        if job.result is not None and isinstance(event.x, int):
            job.result = replace(job.result, display=replace(job.result.display, layer=event.x))
        return view.details(job.result, self._open(visit))

    def fetch_evidence(self, visit: Visit) -> Iterator[Any]:
        """Fetch the evidence for the clicked layer's readings, and show them with it."""
        yield gr.skip()  # an event that gives nothing would empty the page
        job = visit.job(PANEL)
        for _ in reading_evidence.fetch_evidence(self.suite, job):
            yield view.details(job.result, self._open(visit))

    def fetch_pending_evidence(self, visit: Visit) -> Iterator[Any]:
        """Fetch the evidence for a layer that was clicked while the panel read; nothing after a stop."""
        if visit.job(PANEL).stop.is_set():
            yield gr.skip()
        else:
            yield from self.fetch_evidence(visit)

    def token(self, visit: Visit, event: gr.EventData, span: str) -> tuple:
        """Set a span by its first and last token; return token buttons, span and note."""
        job = visit.job(PANEL)
        if job.result is None or not isinstance(event.at, int):
            return (gr.skip(),) * 3
        display = job.result.display
        job.result = replace(job.result, display=replace(display, first=event.at if display.first is None else None))
        if display.first is None:
            return view.token_buttons(job.result, span, self._open(visit)), gr.skip(), gr.skip()
        start, stop = sorted((display.first, event.at))
        span = f"{start}:{stop + 1}"
        update = gr.update(choices=view.span_choices(span), value=span)
        return view.token_buttons(job.result, span, self._open(visit)), update, view.note(TOKENS)

    # ---------------------------------------------------------------- choosing

    def opened(self, query: str) -> list[Any]:
        """Return the controls' updates for an address; the cards say where it is wrong."""
        try:
            return self.controls(PanelSettings.from_address(dict(parse_qsl((query or "").lstrip("?")))))
        except DitError:
            return self.controls(PanelSettings())

    def controls(self, asked: PanelSettings) -> list[Any]:
        """Return the controls' values for `asked`."""
        first = self.suite.oracle.questions[0] if self.suite.oracle else ""
        span = gr.update(choices=view.span_choices(asked.span), value=asked.span)
        return [
            first if asked.question is None else asked.question,
            span,
            list(asked.kinds),
            asked.kind,
            asked.layers,
            asked.of,
        ]

    def choices(self, visit: Visit | None = None) -> list[tuple[str, str]]:
        """Return the conditions to choose from, as the cards name them."""
        columns = visit.result.columns if visit and visit.result else ()
        named = TITLES | {column.kind: column.title for column in columns}
        return [(named[kind], kind) for kind in ALL_KINDS]

    def titles(self, visit: Visit) -> tuple[Any, Any]:
        """Return the updated names of conditions to choose from: the cards have changed."""
        choices = self.choices(visit)
        return gr.update(choices=choices), gr.update(choices=[CHOSEN, *choices])

    def changed(self, visit: Visit, *values: Any) -> Any:
        """Return a note where the panel no longer shows what its controls say."""
        panel = self._panel(visit)
        if panel is None or panel.state == RUNNING:
            return gr.skip()
        asked = PanelSettings.from_controls(self.suite, *values)
        return view.note(STALE) if asked.reads != panel.settings.reads else self._ending(panel)

    # ---------------------------------------------------------------- taking away

    def saved(self, visit: Visit, what: str, form: str) -> tuple[str, str]:
        """Return file name and content of the `readings` or the `next-tokens`; ("", "") where there is nothing."""
        panel, open_now = self._panel(visit), self._open(visit)
        if panel is None:
            return "", ""
        table: Table[Any] | None = panel.readings if what == "oracle" else view.shown_tokens(panel, open_now)
        if not table:
            return "", ""
        return f"{panel.cards.settings.diff}-{what}.{form}", file_content(table, form, reveal=open_now)


def _with_display(before: PanelResult, panel: PanelResult) -> PanelResult:
    """What was found, looked at as by now: that may have changed while it was read."""
    return replace(panel, display=before.display)
