"""The explorer: the page's Explore tab in a notebook. Cards that fill as tokens arrive, and below them the oracle.

Questions run in a thread of their own: a kernel that waited for the answers would notice Stop only after them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from ipywidgets import HTML, Dropdown, HBox, Label, VBox
from plotly.graph_objects import Figure, FigureWidget

from dit_core.methods.comparison import first_info, read_first_run
from dit_core.present import plots
from dit_core.present.cards import note_html
from dit_core.session import explore_view as view
from dit_core.session.choices import measure, measures
from dit_core.session.explore import ExploreTab
from dit_core.session.job import State
from dit_core.session.oracle import PanelResult, PanelTab, column_of
from dit_core.session.readings import visible
from dit_core.session.settings import PanelSettings, Settings
from dit_core.session.tab import Frame
from dit_core.session.visit import Result, Visit, empty_result
from dit_core.suite import Suite
from dit_core.widgets.controls import Controls
from dit_core.widgets.shown import bundle, framed, sheet

WAITS = "After the cards, the oracle reads every condition, layer by layer."
PRESS_ASK = "Press Ask: then the answer is weighed against what the adapter says without this diff."
NO_ORACLE = "This suite has no activation oracle, so nothing is read in words."


class Explorer(VBox):
    """The controls at the left, the cards and the plot at the right. Opens with the suite's stored first run, if any.

    `result` holds the answers that are shown, `panel` what the oracle has read of them, or None.
    """

    def __init__(self, suite: Suite) -> None:
        self.suite, self.visit = suite, Visit()
        self.asking, self.reading = ExploreTab(suite), PanelTab(suite)
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

    @property
    def panel(self) -> PanelResult | None:
        """What the oracle has read of the answers; None before it reads."""
        return self.reading.result(self.visit)

    def _open(self) -> None:
        """Show the suite's first diff, with its stored run where that is still true."""
        settings = Settings.for_diff(self.suite, first_info(self.suite).id)
        self.visit.result = empty_result(self.suite, settings)
        if (stored := read_first_run(self.suite)) is not None:
            done = replace(self.result, table=stored, state=State.DONE, stored=True)
            self.visit.result = replace(done, evidence_note=PRESS_ASK)
        self.controls.show(settings)
        self._show(self.asking.frame(self.visit))

    # ---------------------------------------------------------------- what a visitor does

    def ask(self) -> None:
        """Ask what the controls say; return at once, while the cards fill."""
        frames = self.asking.run(self.visit, self.controls.settings)
        begun = next(frames)
        self.thread = threading.Thread(target=self._run, args=(begun, frames, self.visit.stop), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End what is running; answers and readings so far stay."""
        self.asking.stop(self.visit)

    def reveal(self) -> None:
        """Show or hide what the diff was trained on, its trigger and the grades."""
        diff = self.result.settings.diff
        self.visit.revealed = "" if self.visit.revealed == diff else diff
        self._show(self.asking.frame(self.visit))
        self._draw()

    def _on_change(self, name: str) -> None:
        settings = self.controls.settings
        if name == "diff":
            self.visit.begin()
            settings = settings.with_diff(self.suite, settings.diff)
            self.controls.show(settings)
            self.visit.result = empty_result(self.suite, settings)
            self._show(self.asking.frame(self.visit))
        elif not self._busy and (frame := self.asking.frame(self.visit, settings)).state is not State.EMPTY:
            self._show_note(frame)

    @property
    def _busy(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def _run(self, begun: Frame[Result], frames: Iterator[Frame[Result]], stop: threading.Event) -> None:
        """Show the answers, then fetch the evidence for them, and read; nothing more once another question began."""
        for frame in chain([begun], frames):
            self._show(frame)
        if frame.state is State.DONE and self._goes_on(stop):
            for _ in self.asking.fetch_evidence(self.visit):
                self._show(Frame(State.PARTIAL, "Weighing the answer…", self.result))
            if self._goes_on(stop):
                for panel in self.reading.run(self.visit, PanelSettings()):
                    self._show_note(panel)
                    self._draw()

    def _goes_on(self, stop: threading.Event) -> bool:
        return self.visit.stop is stop and not stop.is_set()

    # ---------------------------------------------------------------- what is shown

    def _show(self, frame: Frame[Result]) -> None:
        """Show heading, secret and cards, and the frame's note above them."""
        revealed, diff = self.visit.revealed, self.result.settings.diff
        self.heading.value = framed(view.heading(self.result))
        self.cards.value = framed(view.board(self.suite, self.result, revealed), live=True)
        self.controls.secret.value = framed(view.secret(self.suite, diff, revealed))
        self.controls.reveal.description = "Hide" if revealed == diff else "Reveal"
        self._show_note(frame)
        if self.panel is None:
            self._draw()

    def _show_note(self, frame: Frame[Any]) -> None:
        self.note.value = framed(note_html(frame.note, frame.kind))

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
