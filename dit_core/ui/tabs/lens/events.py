"""Events of the Lens tab. Every method is one event.

The visitor's `Visit` keeps the lens's result as `job("lens").result` and the written texts as `job("steer").result`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, TypeVar

import gradio as gr

from dit_core.present.cards import RUNNING, STOPPED, note_html
from dit_core.session.choices import everyday_choices
from dit_core.session.job import Failed, Job, QueuePosition, run_job
from dit_core.session.lens import MIDDLE, LensResult, LensSettings, SteerResult, SteerSettings, look, steer
from dit_core.session.messages import file_content, integer
from dit_core.session.notebook_cells import IMPORTS, call, opening_lines
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui.tabs.lens import view as lens_view

LENS, STEER = "lens", "steer"
LOOKING = "Reading unrelated texts with the diff and without…"
STALE = "The settings have changed since: press Look."
STEER_STALE = "The settings have changed since: press Steer."
STOPPED_NOTE = "Stopped. What was there stays."
F = TypeVar("F", LensResult, SteerResult)


class LensEvents:
    """The events of one suite's Lens tab; `suite_ref` is how `load_suite` finds the suite."""

    def __init__(self, suite: Suite, suite_ref: str):
        self.suite, self.suite_ref = suite, suite_ref

    # ---------------------------------------------------------------- looking and steering

    def look(self, visit: Visit, method: str, position: int, *values: Any) -> Iterator[tuple]:
        """Look at a diff with the lens; yield the note, both figures, and what can be chosen from then on."""
        job, settings = visit.job(LENS), LensSettings(*values)
        for now in run_job(job, lambda: _from(LensResult(settings), look(self.suite, settings)), self.suite.worker):
            choices = lens_view.positions(job.result, position), lens_view.layers(job.result)
            yield _note(now, LOOKING), *self.shown(visit, method, position), *choices

    def steer(self, visit: Visit, *values: Any) -> Iterator[tuple]:
        """Let the base write while the diff's mean change is added; yield the note and the texts."""
        job, settings = visit.job(STEER), SteerSettings.from_controls(*values)
        busy = f"Writing {len(settings.strengths)} texts as one batch…"
        for now in run_job(job, lambda: _from(SteerResult(settings), steer(self.suite, settings)), self.suite.worker):
            yield _note(now, busy), lens_view.texts(job.result)

    def stop_looking(self, visit: Visit) -> None:
        """End the looking at once."""
        visit.job(LENS).stop.set()

    def stop_steering(self, visit: Visit) -> None:
        """End the writing at once."""
        visit.job(STEER).stop.set()

    # ---------------------------------------------------------------- showing and choosing

    def shown(self, visit: Visit, method: str, position: int) -> tuple[str, str]:
        """Return the words by layer, and how alike the changes are."""
        result = visit.job(LENS).result
        return lens_view.words(result, method, position), lens_view.cosine(result, position)

    def choose(self, visit: Visit, diff: str, method: str, position: int) -> tuple:
        """Show another diff: no words and no texts yet."""
        for name in (LENS, STEER):
            visit.job(name).begin()
            visit.job(name).result = None
        prompts = everyday_choices(self.suite.task_of(self.suite.diff(diff)))
        return (
            note_html(""),
            *self.shown(visit, method, position),
            note_html(""),
            lens_view.texts(None),
            gr.update(choices=prompts, value=prompts[0]),
            gr.update(value=MIDDLE),
        )

    def arrive(self, visit: Visit, diff: str, method: str, position: int) -> tuple:
        """Show Explore's diff where nothing has been looked at here yet."""
        explored = visit.diff_for_tab(LENS, diff)
        if visit.job(LENS).result is None and visit.job(STEER).result is None and explored != diff:
            return explored, *self.choose(visit, explored, method, position)
        return (gr.skip(),) * 8

    def changed(self, visit: Visit, *values: Any) -> Any:
        """Return a note where the words no longer answer the controls."""
        return _stale(visit.job(LENS), LensSettings(*values), STALE)

    def steering_changed(self, visit: Visit, *values: Any) -> Any:
        """Return a note where the texts no longer answer the controls."""
        return _stale(visit.job(STEER), SteerSettings.from_controls(*values), STEER_STALE)

    # ---------------------------------------------------------------- taking away

    def saved(self, visit: Visit, what: str, form: str) -> tuple[str, str]:
        """Return file name and content of `tokens`, `similarities` or `steered`; ("", "") where there is nothing."""
        found = visit.job(STEER if what == "steered" else LENS).result
        table = getattr(found, what, None)
        return (f"{found.settings.diff}-{table.kind}.{form}", file_content(table, form)) if table else ("", "")

    def cell(self, visit: Visit, method: str, position: int) -> str:
        """Return the lines that show the same in a notebook; "" before anything was looked at."""
        result = visit.job(LENS).result
        if result is None or not result.tokens:
            return ""
        suite, diff, positions = self.suite, result.settings.diff, {"positions": integer(result.settings.positions)}
        looked = call("difference_lens", suite, diff, positions | {"top": integer(result.settings.top)})
        lines = [
            *opening_lines(
                suite, self.suite_ref, diff, *IMPORTS, "from dit_core.methods.lens import difference_lens, similarities"
            ),
            f"plots.lens_tokens({looked}, method={method!r}, position={position}).show()",
            f"plots.cosine({call('similarities', suite, diff, positions)}).show()\n",
        ]
        return "\n".join(lines)

    def steered_cell(self, visit: Visit) -> str:
        """Return the lines that write the same texts in a notebook; "" before there are any."""
        result = visit.job(STEER).result
        if result is None or not result.steered:
            return ""
        settings, layer = result.settings, result.steered[0].layer
        steered = call("steer", self.suite, settings.diff, {"layer": layer} | settings.arguments)
        lines = opening_lines(
            self.suite,
            self.suite_ref,
            settings.diff,
            "from dit_core import load_suite",
            "from dit_core.methods.lens import steer",
        )
        return "\n".join([*lines, f"{steered}.to_frame()\n"])


def _from(start: F, items: Iterator[F]) -> Generator[F, None, None]:
    yield start
    yield from items


def _note(now: F | QueuePosition | Failed, busy: str) -> str:
    """The note on what is going on."""
    if isinstance(now, Failed | QueuePosition):
        return note_html(str(now), "error" if isinstance(now, Failed) else "busy")
    if now.state == RUNNING:
        return note_html(busy, "busy")
    return note_html(STOPPED_NOTE if now.state == STOPPED else "")


def _stale(job: Job, settings: Any, words: str) -> Any:
    if job.result is None or job.result.state == RUNNING:
        return gr.skip()
    return note_html(words if settings != job.result.settings else "")
