"""The tabs of the page. Here is what they share: components by name, and the events that every tab has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from inspect import isgeneratorfunction
from typing import Any, Generic

import gradio as gr
from gradio.blocks import Block

from dit_core.errors import DitError
from dit_core.session import explore_view
from dit_core.session.job import State
from dit_core.session.tab import Frame, R, S, Tab
from dit_core.session.visit import Visit
from dit_core.ui.pieces import LATEST, QUICK, SLOW, Control, progress_html

Values = Mapping[str, Any]
"""What the controls hold, by name."""
Shown = dict[str, Any]
"""What components show from now on, by name; those that are not named stay as they are."""


class Wiring:
    """A tab's components by name, for events that get what its controls hold and give what its components show.

    Args:
        visit: the visitor's state.
        parts: the components; several controls under one name are a tuple of values.
        filled: more of them, whose values no event gets.
    """

    def __init__(
        self,
        visit: gr.State,
        parts: Mapping[str, Block | Sequence[Control]],
        filled: Mapping[str, Block] | None = None,
    ) -> None:
        self.visit = visit
        self.shown = {name: part for name, part in parts.items() if isinstance(part, Block)} | dict(filled or {})
        self.controls = {name: part for name, part in parts.items() if isinstance(part, Control | Sequence)}

    def named(self, *names: str) -> list[Control]:
        """Return the controls of some names, or all of them."""
        chosen = [self.controls[name] for name in names or self.controls]
        return [control for part in chosen for control in (part if isinstance(part, Sequence) else [part])]

    def event(self, handler: Callable[[Visit, Values], Any]) -> dict[str, Any]:
        """Return the arguments of a listener that runs `handler(visit, values)`, which gives or yields `Shown`.

        The inputs are the visit and then the controls in their order, for a script of the page that changes them.
        """

        def named(values: Sequence[Any]) -> Values:
            rest = iter(values)
            return {
                name: tuple(next(rest) for _ in part) if isinstance(part, Sequence) else next(rest)
                for name, part in self.controls.items()
            }

        def answer(visit: Visit, *values: Any) -> dict[Block, Any]:
            return self.components(handler(visit, named(values)))

        def stream(visit: Visit, *values: Any) -> Iterator[dict[Block, Any]]:
            yield from map(self.components, handler(visit, named(values)))

        fn = stream if isgeneratorfunction(handler) else answer
        return {"fn": fn, "inputs": [self.visit, *self.named()], "outputs": list(self.shown.values())}

    def components(self, shown: Shown) -> dict[Block, Any]:
        """Return what is shown, by component."""
        # Gradio takes an empty dict for a value.
        return {self.shown[name]: value for name, value in shown.items()} or {
            next(iter(self.shown.values())): gr.skip()
        }


class TabEvents(Generic[S, R]):
    """The events of a tab of one suite, over its `tab`; a subclass says what its components show.

    Every event gets the visit and the controls' values by name, and gives what components show by name.

    Attributes:
        note_name: the name of the component that shows the note.
    """

    note_name = "note"

    def __init__(self, tab: Tab[S, R]) -> None:
        self.tab, self.suite = tab, tab.suite

    def show(self, visit: Visit, values: Values, frame: Frame[R]) -> Shown:
        """Return what the components show at a frame, the note not among them."""
        raise NotImplementedError

    def note(self, frame: Frame[R]) -> str:
        """Return the note of a frame as HTML, over a bar that shows how far the work is, and else keeps its place."""
        done, total = frame.progress
        return progress_html(frame.note, frame.kind, f"{done:.1f}", total or 1, idle=not total, label="how far it is")

    def blank_note(self) -> str:
        """Return the note for a first visitor."""
        return self.note(self.tab.frame(Visit()))

    def offers(self, diff: str) -> Shown:
        """Return what there is to choose from for a diff."""
        return {}

    def is_empty(self, visit: Visit) -> bool:
        """Return whether the visitor has run nothing here for the diff that is chosen."""
        return self.tab.result(visit) is None

    def run(self, visit: Visit, values: Values) -> Iterator[Shown]:
        """Run what the controls say, and show every frame."""
        yield from self.frames(self.tab, visit, values)

    def frames(self, tab: Tab[Any, R], visit: Visit, values: Values) -> Iterator[Shown]:
        """Run a tab whose results are shown here, and show every frame."""
        try:
            settings = tab.settings(values)
        except DitError as error:
            yield {self.note_name: self.note(Frame(State.FAILED, str(error), None))}
            return
        for frame in tab.run(visit, settings):
            yield {self.note_name: self.note(frame)} | self.show(visit, values, frame)

    def stop(self, visit: Visit) -> None:
        """End the run at once; what was found stays."""
        self.tab.stop(visit)

    def frame(self, visit: Visit, values: Values) -> Frame[R]:
        """Return the frame of now, for the settings that the controls say."""
        try:
            return self.tab.frame(visit, self.tab.settings(values))
        except DitError:  # half typed: running it says what is wrong
            return self.tab.frame(visit)

    def shown(self, visit: Visit, values: Values) -> Shown:
        """Return what the components show now."""
        return self.show(visit, values, self.frame(visit, values))

    def changed(self, visit: Visit, values: Values) -> Shown:
        """Return the note on whether what is shown still answers the controls."""
        frame = self.frame(visit, values)
        return {} if frame.state.busy or frame.state is State.EMPTY else {self.note_name: self.note(frame)}

    def choose(self, visit: Visit, values: Values) -> Shown:
        """Show another diff: what it can be asked, and nothing found yet."""
        self.tab.clear(visit)
        empty = self.tab.frame(visit)
        return self.truth(visit, values) | self.offers(values["diff"]) | {self.note_name: self.note(empty)}

    def arrive(self, visit: Visit, values: Values) -> Shown:
        """Show Explore's diff where nothing was found here yet, and what is revealed."""
        diff = visit.diff_for_tab(self.tab.name, values["diff"])
        if self.is_empty(visit) and diff != values["diff"]:
            return {"diff": diff} | self.choose(visit, {**values, "diff": diff})
        return self.truth(visit, values)

    def reveal(self, visit: Visit, values: Values) -> Shown:
        """Show or hide what the diff was trained on, and all that needs to know it."""
        visit.revealed = "" if visit.revealed == values["diff"] else values["diff"]
        return self.truth(visit, values)

    def truth(self, visit: Visit, values: Values) -> Shown:
        """Return what may be shown of a diff now: it may have been revealed on another tab."""
        return self.secret(visit, values["diff"]) | self.shown(visit, values)

    def secret(self, visit: Visit, diff: str) -> Shown:
        """Return the line about what a diff was trained on, and the button that reveals it."""
        word = "Hide" if visit.revealed == diff else "Reveal"
        secret = explore_view.secret(self.suite, diff, visit.revealed)
        return {"secret": secret, "reveal": gr.update(value=word)}

    def saved(self, visit: Visit, what: str, form: str) -> tuple[str, str]:
        """Return a table's file name and content, as `json` or `csv`; ("", "") where there is none."""
        return self.tab.file(visit, what, form)


def connect(events: TabEvents[Any, Any], wiring: Wiring, run: gr.Button, stop: gr.Button, *settings: str) -> None:
    """Connect what every tab has: the buttons that run and stop it, and its note on settings that have changed.

    `settings` are the names of their controls, where these are not the fields of the settings.
    """
    run.click(**wiring.event(events.run), **SLOW)
    stop.click(events.stop, wiring.visit, None, **QUICK)
    names = settings or [field.name for field in fields(events.tab.settings_type)]
    gr.on([control.change for control in wiring.named(*names)], **wiring.event(events.changed), **LATEST)
