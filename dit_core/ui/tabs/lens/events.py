"""What the Lens tab shows of its two jobs, looking and steering."""

from __future__ import annotations

import gradio as gr

from dit_core.session.choices import everyday_choices
from dit_core.session.lens import MIDDLE, LensResult, LensSettings, LookTab, SteerResult, SteerSettings, SteerTab
from dit_core.session.tab import Frame
from dit_core.session.visit import Visit
from dit_core.suite import Suite
from dit_core.ui.tabs import Shown, TabEvents, Values
from dit_core.ui.tabs.lens import view


class SteerEvents(TabEvents[SteerSettings, SteerResult]):
    """The events of steering; `suite_ref` is how `load_suite` finds the suite."""

    tab: SteerTab
    note_name = "written"

    def __init__(self, suite: Suite, suite_ref: str) -> None:
        super().__init__(SteerTab(suite, suite_ref))

    def show(self, visit: Visit, values: Values, frame: Frame[SteerResult]) -> Shown:
        """Return a card per strength."""
        return {"texts": view.texts(frame.result)}

    def offers(self, diff: str) -> Shown:
        """Return the prompts that go with a diff, and the layer in the middle."""
        prompts = everyday_choices(self.suite.task_of(self.suite.diff(diff)))
        return {"prompt": gr.update(choices=prompts, value=prompts[0]), "layer": gr.update(value=MIDDLE)}

    def secret(self, visit: Visit, diff: str) -> Shown:
        """Return nothing: the tab tells no secrets."""
        return {}


class LensEvents(TabEvents[LensSettings, LensResult]):
    """The events of looking, and of choosing a diff for both jobs."""

    tab: LookTab

    def __init__(self, suite: Suite, suite_ref: str) -> None:
        super().__init__(LookTab(suite, suite_ref))
        self.steering = SteerEvents(suite, suite_ref)

    def show(self, visit: Visit, values: Values, frame: Frame[LensResult]) -> Shown:
        """Return both figures, and what can be chosen from then on."""
        choices = {"position": view.positions(frame.result, values["position"]), "layer": view.layers(frame.result)}
        return self.drawn(visit, values) | choices

    def drawn(self, visit: Visit, values: Values) -> Shown:
        """Return the words by layer, and how alike the changes are."""
        result, method, position = self.tab.result(visit), values["method"], values["position"]
        return {"words": view.words(result, method, position), "cosine": view.cosine(result, position)}

    def secret(self, visit: Visit, diff: str) -> Shown:
        """Return nothing: the tab tells no secrets."""
        return {}

    def choose(self, visit: Visit, values: Values) -> Shown:
        """Show another diff: no words and no texts yet."""
        return super().choose(visit, values) | self.steering.choose(visit, values)

    def is_empty(self, visit: Visit) -> bool:
        """Return whether nothing was looked at and nothing written."""
        return super().is_empty(visit) and self.steering.is_empty(visit)
