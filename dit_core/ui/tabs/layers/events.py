"""What the Layers tab shows of its readings."""

from __future__ import annotations

from typing import Any

import gradio as gr

from dit_core.session.choices import condition_choices, question_choices
from dit_core.session.layers import LayerResult, LayerSettings, LayerTab
from dit_core.session.tab import Frame
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui.tabs import Shown, TabEvents, Values
from dit_core.ui.tabs.layers import view


class LayerEvents(TabEvents[LayerSettings, LayerResult]):
    """The events of one suite's Layers tab; `suite_ref` is how `load_suite` finds the suite."""

    tab: LayerTab

    def __init__(self, suite: Suite, suite_ref: str) -> None:
        super().__init__(LayerTab(suite, suite_ref))

    def show(self, visit: Visit, values: Values, frame: Frame[LayerResult]) -> Shown:
        """Return the heat map, which fills layer by layer, and where the diff acts."""
        result = frame.result
        cell = {"cell": view.CLICK} if result is None or (result.state.busy and result.norms is None) else {}
        return self.recolour(visit, values) | {"norms": view.acts(result, self.tab.revealed(visit))} | cell

    def recolour(self, visit: Visit, values: Values) -> Shown:
        """Return the heat map in the chosen colour."""
        result = self.tab.result(visit)
        return {"heat": view.heat_map(self.suite, result, values["colour"], self.tab.revealed(visit))}

    def picked(self, visit: Visit, point: gr.EventData) -> Any:
        """Return the readings of the cell that was clicked."""
        result = self.tab.result(visit)
        try:
            _, layer, positions = point.data
        except (AttributeError, TypeError, ValueError):
            return gr.skip()
        return gr.skip() if result is None else view.cell(result, layer, tuple(positions), self.tab.revealed(visit))

    def truth(self, visit: Visit, values: Values) -> Shown:
        """Return what may be shown of a diff, the colours on offer among it, and no cell."""
        colours = view.colours(visit.revealed == values["diff"])
        colour = values["colour"] if values["colour"] in colours else colours[0]
        shown = super().truth(visit, {**values, "colour": colour})
        return shown | {"colour": gr.update(choices=colours, value=colour), "cell": view.CLICK}

    def offers(self, diff: str) -> Shown:
        """Return the conditions and questions that go with a diff, and one of each to start from."""
        task = self.suite.task_of(self.suite.diff(diff))
        conditions, questions = condition_choices(task), question_choices(task)
        return {
            "condition": gr.update(choices=conditions, value=conditions[-1][1]),
            "asked": gr.update(choices=questions, value=questions[0]),
        }
