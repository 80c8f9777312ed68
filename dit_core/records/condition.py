"""One column of a comparison, its written form, and checks of what a user gives by hand.

Written as parts joined by `+`, the same on the command line, in links, JSON and Python: `base`, `diff`, `diff*0.5`,
`dit`, `dit*2`, `dit:headline*2`, `right`, `wrong`, `own:<percent-encoded text>`; for example `diff+dit*2+right`.
`layers:2-5` lets the DIT adapters act on these layers only, both ends among them: `diff+dit+layers:2-5`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from numbers import Integral, Real
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from dit_core.errors import DitError, did_you_mean

Q = TypeVar("Q")
OWN, LAYERS = "own:", "layers:"
TRIGGERS = ("absent", "right", "wrong")
MAX_NUMBER = 1_000_000  # of a strength or of copies: beyond, float32 activations overflow
MAX_TEXT = 2000  # characters of a question, and of a trigger of the user's own
_NAME = re.compile(r"[A-Za-z0-9-]*")
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)(e-?\d+)?", re.IGNORECASE | re.ASCII)
_RANGE = re.compile(r"(\d{1,4})-(\d{1,4})", re.ASCII)
_HINT = "write it like 'base', 'diff*0.5', 'diff+dit*2+right' or 'dit:headline'"


@dataclass(frozen=True)
class Condition:
    """What acts on the base: the diff at `strength`, DIT adapters as (name, copies), and the trigger.

    The name `""` is the default adapter of the diff's task. `trigger` is `absent`, `right`, `wrong`, or `own:` and a
    text. `layers` are the first and the last layer that the adapters act on, None for all. Copies of one adapter are
    added up, none is left out, and names are in order, so that equal conditions are equal objects.

    Raises:
        DitError: a strength or copies that are no numbers or too large, negative copies, a name or trigger there isn't.
    """

    strength: float = 0.0
    adapters: tuple[tuple[str, float], ...] = ()
    trigger: str = "absent"
    layers: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        copies: dict[str, float] = {}
        for name, number in self.adapters:
            if not (isinstance(name, str) and _NAME.fullmatch(name)):
                raise DitError(f"'{name}' is no name of a DIT adapter: use letters, digits and '-'.")
            copies[name] = copies.get(name, 0.0) + checked_copies(number)
        object.__setattr__(self, "strength", _real(self.strength, "The diff's strength"))
        object.__setattr__(self, "adapters", tuple(sorted((name, n) for name, n in copies.items() if n)))
        object.__setattr__(self, "trigger", _checked_trigger(self.trigger))
        layers = None if self.layers is None else _checked_range(self.layers)
        object.__setattr__(self, "layers", layers if self.adapters else None)

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Return the condition written as `text`; spaces count as `+`, as links turn one into the other.

        Raises:
            DitError: a part that is not understood, or that stands there twice.
        """
        strengths: list[float] = []
        adapters: list[tuple[str, float]] = []
        triggers: list[str] = []
        ranges: list[tuple[int, int]] = []
        base = False
        for part in re.split(r"[+\s]+", str(text).strip()):
            word, star, number = part.partition("*")
            name = word.partition(":")[2]
            if part == "base":
                base = True
            elif part in TRIGGERS or part.startswith(OWN):
                triggers.append(OWN + _unquoted(part.removeprefix(OWN)) if part.startswith(OWN) else part)
            elif part.startswith(LAYERS):
                ranges.append(_range(part))
            elif word == "diff":
                strengths.append(_written_number(number, part) if star else 1.0)
            elif word == "dit" or word.startswith("dit:"):
                adapters.append((name, _written_number(number, part) if star else 1.0))
            else:
                nearest = did_you_mean(word, ("base", "diff", "dit", *TRIGGERS))
                raise DitError(f"'{part}' in the condition '{text}' is not understood: {_HINT}.{nearest}")
        names = [name for name, _ in adapters]
        if max(len(strengths), len(triggers), len(ranges)) > 1 or len(set(names)) < len(names):
            raise DitError(f"The condition '{text}' says one thing twice: {_HINT}.")
        if base and (strengths or adapters):
            raise DitError(f"The condition '{text}' is not the base: leave 'base' out.")
        if ranges and not adapters:
            raise DitError(f"The condition '{text}' has layers and no DIT adapter to act on them: add 'dit'.")
        strength, trigger = strengths[0] if strengths else 0.0, triggers[0] if triggers else "absent"
        return cls(strength, tuple(adapters), trigger, ranges[0] if ranges else None)

    def __str__(self) -> str:
        parts = ["diff" + _times(self.strength)] if self.strength else []
        parts += [("dit:" + name if name else "dit") + _times(copies) for name, copies in self.adapters]
        if self.trigger.startswith(OWN):
            parts.append(OWN + quote(self.trigger.removeprefix(OWN), safe=""))
        elif self.trigger != "absent":
            parts.append(self.trigger)
        if self.layers:
            parts.append(f"{LAYERS}{self.layers[0]}-{self.layers[1]}")
        return "+".join(parts) or "base"


def grid(strength: Any = 1.0, copies: Any = 0.0, trigger: Any = "absent", adapter: Any = "") -> list[Condition]:
    """Return all combinations as conditions, each once; every argument is one value or several.

    Args:
        strength: of the diff.
        copies: of the DIT adapter, 0 or more.
        trigger: `absent`, `right`, `wrong`, or `own:` and a text.
        adapter: the DIT adapter's name; "" for the default of the diff's task.

    Raises:
        DitError: as of `Condition`.
    """
    axes = (as_list(strength), as_list(adapter), as_list(copies), as_list(trigger))
    return list(dict.fromkeys(Condition(s, ((name or "", c),), t) for s, name, c, t in product(*axes)))


def as_list(value: Any) -> list[Any]:
    """Return a value, or an iterable of values (a text is one value), as a list."""
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]


def parse_asked(condition: Any, questions: Sequence[Q]) -> list[tuple[Condition, Q | str]]:
    """Return conditions with what they are asked, each once: all `questions`, or where it is a pair, that of the pair.

    Raises:
        DitError: a condition is not understood, or a tuple is no pair.
    """
    asked: dict[tuple[Condition, Q | str], None] = {}
    for written in as_list(condition):
        own: Sequence[Q | str] = questions
        if isinstance(written, tuple):
            if len(written) != 2 or written[1] is None:
                raise DitError(
                    "A condition with a question of its own is a pair of both, as in ('diff+right', 'Why?')."
                )
            written, own = written[0], [checked_text(written[1], "The question")]
        parsed = written if isinstance(written, Condition) else Condition.parse(written)
        asked |= dict.fromkeys((parsed, question) for question in own)
    return list(asked)


def checked_integer(value: Any, what: str, least: int, most: int) -> int:
    """Return a whole number within limits; DitError for anything else."""
    if not _is(value, Integral) or not least <= value <= most:
        raise DitError(f"{what} must be a whole number from {least:,} to {most:,}, not {value!r}.")
    return int(value)


def checked_number(value: Any, what: str, least: float, most: float) -> float:
    """Return a number within limits as a float; DitError for anything else."""
    if not _is(value, Real) or not least <= value <= most:  # NaN fails this too
        raise DitError(f"{what} must be a number from {least:,} to {most:,}, not {value!r}.")
    return float(value)


def checked_copies(value: Any) -> float:
    """Return copies of a DIT adapter as a float; DitError unless they are a number of 0 or more."""
    number = _real(value, "The number of DIT copies")
    if number < 0:
        raise DitError(f"The number of DIT copies can't be negative, as {value} is: give 0 or more.")
    return number


def checked_text(text: Any, what: str) -> str:
    """Return a text that a user wrote, without the white space around it; DitError when empty, over-long or no text."""
    if not isinstance(text, str):
        raise DitError(f"{what} must be text, not {text!r}.")
    stripped: str = text.strip()
    if not stripped:
        raise DitError(f"{what} is empty: write a text.")
    if len(stripped) > MAX_TEXT:
        raise DitError(f"{what} has {len(stripped):,} characters: shorten it to {MAX_TEXT:,} or fewer.")
    if any("\ud800" <= character <= "\udfff" for character in stripped):
        raise DitError(f"{what} holds a broken character (half a surrogate pair): write it anew.")
    return stripped


def _checked_range(layers: Any) -> tuple[int, int]:
    if not isinstance(layers, Sequence) or len(layers) != 2:
        raise DitError(f"Layers are given by the first and the last one, like (2, 5), and not as {layers!r}.")
    first, last = (checked_integer(layer, "A layer", 0, MAX_NUMBER) for layer in layers)
    if first > last:
        raise DitError(f"Layers {first} to {last} are no range: give the lower one first.")
    return first, last


def _range(part: str) -> tuple[int, int]:
    ends = _RANGE.fullmatch(part.removeprefix(LAYERS))
    if not ends:
        raise DitError(f"'{part}' is no range of layers: write it like '{LAYERS}2-5'.")
    return int(ends[1]), int(ends[2])


def _times(number: float) -> str:
    """`*number` as short as it round-trips, nothing for 1; `1e+22` is written `1e22`, for `+` joins parts."""
    if number == 1:
        return ""
    return "*" + repr(number).removesuffix(".0").replace("e+", "e")


def _written_number(text: str, part: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise DitError(f"'{text}' in '{part}' is not a number: {_HINT}.")
    return float(text)


def _unquoted(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise DitError(f"'{OWN}{text}' is not a percent-encoded text: encode it as UTF-8.") from error


def _is(value: Any, kind: type) -> bool:
    """Whether a value is such a number: NumPy's are too; bool is an int by accident of history."""
    return isinstance(value, kind) and not isinstance(value, bool)


def _real(value: Any, what: str) -> float:
    if not _is(value, Real) or not abs(value) <= MAX_NUMBER:  # NaN fails this too
        raise DitError(f"{what} must be a number of at most {MAX_NUMBER:,} in size, not {value!r}.")
    return float(value) + 0.0  # -0.0 is 0


def _checked_trigger(trigger: Any) -> str:
    if isinstance(trigger, str) and trigger.startswith(OWN):
        return OWN + checked_text(trigger.removeprefix(OWN), "The trigger of your own")
    if not isinstance(trigger, str) or trigger not in TRIGGERS:
        nearest = did_you_mean(str(trigger), TRIGGERS)
        raise DitError(f"There is no trigger '{trigger}': use absent, right, wrong, or own: and a text.{nearest}")
    return trigger
