"""The table that holds records of one kind: a sequence that becomes a pandas frame, JSON or CSV, and comes back."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast, overload

from dit_core.errors import DitError
from dit_core.project import versions

if TYPE_CHECKING:
    from pandas import DataFrame
    from pydantic import TypeAdapter

SCHEMA_VERSION = 1
R = TypeVar("R")


class Record:
    """Base of all records, which are frozen dataclasses; says how they are read from JSON.

    No field may lack or be unknown, a number must be finite, and nothing is made of another type than it has.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True, "allow_inf_nan": False}


def secret() -> Any:
    """Return a field that listings leave out until it is revealed, and that no log shows."""
    return field(repr=False, metadata={"secret": True})


def as_dict(record: Any, reveal: bool = False) -> dict[str, Any]:
    """Return a record's fields by name, tuples as lists; secret fields only where `reveal` is true."""
    if not is_dataclass(record):
        raise TypeError(f"a table holds dataclasses, not {type(record).__name__}")
    named = {f.name: getattr(record, f.name) for f in fields(record) if reveal or not f.metadata.get("secret")}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}


def records_from_json(rows: Any, record: type[R]) -> tuple[R, ...]:
    """Return the records of decoded JSON: a list of objects, as `as_dict` makes them with `reveal`.

    Raises:
        DitError: what is there is no such list; the sentence names the first field that is wrong.
    """
    from pydantic import ValidationError

    try:
        # As text again: only of JSON does a strict reader take a list for a tuple.
        records: tuple[R, ...] = _reader(cast(Hashable, record)).validate_json(json.dumps(rows))
        return records
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise DitError(_sentence(record, problem["type"], problem["loc"], problem["msg"])) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise DitError(f"These are no {record.__name__} records: give the JSON that a table of them wrote.") from error


@dataclass(frozen=True)
class Table(Sequence[R], Generic[R]):
    """Records of one kind from one suite. Behaves as a sequence; slices are tables too.

    `kind` is the key of the records in JSON (`verbalizations`, `diffs`, `rows`); `extra` holds
    further keys that stand beside it, such as `{"split": "test"}`.
    """

    suite: str
    kind: str
    records: tuple[R, ...]
    extra: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> R: ...
    @overload
    def __getitem__(self, index: slice) -> Table[R]: ...
    def __getitem__(self, index: int | slice) -> R | Table[R]:
        if isinstance(index, slice):
            return Table(self.suite, self.kind, self.records[index], self.extra)
        return self.records[index]

    def __iter__(self) -> Iterator[R]:
        return iter(self.records)

    def to_json(self, reveal: bool = False) -> dict[str, Any]:
        """Return a JSON-ready object: `{"schema_version", "versions", "suite", ..., kind: [...]}`."""
        rows = [as_dict(record, reveal) for record in self.records]
        made_with = {"schema_version": SCHEMA_VERSION, "versions": versions(), "suite": self.suite}
        return {**made_with, **self.extra, self.kind: rows}

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | str | bytes, record: type[R], kind: str) -> Table[R]:
        """Return the table that `to_json(reveal=True)` wrote: its records, its suite's name and all that stood beside.

        Args:
            content: JSON text, or what was decoded from it.
            record: the class of the records, such as `Verbalization`.
            kind: the key that they stand under, such as `"verbalizations"`.

        Raises:
            DitError: the content is no such table, or a newer version wrote it.
        """
        try:
            found = json.loads(content) if isinstance(content, str | bytes) else dict(content)
            schema, rows, suite = found.pop("schema_version", SCHEMA_VERSION), found.pop(kind), found.pop("suite")
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise DitError(f"This is no table of {kind}: give the JSON of one, as `to_json` makes it.") from error
        if schema != SCHEMA_VERSION or not isinstance(suite, str):
            raise DitError(
                f"This table of {kind} is in a format of another version: update DIT Explorer, or remake it."
            )
        if found.get("versions") == versions():
            del found["versions"]  # which `to_json` adds
        return cls(suite, kind, records_from_json(rows, record), found)

    def to_frame(self, reveal: bool = False) -> DataFrame:
        """Return a pandas data frame with one row per record."""
        import pandas

        return pandas.DataFrame([as_dict(record, reveal) for record in self.records])

    def to_csv(self, reveal: bool = False) -> str:
        """Return CSV text with a header line; lists and dicts stand in their cells as JSON.

        A text that a spreadsheet would take for a formula gets a `'` before it: models and strangers wrote it.
        """
        rows = [as_dict(record, reveal) for record in self.records]
        out = io.StringIO()
        writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})
        return out.getvalue()


@cache
def _reader(record: Hashable) -> TypeAdapter[tuple[Any, ...]]:
    from pydantic import TypeAdapter

    return TypeAdapter(tuple[record, ...])  # type: ignore[valid-type]  # a class that is known at run time only


def _sentence(record: type[Any], problem: str, place: Sequence[int | str], message: str) -> str:
    """What is wrong with which field of which record, and what to do."""
    hidden = {f.name for f in fields(record) if f.metadata.get("secret")}
    number, name = (*place, None, None)[:2]
    if not isinstance(number, int) or name is None:
        return f"These are no {record.__name__} records: give the JSON that a table of them wrote."
    where = f"'{str(name)[:40]}' of {record.__name__} record {number + 1}"
    if problem == "missing" and name in hidden:
        return f"{where} is left out: write the table with `reveal`, so that it can be read back."
    wrong = {"missing": "is missing", "unexpected_keyword_argument": "is unknown"}.get(problem, f"is wrong ({message})")
    return f"{where} {wrong}: give the JSON that a table of them wrote."


def _cell(value: Any) -> Any:
    """A value as a cell of CSV."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\n")  # alone, a carriage return would end the row
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text
