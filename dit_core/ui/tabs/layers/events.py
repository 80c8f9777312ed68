"""Events of the Layers tab. Every method is one event.

The visitor's `Visit` keeps the result as `job("layers").result`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import gradio as gr

from dit_core.present.cards import RUNNING, STOPPED
from dit_core.session import explore_view as view
from dit_core.session.choices import condition_choices, question_choices
from dit_core.session.job import Failed, QueuePosition, run_job
from dit_core.session.layers import LayerResult, LayerSettings, steps
from dit_core.session.messages import file_content
from dit_core.session.notebook_cells import IMPORTS, call, opening_lines
from dit_core.session.time_left import ReadingProgress
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui.tabs.explore.oracle_view import note
from dit_core.ui.tabs.layers import view as layer_view

NAME = "layers"
STALE = "The settings have changed since this was read: press Read."
NO_ORACLE = "This suite has no activation oracle, so nothing is read in words; where the diff acts needs none."


class LayerEvents:
    """The events of one suite's Layers tab; `suite_ref` is how `load_suite` finds the suite."""

    def __init__(self, suite: Suite, suite_ref: str):
        self.suite, self.suite_ref = suite, suite_ref

    # ---------------------------------------------------------------- reading

    def read(self, visit: Visit, colour: str, *values: Any) -> Iterator[tuple]:
        """Read what the left side says; the heat map fills layer by layer. The last note says how it ended."""
        job, clock, settings = visit.job(NAME), ReadingProgress(), LayerSettings(*values)
        for now in run_job(job, lambda: self._steps(settings), self.suite.worker):
            if isinstance(now, QueuePosition):
                yield note(str(now), "busy", job.result), *(gr.skip(),) * 3
            elif isinstance(now, Failed):
                yield note(str(now), "error"), *self.shown(visit, colour), gr.skip()
            elif now.state == RUNNING:
                cell = layer_view.CLICK if now.norms is None else gr.skip()
                yield note(self._progress(clock, now), "busy", now), *self.shown(visit, colour), cell
            else:
                yield self._ending(now), *self.shown(visit, colour), gr.skip()

    def _steps(self, settings: LayerSettings) -> Generator[LayerResult, None, None]:
        items = steps(self.suite, settings)
        yield LayerResult(settings)
        yield from items

    def _progress(self, clock: ReadingProgress, result: LayerResult) -> str:
        if result.norms is None:
            return "Reading the prompt…"
        return clock.words(result.readings) if self.suite.oracle else "Comparing with the base…"

    def _ending(self, result: LayerResult) -> str:
        if result.silent:
            return note(result.silent, "error")
        if result.state == STOPPED:
            return note(f"Stopped after {len(result.readings or ())} readings. What was read stays.")
        return self.idle()

    def idle(self) -> str:
        """Return the note while nothing runs: why there is less to see, where that is so."""
        return note("" if self.suite.oracle else NO_ORACLE)

    def stop(self, visit: Visit) -> None:
        """End the running reading at once."""
        visit.job(NAME).stop.set()

    # ---------------------------------------------------------------- showing

    def shown(self, visit: Visit, colour: str) -> tuple[Any, Any]:
        """Return the heat map of the readings, and where the diff acts."""
        result = visit.job(NAME).result
        return (
            layer_view.heat_map(self.suite, result, colour, self._open(visit)),
            layer_view.acts(result, self._open(visit)),
        )

    def _open(self, visit: Visit) -> bool:
        result: LayerResult | None = visit.job(NAME).result
        return result is not None and visit.revealed == result.settings.diff

    def recolour(self, visit: Visit, colour: str) -> Any:
        """Return the heat map in another colour."""
        return self.shown(visit, colour)[0]

    def picked(self, visit: Visit, point: gr.EventData) -> Any:
        """Return the readings of the cell that was clicked."""
        result: LayerResult | None = visit.job(NAME).result
        try:
            _, layer, positions = point.data
        except (AttributeError, TypeError, ValueError):
            return gr.skip()
        return gr.skip() if result is None else layer_view.cell(result, layer, tuple(positions), self._open(visit))

    def reveal(self, visit: Visit, diff: str, colour: str) -> tuple:
        """Show or hides what the diff was trained on, its trigger's digits, and the colour that needs to know."""
        visit.revealed = "" if visit.revealed == diff else diff
        return self.truth(visit, diff, colour)

    def truth(self, visit: Visit, diff: str, colour: str) -> tuple:
        """Return the secret, the reveal button, the colours on offer, the figures, and no cell."""
        open_now = visit.revealed == diff
        colours = layer_view.colours(open_now)
        colour = colour if colour in colours else colours[0]
        secret = view.secret(self.suite, diff, visit.revealed)
        offered = gr.update(value="Hide" if open_now else "Reveal"), gr.update(choices=colours, value=colour)
        return secret, *offered, *self.shown(visit, colour), layer_view.CLICK

    # ---------------------------------------------------------------- choosing

    def choose(self, visit: Visit, diff: str, colour: str) -> tuple:
        """Show another diff: what it can be asked, and nothing read yet."""
        job = visit.job(NAME)
        job.begin()
        job.result = None
        return *self.offers(diff), self.idle(), *self.truth(visit, diff, colour)

    def offers(self, diff: str) -> tuple[Any, Any]:
        """Return the conditions and questions that go with a diff, and one of each to start from."""
        task = self.suite.task_of(self.suite.diff(diff))
        conditions, questions = condition_choices(task), question_choices(task)
        return gr.update(choices=conditions, value=conditions[-1][1]), gr.update(choices=questions, value=questions[0])

    def arrive(self, visit: Visit, diff: str, colour: str) -> tuple:
        """Show Explore's diff where nothing was read here yet, and what is revealed."""
        explored = visit.diff_for_tab(NAME, diff)
        if visit.job(NAME).result is None and explored != diff:
            return explored, *self.choose(visit, explored, colour)
        return *(gr.skip(),) * 4, *self.truth(visit, diff, colour)

    def changed(self, visit: Visit, *values: Any) -> Any:
        """Return a note where what is shown no longer answers the left side."""
        result: LayerResult | None = visit.job(NAME).result
        if result is None or result.state == RUNNING:
            return gr.skip()
        return note(STALE) if LayerSettings(*values) != result.settings else self._ending(result)

    # ---------------------------------------------------------------- taking away

    def saved(self, visit: Visit, what: str, form: str) -> tuple[str, str]:
        """Return file name and content of `readings` or `norms`, as `json` or `csv`; ("", "") where there is none."""
        result: LayerResult | None = visit.job(NAME).result
        table = getattr(result, what, None)
        if result is None or not table:
            return "", ""
        return f"{result.settings.diff}-{what}.{form}", file_content(table, form, reveal=self._open(visit))

    def cell(self, visit: Visit) -> str:
        """Return the lines that read and draw the same in a notebook; "" before anything was read."""
        result: LayerResult | None = visit.job(NAME).result
        if result is None or not result.norms:
            return ""
        suite, settings = self.suite, result.settings
        acts = call("norms", suite, settings.diff, settings.target)
        target = call("targets", suite, settings.diff, {**settings.target, "span": settings.span})
        oracle = (
            "from dit_core.methods.oracle import read, targets"
            if suite.oracle
            else "from dit_core.methods.oracle import targets"
        )
        lines = [
            *opening_lines(
                suite, self.suite_ref, settings.diff, *IMPORTS, "from dit_core.methods.lens import norms", oracle
            ),
            f"[target] = {target}",
            f"plots.difference_norms({acts}, target.tokens).show()",
        ]
        if suite.oracle:
            lines.append(
                f"plots.heat_map({call('read', suite, settings.diff, settings.reading)}, target.tokens).show()"
            )
        return "\n".join([*lines, ""])
