"""One column of a comparison, its written form, and checks of what a user gives by hand.

Written as parts joined by `+`, the same on the command line, in links, JSON and Python: `base`, `diff`, `diff*0.5`,
`dit`, `dit*2`, `dit:headline*2`, `right`, `wrong`, `own:<percent-encoded text>`; for example `diff+dit*2+right`.
`layers:2-5` lets the DIT adapters act on these layers only, both ends among them: `diff+dit+layers:2-5`. `dit@vector`,
`dit:headline@vector*2` add the vectors of an adapter's mean effect on the residual stream in the adapter's place.

Other diffs act beside the one that is asked about, by their ids: `diff+diff:topic-0412*0.7`. `diff:rank1` keeps the
first singular direction of every matrix, `diff:rank1-norm` at the whole's norm; `diff@mlp`, `diff@attention`,
`diff@q_proj` and `diff@layers:2-5` keep what changes there. In one: `diff:topic-0412:rank1@mlp@layers:2-5*2`. Layers
may be in percent of the base's, `layers:25%-50%`. What stands around the question: `dit_core.records.chat`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from numbers import Real
from typing import Any, TypeVar
from urllib.parse import quote

from dit_core.errors import DitError, checked_text, did_you_mean, is_number
from dit_core.records.chat import PLAIN_CHAT, ChatContext, is_chat_part, unquoted
from dit_core.records.layers import LayerEnd, checked_range, parse_range

Q = TypeVar("Q")
OWN, LAYERS = "own:", "layers:"
TRIGGERS = ("absent", "right", "wrong")
MAX_NUMBER = 1_000_000  # of a strength or of copies: beyond, float32 activations overflow
MAX_DIFFS = 16  # beside each other in one condition
RANK_ONE, NORM_KEPT = CUTS = ("rank1", "rank1-norm")
VECTOR = "@vector"  # behind a DIT adapter's name
_NAME = re.compile(rf"[A-Za-z0-9-]*({VECTOR})?")
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)(e-?\d+)?", re.IGNORECASE | re.ASCII)
_DIFF = re.compile(r"\w[\w.~-]*", re.ASCII)
_MODULE = re.compile(r"[A-Za-z]\w*", re.ASCII)
_HINT = "write it like 'base', 'diff*0.5', 'diff+dit*2+right' or 'dit:headline'"


@dataclass(frozen=True)
class DiffPart:
    """A diff beside the one that is asked about, or a part of a diff, as it is named in a condition.

    Attributes:
        id: the diff's id; "" for the one that is asked about.
        cut: "", or one of `CUTS`: the first singular direction of every matrix, `rank1-norm` at the whole's norm.
        where: what of it acts, all of it must hold: `layers:2-5`, `mlp`, `attention` or a module's name; () for all.
    """

    id: str = ""
    cut: str = ""
    where: tuple[str, ...] = ()

    @classmethod
    def parse(cls, name: str) -> "DiffPart":
        """Return the part of that name, such as `topic-0412:rank1@mlp`; "" is the whole diff that is asked about.

        Raises:
            DitError: an id, a cut or a place that there can't be.
        """
        whole, *places = str(name).split("@")
        words = whole.split(":") if whole else []
        cut = words.pop() if words and words[-1] in CUTS else ""
        if len(words) > 1 or not all(map(_DIFF.fullmatch, words)):
            raise DitError(f"'{whole}' names no diff: write its id, as in 'diff:topic-0412:rank1'.")
        return cls("".join(words), cut, tuple(sorted(set(map(_place, places)))))

    def __str__(self) -> str:
        return "@".join([":".join(filter(None, (self.id, self.cut))), *self.where])

    @property
    def layers(self) -> list[tuple[LayerEnd, LayerEnd]]:
        """The ranges of layers in all of which it acts."""
        return [parse_range(place.removeprefix(LAYERS)) for place in self.where if place.startswith(LAYERS)]

    @property
    def modules(self) -> list[str]:
        """The kinds and names of modules in all of which it acts."""
        return [place for place in self.where if not place.startswith(LAYERS)]


@dataclass(frozen=True)
class Condition:
    """What acts on the base and how it is asked: the diff at `strength`, DIT adapters as (name, copies), the trigger.

    The name `""` is the default adapter of the diff's task; with `VECTOR` behind a name its mean effect acts.
    `trigger` is `absent`, `right`, `wrong`, or `own:` and a text. `layers` are the first and the last layer that the
    adapters act on, None for all. `diffs` are what acts beside the diff as (name, strength), named as `DiffPart` reads
    it, and `chat` is what stands around the question.
    Copies of one adapter and strengths of one diff are added up, none is left out, and names are in order, so that
    equal conditions are equal objects.

    Raises:
        DitError: a strength or copies that are no numbers or too large, negative copies, a name or trigger there isn't.
    """

    strength: float = 0.0
    adapters: tuple[tuple[str, float], ...] = ()
    trigger: str = "absent"
    layers: tuple[LayerEnd, LayerEnd] | None = None
    diffs: tuple[tuple[str, float], ...] = ()
    chat: ChatContext = PLAIN_CHAT

    def __post_init__(self) -> None:
        copies: dict[str, float] = {}
        for name, number in self.adapters:
            if not (isinstance(name, str) and _NAME.fullmatch(name)):
                raise DitError(f"'{name}' is no name of a DIT adapter: use letters, digits and '-'.")
            copies[name] = copies.get(name, 0.0) + checked_copies(number)
        strengths = {"": _real(self.strength, "The diff's strength")}
        for name, number in self.diffs:
            part = str(DiffPart.parse(name))
            strengths[part] = strengths.get(part, 0.0) + _real(number, f"The strength of '{part}'")
        if len(strengths) > MAX_DIFFS:
            raise DitError(f"A condition has {MAX_DIFFS} diffs at most, and this one {len(strengths)}: leave some out.")
        object.__setattr__(self, "strength", strengths.pop(""))
        object.__setattr__(self, "diffs", tuple(sorted((name, n) for name, n in strengths.items() if n)))
        object.__setattr__(self, "adapters", tuple(sorted((name, n) for name, n in copies.items() if n)))
        object.__setattr__(self, "trigger", _checked_trigger(self.trigger))
        layers = None if self.layers is None else checked_range(self.layers)
        object.__setattr__(self, "layers", layers if self.adapters else None)

    @property
    def acts(self) -> bool:
        """Whether anything is put on the base."""
        return bool(self.strength or self.diffs or self.adapters)

    @property
    def needs_diff(self) -> bool:
        """Whether the diff that is asked about, or a part of it, acts."""
        return bool(self.strength) or any(not DiffPart.parse(name).id for name, _ in self.diffs)

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Return the condition written as `text`; spaces count as `+`, as links turn one into the other.

        Raises:
            DitError: a part that is not understood, or that stands there twice.
        """
        adapters: list[tuple[str, float]] = []
        diffs: list[tuple[str, float]] = []
        triggers: list[str] = []
        ranges: list[tuple[LayerEnd, LayerEnd]] = []
        chat: list[str] = []
        base = False
        for part in re.split(r"[+\s]+", str(text).strip()):
            word, star, number = part.partition("*")
            if part == "base":
                base = True
            elif part in TRIGGERS:
                triggers.append(part)
            elif part.startswith(OWN):
                triggers.append(OWN + unquoted("own", part.removeprefix(OWN)))
            elif is_chat_part(part):
                chat.append(part)
            elif part.startswith(LAYERS):
                ranges.append(parse_range(part.removeprefix(LAYERS)))
            elif re.split("[:@]", word)[0] == "diff":
                name = str(DiffPart.parse(word.removeprefix("diff").removeprefix(":")))
                diffs.append((name, _written_number(number, part) if star else 1.0))
            elif re.split("[:@]", word)[0] == "dit":
                adapters.append(
                    (word.removeprefix("dit").removeprefix(":"), _written_number(number, part) if star else 1.0)
                )
            else:
                nearest = did_you_mean(word, ("base", "diff", "dit", *TRIGGERS))
                raise DitError(f"'{part}' in the condition '{text}' is not understood: {_HINT}.{nearest}")
        twice = any(len({name for name, _ in acting}) < len(acting) for acting in (adapters, diffs))
        if max(len(triggers), len(ranges)) > 1 or twice:
            raise DitError(f"The condition '{text}' says one thing twice: {_HINT}.")
        if base and (diffs or adapters):
            raise DitError(f"The condition '{text}' is not the base: leave 'base' out.")
        if ranges and not adapters:
            raise DitError(f"The condition '{text}' has layers and no DIT adapter to act on them: add 'dit'.")
        trigger, layers = triggers[0] if triggers else "absent", ranges[0] if ranges else None
        return cls(0.0, tuple(adapters), trigger, layers, tuple(diffs), ChatContext.parse(chat))

    def __str__(self) -> str:
        parts = ["diff" + _times(self.strength)] if self.strength else []
        parts += [_named("diff", name) + _times(strength) for name, strength in self.diffs]
        parts += [_named("dit", name) + _times(copies) for name, copies in self.adapters]
        if self.trigger.startswith(OWN):
            parts.append(OWN + quote(self.trigger.removeprefix(OWN), safe=""))
        elif self.trigger != "absent":
            parts.append(self.trigger)
        if self.layers:
            parts.append(f"{LAYERS}{self.layers[0]}-{self.layers[1]}")
        return "+".join([*parts, *self.chat.written()]) or "base"


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


def parse_asked(
    condition: Any, questions: Sequence[Q], chat: ChatContext = PLAIN_CHAT
) -> list[tuple[Condition, Q | str]]:
    """Return conditions with what they are asked, each once: all `questions`, or where it is a pair, that of the pair.

    `chat` stands around the question of every condition that names none of its own.

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
        parsed = parsed if parsed.chat or not chat else replace(parsed, chat=chat)
        asked |= dict.fromkeys((parsed, question) for question in own)
    return list(asked)


def checked_copies(value: Any) -> float:
    """Return copies of a DIT adapter as a float; DitError unless they are a number of 0 or more."""
    number = _real(value, "The number of DIT copies")
    if number < 0:
        raise DitError(f"The number of DIT copies can't be negative, as {value} is: give 0 or more.")
    return number


def _place(place: str) -> str:
    if place.startswith(LAYERS):
        return LAYERS + "{}-{}".format(*parse_range(place.removeprefix(LAYERS)))
    if not _MODULE.fullmatch(place):
        raise DitError(f"'@{place}' is no part of a diff: write '@mlp', '@attention', '@q_proj' or '@{LAYERS}2-5'.")
    return place


def _named(word: str, name: str) -> str:
    return word + ("" if name.startswith("@") or not name else ":") + name


def _times(number: float) -> str:
    """`*number` as short as it round-trips, nothing for 1; `1e+22` is written `1e22`, for `+` joins parts."""
    if number == 1:
        return ""
    return "*" + repr(number).removesuffix(".0").replace("e+", "e")


def _written_number(text: str, part: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise DitError(f"'{text}' in '{part}' is not a number: {_HINT}.")
    return float(text)


def _real(value: Any, what: str) -> float:
    if not is_number(value, Real) or not abs(value) <= MAX_NUMBER:  # NaN fails this too
        raise DitError(f"{what} must be a number of at most {MAX_NUMBER:,} in size, not {value!r}.")
    return float(value) + 0.0  # -0.0 is 0


def _checked_trigger(trigger: Any) -> str:
    if isinstance(trigger, str) and trigger.startswith(OWN):
        return OWN + checked_text(trigger.removeprefix(OWN), "The trigger of your own")
    if not isinstance(trigger, str) or trigger not in TRIGGERS:
        nearest = did_you_mean(str(trigger), TRIGGERS)
        raise DitError(f"There is no trigger '{trigger}': use absent, right, wrong, or own: and a text.{nearest}")
    return trigger
