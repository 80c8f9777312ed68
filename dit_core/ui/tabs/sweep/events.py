"""Events of the tab Sweep. The visitor's `Visit` keeps the result as `job("sweep").result`."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr

from dit_core.errors import DitError
from dit_core.present.cards import DONE, RUNNING, STOPPED, note_html
from dit_core.records import SweepPoint, Table
from dit_core.records.condition import checked_number
from dit_core.session import explore_view as view
from dit_core.session.job import Failed, QueuePosition, run_job
from dit_core.session.messages import file_content, integer, number
from dit_core.session.notebook_cells import call, opening_lines
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.sweeps import finished, scored, stream_sweep
from dit_core.sweeps.presets import STEP, PlannedSweep, planned
from dit_core.ui.tabs.sweep import view as sweep_view

NAME = "sweep"
IDLE = "Choose what varies, then press Sweep."
STALE = "The settings have changed since this sweep: press Sweep."


@dataclass(frozen=True)
class SweepSettings:
    """The settings of a sweep, in the order of the controls."""

    preset: str
    diff: str
    adapters: tuple[str, ...]
    question: str
    samples: float
    temperature: float
    tokens: float
    seed: float
    step: float = STEP

    @classmethod
    def from_controls(cls, *values: Any) -> SweepSettings:
        """Return the settings for the controls' values."""
        preset, diff, adapters, *rest = values
        return cls(preset, diff, tuple(adapters or ()), *rest)

    @property
    def sampling(self) -> dict[str, Any]:
        """The arguments of `ask` among them; raises `DitError` for an emptied field."""
        return {
            "question": self.question.strip() or None,
            "samples": integer(self.samples),
            "temperature": number(self.temperature),
            "max_new_tokens": integer(self.tokens),
            "seed": integer(self.seed),
        }


@dataclass(frozen=True)
class SweepResult:
    """A sweep so far: `table` has the finished answers, `streamed` all of them, some still growing."""

    settings: SweepSettings
    plan: PlannedSweep
    table: Table[SweepPoint] | None = None
    streamed: Table[SweepPoint] | None = None
    state: str = RUNNING


class SweepEvents:
    """The events of one suite's tab; `suite_ref` is how `load_suite` finds the suite."""

    def __init__(self, suite: Suite, suite_ref: str):
        self.suite, self.suite_ref = suite, suite_ref

    def idle(self) -> str:
        """Return the note before anything ran."""
        return note_html(IDLE)

    def run(self, visit: Visit, measure: str, *values: Any) -> Iterator[tuple]:
        """Run the sweep that the left side says; cards and figure fill as tokens arrive."""
        job, token, progress = visit.job(NAME), visit.token, sweep_view.Progress()
        for now in run_job(
            job, lambda: self._steps(SweepSettings.from_controls(*values)), self.suite.worker, frame=0.3
        ):
            if isinstance(now, QueuePosition):
                yield note_html(str(now), "busy"), gr.skip(), gr.skip()
            elif isinstance(now, Failed):
                yield note_html(str(now), "error"), *self.shown(visit, measure)
            elif now.state != RUNNING:
                yield note_html(_ending(now)), *self.shown(visit, measure)
            elif now.streamed is None:
                yield note_html("Asking all settings…", "busy"), gr.skip(), gr.skip()
            else:
                yield progress.note(now.streamed.extra), gr.skip(), sweep_view.cards(now.streamed)
        if visit.token is token:
            yield from self._scored(visit, measure)

    def _steps(self, settings: SweepSettings) -> Generator[SweepResult, None, None]:
        # Checked here: a field with limits of its own complains of what is only half typed.
        step = checked_number(number(settings.step), "The step of copies", 0.25, 5)
        plan = planned(self.suite, settings.preset, settings.diff, settings.adapters, step)
        tables = stream_sweep(self.suite, **plan, **settings.sampling)
        result = SweepResult(settings, plan)
        yield result
        with closing(tables):
            for table in tables:
                yield replace(result, table=finished(table), streamed=table)

    def _scored(self, visit: Visit, measure: str) -> Iterator[tuple]:
        """What was stopped lacks its references' log-probabilities: they follow."""
        job = visit.job(NAME)
        result: SweepResult | None = job.result
        if result and result.state == STOPPED and result.table:
            with suppress(DitError):  # what was said stays, whatever becomes of this
                table = scored(self.suite, result.table)
                if job.result is result:
                    job.result = replace(result, table=table)
                    yield gr.skip(), self.drawn(visit, measure), gr.skip()

    def stop(self, visit: Visit) -> None:
        """End the running sweep at once; answers in the making are lost."""
        visit.job(NAME).stop.set()

    def shown(self, visit: Visit, measure: str) -> tuple[Any, Any]:
        """Return the figure and the cards of the result."""
        result: SweepResult | None = visit.job(NAME).result
        table = result.table if result else None
        return self.drawn(visit, measure), sweep_view.cards(table) if table else sweep_view.EMPTY

    def drawn(self, visit: Visit, measure: str) -> str:
        """Return the figure of one measure."""
        result: SweepResult | None = visit.job(NAME).result
        offered = {name for _, name in sweep_view.measures(self._open(visit))}
        return sweep_view.figure(result.table if result else None, measure if measure in offered else "modal_share")

    def _open(self, visit: Visit) -> bool:
        result: SweepResult | None = visit.job(NAME).result
        return result is not None and bool(result.plan["diff"]) and visit.revealed == result.plan["diff"]

    def reveal(self, visit: Visit, diff: str, measure: str) -> tuple:
        """Show or hides what the diff was trained on, and what needs to know it."""
        visit.revealed = "" if visit.revealed == diff else diff
        return self.truth(visit, diff, measure)

    def truth(self, visit: Visit, diff: str, measure: str) -> tuple:
        """Return the secret, the reveal button, the measures on offer, and the figure."""
        offered = sweep_view.measures(self._open(visit))
        names = [name for _, name in offered]
        measure = measure if measure in names else names[0]
        word = "Hide" if visit.revealed == diff else "Reveal"
        return (
            view.secret(self.suite, diff, visit.revealed),
            gr.update(value=word),
            gr.update(choices=offered, value=measure),
            self.drawn(visit, measure),
        )

    def changed(self, visit: Visit, *values: Any) -> Any:
        """Return a note where what is shown no longer answers the left side."""
        result: SweepResult | None = visit.job(NAME).result
        if result is None or result.state == RUNNING:
            return gr.skip()
        return note_html(STALE if SweepSettings.from_controls(*values) != result.settings else "")

    def saved(self, visit: Visit, what: str, form: str) -> tuple[str, str]:
        """Return file name and content of the table; ("", "") where there is none."""
        result: SweepResult | None = visit.job(NAME).result
        if result is None or not result.table:
            return "", ""
        return f"{what}.{form}", file_content(result.table, form)

    def cell(self, visit: Visit) -> str:
        """Return the lines that run the same sweep in a notebook."""
        result: SweepResult | None = visit.job(NAME).result
        if result is None:
            return ""
        options = {**result.plan, **result.settings.sampling}
        options = {name: value for name, value in options.items() if value is not None}
        diff = options.pop("diff", None)
        lines = opening_lines(
            self.suite,
            self.suite_ref,
            diff,
            "from dit_core import load_suite, sweep",
            "from dit_core.present import plots",
        )
        return "\n".join([*lines, f"table = {call('sweep', self.suite, diff, options)}", "plots.sweep_figure(table)\n"])


def _ending(result: SweepResult) -> str:
    if result.state == DONE:
        return ""
    count = len(result.table) if result.table else 0
    return f"Stopped: {count} answer{'s were' if count != 1 else ' was'} finished, and what they say stays."
