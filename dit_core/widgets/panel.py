"""The explorer: the page's Explore tab in a notebook. Cards that fill as tokens arrive, and below them the oracle.

Questions run in a thread of their own: a kernel that waited for the answers would notice Stop only after them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ipywidgets import HTML, Dropdown, HBox, Label, VBox
from plotly.graph_objects import Figure, FigureWidget

from dit_core.methods.comparison import compare, first_info, read_first_run
from dit_core.present import plots
from dit_core.present.cards import DONE, RUNNING, STOPPED, WAITING, note_html
from dit_core.records.condition import checked_text
from dit_core.session import answer_evidence
from dit_core.session import explore_view as view
from dit_core.session.choices import measure, measures
from dit_core.session.job import downloads_until, follow
from dit_core.session.messages import STALE, STORED, error_sentence
from dit_core.session.oracle import PanelResult, column_of, steps
from dit_core.session.readings import visible
from dit_core.session.settings import PanelSettings, Settings
from dit_core.session.time_left import AnswerProgress, ReadingProgress
from dit_core.session.visit import Result, Visit, empty_result
from dit_core.suite import Suite
from dit_core.widgets.controls import Controls
from dit_core.widgets.shown import bundle, framed, sheet


def stream_answers(suite: Suite, settings: Settings, stop: threading.Event) -> Iterator[tuple[Result, str]]:
    """Yield the answers to the standing comparison and the chosen condition, token by token, and a progress note.

    Setting `stop` ends it at once, with the answers so far.

    Raises:
        DitError: the settings make no sense.
    """
    settings = replace(settings, question=checked_text(settings.question, "The question"))
    info, _ = suite.diff(settings.diff), settings.condition
    result = replace(empty_result(suite, settings), state=RUNNING)
    clock, length = AnswerProgress(settings.max_new_tokens), 0
    yield result, f"Asking {len(result.columns)} conditions as one batch…"
    with downloads_until(stop):
        answers = compare(suite, info, result.columns, **settings.sampling)
    for table in follow(answers, stop):
        length = max((len(answer.tokens) for answer in table), default=0)
        result = replace(result, table=table)
        yield result, clock.words(length)
    stopped = stop.is_set()
    note = f"Stopped after {length} tokens. What was said stays." if stopped else ""
    yield replace(result, state=STOPPED if stopped else DONE), note


def with_evidence(suite: Suite, result: Result, stop: threading.Event) -> Iterator[Result]:
    """Yield the result with the evidence for its cards: first with a note in its place, then as it arrives."""
    if not answer_evidence.missing_evidence(suite, result):
        return
    result = replace(result, evidence_note=answer_evidence.EVIDENCE_RUNNING)
    yield result
    for evidence in follow(answer_evidence.fetch_evidence(suite, result), stop):
        if len(evidence) > len(result.evidence):
            result = replace(result, evidence=evidence)
            yield result
    yield replace(result, evidence_note=answer_evidence.EVIDENCE_STOPPED)


def stream_readings(suite: Suite, result: Result, stop: threading.Event) -> Iterator[tuple[PanelResult, str]]:
    """Yield the oracle's readings of the same conditions, layer by layer, and a note on the progress."""
    clock = ReadingProgress()
    for panel in follow(steps(suite, result, PanelSettings()), stop):
        yield panel, clock.words(panel.readings)


WAITS = "After the cards, the oracle reads every condition, layer by layer."
PRESS_ASK = "Press Ask: then the answer is weighed against what the adapter says without this diff."
NO_ORACLE = "This suite has no activation oracle, so nothing is read in words."


class Explorer(VBox):
    """The controls at the left, the cards and the plot at the right. Opens with the suite's stored first run, if any.

    `result` holds the answers that are shown, `panel` what the oracle has read of them, or None.
    """

    def __init__(self, suite: Suite) -> None:
        self.suite, self.visit = suite, Visit()
        self.panel: PanelResult | None = None
        self.controls = Controls(suite, self._on_change)
        self.heading, self.note, self.cards = HTML(), HTML(), HTML()
        self.measure = Dropdown(options=measures(False), tooltip="height shows", layout={"width": "auto"})
        self.choice = HBox([Label("height shows"), self.measure], layout={"display": "none"})
        self.figure = FigureWidget()
        self.figure._config = plots.CONFIG
        self.thread: threading.Thread | None = None
        self.controls.ask.on_click(lambda _: self.ask())
        self.controls.stop.on_click(lambda _: self.stop())
        self.controls.reveal.on_click(lambda _: self.reveal())
        self.measure.observe(lambda _: self._draw(), "value")
        self._open()
        parts = [self.heading, self.note, self.cards, self.choice, self.figure]
        board = VBox(parts, layout={"flex": "1 1 420px", "min_width": "0"})
        columns = HBox([self.controls, board], layout={"flex_flow": "row wrap", "grid_gap": "24px"})
        super().__init__([HTML(sheet()), columns])

    @property
    def result(self) -> Result:
        """The answers that are shown, with their settings; none before the first question."""
        return self.visit.result or empty_result(self.suite, self.controls.settings)

    def _open(self) -> None:
        """Show the suite's first diff, with its stored run where that is still true."""
        settings = Settings.for_diff(self.suite, first_info(self.suite).id)
        self.visit.result, note = empty_result(self.suite, settings), "Press Ask."
        if (stored := read_first_run(self.suite)) is not None:
            self.visit.result = replace(self.result, table=stored, state=DONE, stored=True, evidence_note=PRESS_ASK)
            note = STORED
        self.controls.show(settings)
        self._show(note)

    # ---------------------------------------------------------------- what a visitor does

    def ask(self) -> None:
        """Ask what the controls say; return at once, while the cards fill."""
        stop = self.visit.begin()
        self.panel = None
        self.thread = threading.Thread(target=self._run, args=(self.controls.settings, stop), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End what is running; answers and readings so far stay."""
        self.visit.stop.set()

    def reveal(self) -> None:
        """Show or hide what the diff was trained on, its trigger and the grades."""
        diff = self.result.settings.diff
        self.visit.revealed = "" if self.visit.revealed == diff else diff
        self._show()
        self._draw()

    def _on_change(self, name: str) -> None:
        settings = self.controls.settings
        if name == "diff":
            self.visit.begin()
            self.panel = None
            settings = settings.with_diff(self.suite, settings.diff)
            self.controls.show(settings)
            self.visit.result = empty_result(self.suite, settings)
            self._show("Press Ask.")
        elif self.result.state != WAITING and not self._busy:
            changed = settings != self.result.settings
            self._show_note(STALE if changed else STORED if self.result.stored else "")

    @property
    def _busy(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    # ---------------------------------------------------------------- what runs

    def _run(self, settings: Settings, stop: threading.Event) -> None:
        """Ask, then read. Show nothing more once another question has begun."""
        before = self.result
        try:
            for result, note in stream_answers(self.suite, settings, stop):
                if self.visit.stop is not stop:
                    return
                self.visit.result = result
                self._show(note, "busy" if note and not stop.is_set() else "note")
            if self.result.state == DONE:
                self._fetch_evidence(stop)
                self._read(stop)
        except Exception as error:
            if self.visit.stop is stop:
                if self.result.state != DONE:
                    self.visit.result = before
                self._show(error_sentence(error), "error")

    def _fetch_evidence(self, stop: threading.Event) -> None:
        for result in with_evidence(self.suite, self.result, stop):
            if self.visit.stop is not stop:
                return
            self.visit.result = result
            self._show("Weighing the answer…", "busy")

    def _read(self, stop: threading.Event) -> None:
        for panel, note in stream_readings(self.suite, self.result, stop):
            if self.visit.stop is not stop:
                return
            self.panel = panel
            self._show_note(note, "busy")
            self._draw()
        if self.visit.stop is stop:
            silent = self.panel.silent if self.panel else ""
            stopped = "Stopped. What was read stays." if stop.is_set() else ""
            self._show_note(silent or stopped, "error" if silent else "note")

    # ---------------------------------------------------------------- what is shown

    def _show(self, note: str = "", kind: str = "note") -> None:
        """Show heading, secret and cards, and a note above them."""
        revealed, diff = self.visit.revealed, self.result.settings.diff
        self.heading.value = framed(view.heading(self.result))
        self.cards.value = framed(view.board(self.suite, self.result, revealed), live=True)
        self.controls.secret.value = framed(view.secret(self.suite, diff, revealed))
        self.controls.reveal.description = "Hide" if revealed == diff else "Reveal"
        self._show_note(note, kind)
        if self.panel is None:
            self._draw()

    def _show_note(self, note: str, kind: str = "note") -> None:
        self.note.value = framed(note_html(note, kind))

    @property
    def _revealed(self) -> bool:
        return self.visit.revealed == self.result.settings.diff

    def _draw(self) -> None:
        """Draw the readings so far, or a sentence in their place."""
        open_now, panel = self._revealed, self.panel
        if list(self.measure.options) != measures(open_now):
            self.measure.options = measures(open_now)
        self.choice.layout.display = "" if open_now else "none"  # before that there is only one
        if panel is None or not panel.readings:
            figure = plots.sentence(WAITS if self.suite.oracle else NO_ORACLE, height=260)
        else:
            lead = column_of(panel.columns, "").condition
            shown, y = visible(panel.readings, open_now), measure(self.measure.value, open_now)
            figure = plots.by_layer(shown, y=y, selected=lead)
        self._show_figure(figure)

    def _show_figure(self, figure: Figure) -> None:
        figure.update_layout(paper_bgcolor=figure.layout.meta["paper"])  # its ink is for light paper
        with self.figure.batch_update():
            self.figure.data = ()
            self.figure.layout = figure.layout
        self.figure.add_traces(figure.data)

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """Return the widget and the cards as they are now, for where a saved notebook is only read."""
        own = super()._repr_mimebundle_(**kwargs)
        data, metadata = own if isinstance(own, tuple) else (own, {})
        return {**(data or {}), **bundle(self.result.table)}, metadata
