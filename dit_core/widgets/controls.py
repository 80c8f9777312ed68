"""The explorer's controls: reading `Settings` from them, and setting them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from ipywidgets import (
    HTML,
    Button,
    Checkbox,
    Dropdown,
    FloatSlider,
    HBox,
    Label,
    RadioButtons,
    Text,
    Textarea,
    VBox,
    Widget,
)

from dit_core.session.choices import adapter_choices, diff_choices, question_choices
from dit_core.session.settings import TRIGGERS, Settings
from dit_core.suite import Suite

WIDTH = "290px"
_FULL = {"width": "auto"}


class Controls(VBox):
    """The left side. `changed` is called with a setting's name after a visitor, and not `show`, has changed it."""

    def __init__(self, suite: Suite, changed: Callable[[str], None]) -> None:
        self.suite, self._changed, self._quiet = suite, changed, False
        self.settings_of: dict[str, Widget] = {
            "diff": Dropdown(options=diff_choices(suite), tooltip="weight diff", layout=_FULL),
            "use_diff": _switch("diff, strength"),
            "strength": _slider(-2, 3, "how much of the diff acts"),
            "use_dit": _switch("DIT, copies"),
            "copies": _slider(0, 5, "copies of the DIT adapter"),
            "adapter": Dropdown(options=adapter_choices(suite), tooltip="DIT adapter", layout=_FULL),
            "trigger": RadioButtons(options=list(TRIGGERS), tooltip="trigger", layout=_FULL),
            "own": Text(placeholder="your own trigger text", layout=_FULL),
            "question": Textarea(rows=2, tooltip="question", layout=_FULL),
        }
        self.presets = Dropdown(tooltip="question presets", layout=_FULL)
        self.reveal = Button(description="Reveal", tooltip="Shows what the diff was really trained on, and grades.")
        self.ask = Button(description="Ask", button_style="primary", tooltip="Asks all conditions as one batch.")
        self.stop = Button(description="Stop", tooltip="Ends what is running at once; what was said stays.")
        self.secret = HTML()
        self._rest: dict[str, Any] = {}
        for name, control in self.settings_of.items():
            control.observe(lambda _, name=name: self._on_change(name), "value")
        self.presets.observe(self._on_preset, "value")
        super().__init__(self._rows(), layout={"width": WIDTH, "flex": f"0 0 {WIDTH}"})

    def _rows(self) -> list[Widget]:
        own = self.settings_of
        for button in (self.reveal, self.ask, self.stop):
            button.layout.width = "48%"
        return [
            Label("weight diff"), own["diff"], self.secret, self.reveal,
            HBox([own["use_diff"], own["strength"]]), HBox([own["use_dit"], own["copies"]]),
            Label("DIT adapter"), own["adapter"],
            Label("trigger"), own["trigger"], own["own"],
            Label("question"), self.presets, own["question"],
            HBox([self.ask, self.stop]),
        ]  # fmt: skip

    @property
    def settings(self) -> Settings:
        """The settings of the controls; how tokens are chosen is as it was last shown."""
        return Settings(**self._rest | {name: control.value for name, control in self.settings_of.items()})

    def show(self, settings: Settings) -> None:
        """Set the controls without calling `changed`."""
        task = self.suite.task_of(self.suite.diff(settings.diff))
        self._rest = {name: value for name, value in vars(settings).items() if name not in self.settings_of}
        with self._quietly():
            known = [t for t in TRIGGERS if task.has_trigger or t not in ("right", "wrong")]
            if list(self.settings_of["trigger"].options) != known:
                self.settings_of["trigger"].options = known
            for name, control in self.settings_of.items():
                control.value = getattr(settings, name)
            self.settings_of["own"].layout.display = "" if settings.trigger == "own" else "none"
            presets = question_choices(task)
            self.presets.options = presets
            self.presets.value = settings.question if settings.question in presets else None

    def _on_change(self, name: str) -> None:
        if self._quiet:
            return
        if name == "trigger":
            self.settings_of["own"].layout.display = "" if self.settings_of["trigger"].value == "own" else "none"
        self._changed(name)

    def _on_preset(self, change: dict[str, Any]) -> None:
        if change["new"] and not self._quiet:
            self.settings_of["question"].value = change["new"]

    @contextmanager
    def _quietly(self):
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False


def _switch(label: str) -> Checkbox:
    return Checkbox(description=label, indent=False, layout={"width": "104px"})


def _slider(least: float, most: float, tooltip: str) -> FloatSlider:
    shape = {"width": "auto", "flex": "1 1 auto"}
    return FloatSlider(1.0, min=least, max=most, step=0.05, readout_format=".2f", tooltip=tooltip, layout=shape)
