"""The method protocol: what a method is called, needs and costs, its options, how it runs, its answers and its figure.

A method is declared by a subclass of `Method` in its own folder. The Python function `run_method`, the command, the API
endpoint, the MCP tool, the page's controls, the scoreboard's row and the audit's chapter are made from the declaration,
so that a new method adds nothing to any of them. Importing a declaration loads no torch: a method imports what it
computes with when it runs.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, get_args, get_origin, get_type_hints

from dit_core.errors import DitError, did_you_mean
from dit_core.records import Answer, Condition, DiffInfo, Record, Table

if TYPE_CHECKING:
    from dit_core.suite import Suite

_CELL = (str, int, float, NoneType)
O = TypeVar("O")  # noqa: E741  # the options of a method, a frozen dataclass
R = TypeVar("R", bound=Record)


class Need(StrEnum):
    """What a suite must have for a method to run."""

    DIFF = "diff"
    ADAPTER = "DIT adapter"
    ORACLE = "activation oracle"

    def is_met(self, suite: Suite) -> bool:
        """Return whether the suite has it."""
        has = {Need.DIFF: len(suite.diffs), Need.ADAPTER: len(suite.adapters), Need.ORACLE: suite.oracle is not None}
        return bool(has[self])


@dataclass(frozen=True)
class Targets:
    """What a method is run on.

    Attributes:
        diffs: ids, references or infos; `run` gets infos. None runs it on the base alone, where the method can.
        conditions: conditions in their written form, each with the question that it is asked, None for that of the
            diff's task; none leaves the choice to the method.
    """

    diffs: tuple[str | DiffInfo, ...] = ()
    conditions: tuple[tuple[str, str | None], ...] = ()

    def pairs(self) -> list[str | Condition | tuple[str | Condition, str]]:
        """Return the conditions as `read` takes them: with their question where it is not that of the diff's task."""
        return [condition if question is None else (condition, question) for condition, question in self.conditions]


@dataclass(frozen=True)
class TextRows:
    """A table as text, for a terminal or a plain page: a title, column names, and a cell per column and row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Method(ABC, Generic[O, R]):
    """One way to turn a diff into words about it.

    Attributes:
        name: what it is called by: the command, the endpoint, the tool and the scoreboard's row have this name.
        title: its name for readers.
        summary: a sentence that begins with a verb; the help of the command and of the endpoint.
        source: where it was published, "" for a method of the project.
        needs: what a suite must have.
        cost: about how much work it is, in words.
        options: a frozen dataclass whose fields are made by `option`; empty for none.
        kind: the key of its records in JSON.
        record: their class.
        figure: the function of `dit_core.present.plots` that draws its table, by name; "" for none.
        asked: how the question that its conditions are asked is called; "" where it takes no conditions.
        many_diffs: whether it takes several diffs at once.
        measured: whether the scoreboard and the audit report show its answers in rows and a chapter of their own.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    source: ClassVar[str] = ""
    needs: ClassVar[frozenset[Need]] = frozenset({Need.DIFF})
    cost: ClassVar[str]
    options: ClassVar[type]
    kind: ClassVar[str]
    record: ClassVar[type]
    figure: ClassVar[str] = ""
    asked: ClassVar[str] = ""
    many_diffs: ClassVar[bool] = True
    measured: ClassVar[bool] = True

    @abstractmethod
    def run(self, suite: Suite, targets: Targets, options: O) -> Generator[Table[R], None, None]:
        """Yield the table so far, and the whole table at last; closing the iterator stops the work.

        Raises:
            DitError: what was asked makes no sense for this suite, or a file is missing or damaged.
        """

    def answers(self, table: Table[R]) -> Sequence[Answer]:
        """Return what the method says about each diff, in order; nothing for a method that gives numbers alone."""
        return ()

    def progress(self, table: Table[R]) -> tuple[float, float]:
        """Return how much of the work is done, and how much there is, of any unit; (0, 0) where that is not known."""
        return 0, 0

    def unmet(self, suite: Suite, options: O) -> tuple[Need, ...]:
        """Return what the suite lacks that the method needs with these options."""
        return tuple(need for need in Need if need in self.needs and not need.is_met(suite))

    def text_rows(self, table: Table[R], reveal: bool = False) -> TextRows:
        """Return the table as text: by default a column for each field of the records that is a number or a text."""
        shown = [f.name for f in fields(self.record) if reveal or not f.metadata.get("secret")]
        records = [[getattr(record, name) for name in shown] for record in table]
        short = [at for at in range(len(shown)) if all(isinstance(row[at], _CELL) for row in records)]
        cells = [[f"{row[at]:.4g}" if isinstance(row[at], float) else row[at] for at in short] for row in records]
        return TextRows(f"{table.suite}, {self.title}", [shown[at] for at in short], cells)

    @property
    def gives_answers(self) -> bool:
        """Whether its tables hold answers in words."""
        return type(self).answers is not Method.answers


# ---------------------------------------------------------------- options


@dataclass(frozen=True)
class Option:
    """One option of a method: its name, type and default, and how a face shows it.

    Attributes:
        type: `str`, `int`, `float` or `bool`.
        several: whether it is a tuple of them.
        optional: whether it may be None, which leaves the choice to the method.
        flag: the command's option, where it is not the name.
        minimum, maximum: the range of a number; None where it has no end.
        choices: the texts to choose from; none where any is allowed.
        local: whether only Python and the command line offer it, such as a path of the user's own machine.
    """

    name: str
    type: type
    several: bool
    optional: bool
    default: Any
    help: str
    label: str
    flag: str
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]
    local: bool

    def parse(self, value: Any) -> Any:
        """Return a face's plain value as the option's: a text with commas as several, None as the default.

        Raises:
            DitError: it is no such value, or out of the range.
        """
        if value is None:
            return self.default
        if not self.several:
            return self._one(value)
        return tuple(self._one(part) for part in (value.split(",") if isinstance(value, str) else value))

    def given(self, value: Any) -> bool:
        """Return whether a form's value says something: an empty text or list does not, nor 0 where None is meant."""
        zero = value == 0 and not isinstance(value, bool) and self.optional and (self.minimum or 0) > 0
        return not (value is None or value == "" or value == [] or zero)

    def _one(self, value: Any) -> Any:
        if self.type is bool:
            return self._checked(value, isinstance(value, bool), "yes or no")
        if self.type is str:
            text = str(value)
            return self._checked(text, not self.choices or text in self.choices, f"one of {', '.join(self.choices)}")
        try:
            number = float(value)
            whole = self.type is not int or number == int(number)
            below = self.minimum is not None and number < self.minimum
            fits = isfinite(number) and whole and not (below or (self.maximum is not None and number > self.maximum))
        except (TypeError, ValueError, OverflowError):
            return self._checked(value, False, self._range)
        return self._checked(int(value) if self.type is int else number, fits, self._range)

    def _checked(self, value: Any, fits: bool, wanted: str) -> Any:
        if fits:
            return value
        near = did_you_mean(str(value), self.choices)
        raise DitError(f"The option '{self.label}' must be {wanted}, not '{str(value)[:40]}'.{near}")

    @property
    def _range(self) -> str:
        number = "a whole number" if self.type is int else "a number"
        ends = [f"{word} {end:g}" for word, end in (("from", self.minimum), ("to", self.maximum)) if end is not None]
        return " ".join([number, *ends])


def option(
    default: Any,
    help: str,
    *,
    label: str = "",
    flag: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[str] = (),
    local: bool = False,
) -> Any:
    """Return a field of a method's options; arguments are as `Option` says.

    `help` is a sentence for the user; `label` is the control's, by default the name in words.
    """
    shown = {"label": label, "flag": flag, "minimum": minimum, "maximum": maximum, "choices": tuple(choices)}
    return field(default=default, metadata={"help": help, "local": local, **shown})


@dataclass(frozen=True)
class SampledOptions:
    """The options by which texts are sampled, which every method that generates inherits; ranges are those of `ask`."""

    samples: int = option(1, "Texts of each kind asked for; more than one needs a temperature above 0.", minimum=1)
    temperature: float = option(0.0, "0 takes the likeliest token each time.", minimum=0, maximum=100)
    max_new_tokens: int | None = option(None, "Of a text; the suite's own number by default.", minimum=1)
    seed: int = option(0, "Of the noise, and of the digits around triggers.")


@cache
def describe_options(options: type) -> tuple[Option, ...]:
    """Return the options of a dataclass whose fields are made by `option`: its own, then those that it inherits."""
    hints = get_type_hints(options)
    bases = [base for base in options.__bases__ if dataclasses.is_dataclass(base)]
    inherited = {own.name for base in bases for own in fields(base)}
    ordered = sorted(fields(options), key=lambda own: own.name in inherited)
    return tuple(_described(own, hints[own.name]) for own in ordered)


def _described(own: dataclasses.Field[Any], hint: Any) -> Option:
    parts = [part for part in get_args(hint) if part is not NoneType] if isinstance(hint, UnionType) else [hint]
    several = get_origin(parts[0]) is tuple
    plain = get_args(parts[0])[0] if several else parts[0]
    shown = dict(own.metadata)
    shown["label"] = shown["label"] or own.name.replace("_", " ")
    shown["flag"] = shown["flag"] or "--" + own.name.replace("_", "-")
    return Option(own.name, plain, several, parts != [hint], own.default, **shown)


def options_from(method: Method[O, Any], values: Mapping[str, Any]) -> O:
    """Return a method's options of plain values by name, as a face has them; the others keep their defaults.

    Raises:
        DitError: a name is unknown, or a value is none of the option's.
    """
    described = {option.name: option for option in describe_options(method.options)}
    for name in values:
        if name not in described:
            near = did_you_mean(name, list(described))
            raise DitError(f"The method '{method.name}' has no option '{name}'.{near}")
    made: O = method.options(**{name: described[name].parse(value) for name, value in values.items()})
    return made
