"""The Sweep tab's work, free of any toolkit: what is said while copies, strength or layers vary."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from dit_core.errors import DitError, checked_number
from dit_core.records import SweepPoint, Table
from dit_core.session.job import Result, State, TimeLeft
from dit_core.session.tab import Frame, Tab, integer, number
from dit_core.session.visit import Visit
from dit_core.suite.snippets import call, opening_lines
from dit_core.sweeps import STEP, PlannedSweep, finished, planned, scored, stream_sweep


@dataclass(frozen=True)
class SweepSettings:
    """The settings of a sweep."""

    preset: str
    diff: str
    adapters: tuple[str, ...]
    question: str
    samples: float
    temperature: float
    max_new_tokens: float
    seed: float
    step: float = STEP
    layers: str = ""

    @property
    def sampling(self) -> dict[str, Any]:
        """The arguments of `ask` among them; raises `DitError` for an emptied field."""
        return {
            "question": self.question.strip() or None,
            "samples": integer(self.samples),
            "temperature": number(self.temperature),
            "max_new_tokens": integer(self.max_new_tokens),
            "seed": integer(self.seed),
        }


@dataclass(frozen=True, kw_only=True)
class SweepResult(Result[SweepSettings]):
    """A sweep so far: `table` has the finished answers, `streamed` all of them, some still growing."""

    plan: PlannedSweep
    table: Table[SweepPoint] | None = None
    streamed: Table[SweepPoint] | None = None

    @property
    def tables(self) -> dict[str, Table[Any]]:
        """The finished answers."""
        return {"table": self.table} if self.table else {}


class SweepTab(Tab[SweepSettings, SweepResult]):
    """Sweeps of one suite."""

    name, button, settings_type, result_type = "sweep", "Sweep", SweepSettings, SweepResult
    idle = "Choose what varies, then press Sweep."
    working = "Asking all settings…"
    pause = 0.3

    def first(self, settings: SweepSettings, visit: Visit) -> SweepResult:
        """Return what will be asked."""
        # Checked here: a field with limits of its own complains of what is only half typed.
        step = checked_number(number(settings.step), "The step of copies", 0.25, 5)
        plan = planned(
            self.suite, settings.preset, settings.diff, settings.adapters or (), step, layers=settings.layers
        )
        return SweepResult(settings, plan=plan)

    def start(self, first: SweepResult) -> Generator[Table[SweepPoint], None, None]:
        """Return the answers as they grow."""
        return stream_sweep(self.suite, **first.plan, **first.settings.sampling)

    def add(self, result: SweepResult, found: Table[SweepPoint]) -> SweepResult:
        """Return the sweep with these answers."""
        return replace(result, table=finished(found), streamed=found)

    def progress(self, result: SweepResult) -> tuple[float, float]:
        """Return how many answers are said, those in the making in part."""
        if result.streamed is None:
            return 0, 0
        extra = result.streamed.extra
        return extra["progress"] * extra["n_answers"], extra["n_answers"]

    def words(self, result: SweepResult, clock: TimeLeft) -> str:
        """Return '120 of 400 answers, token 7 of at most 16 of this batch, about 3 s left'."""
        if result.streamed is None:
            return self.working
        extra = result.streamed.extra
        words = [f"{extra['n_finished']} of {extra['n_answers']} answers"]
        if extra["n_finished"] < extra["n_answers"] and extra["n_tokens"]:
            words.append(f"token {extra['n_tokens']} of at most {extra['sampling']['max_new_tokens']} of this batch")
        return ", ".join(words) + (clock.words(extra["progress"], 1.0) if extra["progress"] < 1 else "")

    def diff(self, result: SweepResult) -> str:
        """Return the id of the diff that was swept; "" for a sweep without one."""
        return result.settings.diff if result.plan["diff"] else ""

    def run(self, visit: Visit, settings: SweepSettings) -> Iterator[Frame[SweepResult]]:
        """Sweep; what was stopped lacks its references' log-probabilities: they follow."""
        job, token = visit.job(self.name), visit.token
        yield from super().run(visit, settings)
        result: SweepResult | None = job.result
        if result and result.state is State.STOPPED and result.table and visit.token is token:
            with suppress(DitError):  # what was said stays, whatever becomes of this
                table = scored(self.suite, result.table)
                if job.result is result:
                    job.result = replace(result, table=table)
                    yield self.frame(visit)

    def cell(self, visit: Visit) -> str:
        """Return the lines that run the same sweep in a notebook; "" before any."""
        result = self.result(visit)
        if result is None:
            return ""
        options = {**result.plan, **result.settings.sampling}
        options = {name: value for name, value in options.items() if value is not None}
        diff = options.pop("diff", None)
        imports = "from dit_core import load_suite, sweep", "from dit_core.present import plots"
        lines = opening_lines(self.suite, self.suite_ref, diff, *imports)
        return "\n".join([*lines, f"table = {call('sweep', self.suite, diff, options)}", "plots.sweep_figure(table)\n"])
