"""Settings of the Explore tab, and their address: a link is a result.

`Settings` says what was asked; `to_query` and `from_query` turn it into the part of an address after "?" and back.
What the panel under the cards was asked (`PanelSettings`) stands in the same address, where it differs from the
defaults.
What was revealed is no setting: a link never gives a topic away.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from dit_core.errors import DitError, did_you_mean
from dit_core.methods.oracle.request import SPAN
from dit_core.present.palette import COLOURS
from dit_core.records.chat import ChatContext
from dit_core.records.condition import OWN, Condition
from dit_core.request.conditions import Span
from dit_core.request.targets import ACTIVATION_KINDS
from dit_core.suite import Suite

TRIGGERS = ("absent", "right", "wrong", "own")
_NUMBERS = {"samples": int, "temperature": float, "top_p": float, "max_new_tokens": int, "seed": int}
RANGES = {
    "strength": (-2, 3),
    "copies": (0, 5),
    "samples": (1, 8),
    "temperature": (0, 2),
    "top_p": (0.05, 1),
    "max_new_tokens": (1, 200),
}
"""The least and the greatest value of each control."""


ALL_KINDS = tuple(COLOURS)
# The name in an address of each setting of the panel.
PANEL_NAMES = {"question": "oracle", "span": "span", "kinds": "read", "kind": "kind", "layers": "layers", "of": "of"}


@dataclass(frozen=True)
class Settings:
    """The settings of the Explore tab's left side.

    `adapter` "" is the default adapter of the diff's task, `own` is the text used when `trigger` is 'own'. `more` are
    further diffs as a condition has them, `turns` earlier turns, each behind 'User:' or 'Assistant:' on a line of its
    own.
    """

    diff: str
    use_diff: bool = True
    strength: float = 1.0
    use_dit: bool = True
    copies: float = 1.0
    adapter: str = ""
    trigger: str = "absent"
    own: str = ""
    question: str = ""
    samples: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 40
    seed: int = 0
    more: str = ""
    system: str = ""
    turns: str = ""
    prefill: str = ""
    raw: bool = False

    @classmethod
    def for_diff(cls, suite: Suite, diff: str) -> Settings:
        """Return the suite's defaults for a diff, given by id or reference."""
        info = suite.diff(diff)
        return cls(info.id, question=suite.task_of(info).question, max_new_tokens=suite.max_new_tokens)

    def with_diff(self, suite: Suite, diff: str) -> Settings:
        """Return the same settings for another diff, as far as they fit it; a question of the visitor's own stays."""
        info = suite.diff(diff)
        task = suite.task_of(info)
        others = {q for t in suite.tasks.values() if t is not task for q in (t.question, *t.questions)}
        question = task.question if self.question in others else self.question
        known = task.has_trigger or self.trigger not in ("right", "wrong")
        return replace(self, diff=info.id, question=question, trigger=self.trigger if known else "absent")

    @property
    def condition(self) -> Condition:
        """The chosen condition.

        Raises:
            DitError: the controls give none, as with a strength that is no number.
        """
        trigger = OWN + self.own if self.trigger == "own" else self.trigger
        adapters = ((self.adapter, self.copies),) if self.use_dit else ()
        # None in place of an empty text is what a page has for a moment while it opens.
        written, system, turns, prefill = (text or "" for text in (self.more, self.system, self.turns, self.prefill))
        more = Condition.parse(written) if written.strip() else Condition()
        if more != Condition(more.strength, diffs=more.diffs):
            raise DitError(f"'{written[:40]}' are not diffs alone: write them like 'diff:topic-0412*0.5+diff:rank1'.")
        prefill = prefill if prefill.strip() else ""
        chat = ChatContext(system.strip(), parse_turns(turns), prefill, self.raw)
        strength = self.strength if self.use_diff else 0.0
        return Condition(strength, adapters, trigger, diffs=(("", more.strength), *more.diffs), chat=chat)

    @property
    def sampling(self) -> dict:
        """The keyword arguments of `ask` that say how tokens are chosen.

        Raises:
            DitError: a number is missing.
        """
        sampling = {}
        for name, kind in _NUMBERS.items():
            try:
                sampling[name] = kind(getattr(self, name))
            except (TypeError, ValueError, OverflowError):
                raise DitError(f"The {name.replace('_', ' ')} must be a number: give one.") from None
        return sampling


_TURN = re.compile(r"^(user|assistant):", re.IGNORECASE | re.MULTILINE)


def parse_turns(text: str) -> tuple[str, ...]:
    """Return the earlier turns of a text in which each begins a line with 'User:' or 'Assistant:', by turns.

    Raises:
        DitError: a line that belongs to no turn, or two turns of one speaker.
    """
    before, *rest = _TURN.split(text.strip())
    speakers = [speaker.casefold() for speaker in rest[::2]]
    if before or any(speaker != ("user", "assistant")[at % 2] for at, speaker in enumerate(speakers)):
        raise DitError("Begin earlier turns with 'User:' and 'Assistant:' by turns, each on a line of its own.")
    return tuple(turn.strip() for turn in rest[1::2])


def written_turns(turns: tuple[str, ...]) -> str:
    """Return earlier turns as `parse_turns` reads them.

    Raises:
        DitError: a turn holds a line that begins as one.
    """
    text = "\n".join(f"{('User', 'Assistant')[at % 2]}: {turn}" for at, turn in enumerate(turns))
    if any(_TURN.match(line) for turn in turns for line in turn.splitlines()[1:]):
        raise DitError("The page can't show a turn with a line that begins with 'User:' or 'Assistant:': use Python.")
    return text


@dataclass(frozen=True)
class PanelSettings:
    """The settings of the panel.

    `question` is the oracle's first preset where it is None. `kinds` are those of the cards (keys of `COLOURS`) that
    are read, and `of` that of the one whose tokens are shown and whose words stand along the axis, "" for the chosen
    one.
    """

    question: str | None = None
    span: str = SPAN
    kinds: tuple[str, ...] = ALL_KINDS
    kind: str = ACTIVATION_KINDS[0]
    layers: str = "all"
    of: str = ""

    @classmethod
    def from_controls(cls, suite: Suite, values: Mapping[str, Any]) -> PanelSettings:
        """Return the settings for the controls' values by name, `oracle` the question; defaults are written as such."""
        first = suite.oracle.questions[0] if suite.oracle else ""
        question = values["oracle"] or ""
        return cls(
            question=None if question.strip() == first else question,
            span=values["span"],
            kinds=tuple(kind for kind in ALL_KINDS if kind in values["kinds"]),
            kind=values["kind"],
            layers=(values["layers"] or "").strip() or "all",
            of=values["of"],
        )

    @classmethod
    def from_address(cls, given: Mapping[str, str]) -> PanelSettings:
        """Return the settings in an address; `given` may hold other ones too.

        Raises:
            DitError: a value is not understood.
        """
        settings = cls(
            question=given.get("oracle"),
            span=given.get("span", cls.span),
            kinds=tuple(given["read"].split(",")) if "read" in given else ALL_KINDS,
            kind=given.get("kind", cls.kind),
            layers=given.get("layers", cls.layers),
            of=given.get("of", cls.of),
        )
        Span(settings.span)
        for name, value, known in (
            ("read", settings.kinds, ALL_KINDS),
            ("of", (settings.of,), ("", *ALL_KINDS)),
            ("kind", (settings.kind,), ACTIVATION_KINDS),
        ):
            if unknown := set(value) - set(known):
                may = ", ".join(filter(None, known))
                raise DitError(f"In the address, {name}={unknown.pop()} is not understood: use {may}, or remove it.")
        return replace(settings, kinds=tuple(k for k in ALL_KINDS if k in settings.kinds))

    def address(self) -> dict[str, str]:
        """Return the settings that differ from the defaults, by their names in an address."""
        changed = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        written = {name: value if isinstance(value, str) else ",".join(value) for name, value in changed.items()}
        return {PANEL_NAMES[name]: value for name, value in written.items()}

    @property
    def reads(self) -> PanelSettings:
        """The same settings without those that only say how the readings are shown."""
        return self if counts_from_start(self.span) else replace(self, of="")


def counts_from_start(span: str) -> bool:
    """Return whether a span counts from a prompt's start: it means the same only where the same tokens stand."""
    return span.removeprefix("each:")[:1].isdigit()


def to_query(suite: Suite, settings: Settings, panel: PanelSettings | None = None) -> str:
    """Return the address of `settings`, without "?"; sampling and question are left out where they are the defaults.

    So is an empty question, as a page has for a moment while it opens: reloading it then asks the default.
    """
    plain = Settings.for_diff(suite, settings.diff)
    parts = {"diff": plain.diff, "condition": str(settings.condition)}
    if settings.question not in ("", plain.question):
        parts["question"] = settings.question
    parts |= {name: f"{value:g}" for name, value in settings.sampling.items() if value != getattr(plain, name)}
    parts |= panel.address() if panel else {}
    return urlencode(parts, quote_via=quote, safe="*:")


def query_settings(query: str | None) -> dict[str, str]:
    """Return the settings in an address by name, without Gradio's own, such as `__theme=dark`."""
    pairs = parse_qsl((query or "").lstrip("?"), keep_blank_values=True)
    return {name: value for name, value in pairs if not name.startswith("__")}


def from_query(suite: Suite, query: str) -> Settings:
    """Return the settings that an address asks for.

    Raises:
        DitError: with what to change in the address.
    """
    given = query_settings(query)
    known = ("diff", "condition", "question", *_NUMBERS, *PANEL_NAMES.values())
    for name in given:
        if name not in known:
            raise DitError(f"The address has an unknown setting '{name}': remove it.{did_you_mean(name, known)}")
    if "diff" not in given:
        raise DitError("The address names no diff: add diff= and an id, or pick one from the list.")
    PanelSettings.from_address(given)
    values = asdict(Settings.for_diff(suite, given["diff"]))
    values |= _controls(Condition.parse(given.get("condition", "diff+dit")))
    values["question"] = given.get("question", values["question"])
    for name, kind in _NUMBERS.items():
        try:
            values[name] = kind(given.get(name, values[name]))
        except ValueError:
            raise DitError(f"In the address, {name}={given[name]} is not a number: change or remove it.") from None
    for name, (least, most) in RANGES.items():
        if not least <= values[name] <= most:
            raise DitError(
                f"In the address, {name.replace('_', ' ')} is {values[name]:g}, and the page goes from {least:g} to "
                f"{most:g}: change it, or use Python or the command line."
            )
    return Settings(**values)


def _controls(condition: Condition) -> dict:
    """Return the controls' values for a condition; the page has one adapter, so more than one is an error."""
    if len(condition.adapters) > 1:
        raise DitError("The page shows one DIT adapter at a time: use Python or the command line for several.")
    if condition.layers:
        raise DitError("The tab Explore has the adapter act on all layers: take the layers out of the address.")
    chat = condition.chat
    name, copies = condition.adapters[0] if condition.adapters else ("", 0.0)
    own = condition.trigger.startswith(OWN)
    return {
        "use_diff": bool(condition.strength),
        "strength": condition.strength or 1.0,
        "use_dit": bool(copies),
        "copies": copies or 1.0,
        "adapter": name,
        "trigger": "own" if own else condition.trigger,
        "own": condition.trigger.removeprefix(OWN) if own else "",
        "more": str(Condition(diffs=condition.diffs)) if condition.diffs else "",
        "system": chat.system,
        "turns": written_turns(chat.turns),
        "prefill": chat.prefill,
        "raw": chat.raw,
    }
