"""The table that holds records of one kind: a sequence that becomes a pandas frame, a JSON object or CSV text."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Generic, TypeVar, overload

from dit_core.project import versions

SCHEMA_VERSION = 1
R = TypeVar("R")


def secret() -> Any:
    """Return a field that listings leave out until it is revealed, and that no log shows."""
    return field(repr=False, metadata={"secret": True})


def as_dict(record: Any, reveal: bool = False) -> dict[str, Any]:
    """A record's fields by name, tuples as lists; secret fields only where `reveal` is true."""
    if not is_dataclass(record):
        raise TypeError(f"a table holds dataclasses, not {type(record).__name__}")
    named = {f.name: getattr(record, f.name) for f in fields(record) if reveal or not f.metadata.get("secret")}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in named.items()}


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
    def __getitem__(self, index: slice) -> "Table[R]": ...
    def __getitem__(self, index):
        if isinstance(index, slice):
            return Table(self.suite, self.kind, self.records[index], self.extra)
        return self.records[index]

    def __iter__(self) -> Iterator[R]:
        return iter(self.records)

    def to_json(self, reveal: bool = False) -> dict[str, Any]:
        """A JSON-ready object: `{"schema_version", "versions", "suite", ..., kind: [...]}`."""
        rows = [as_dict(record, reveal) for record in self.records]
        made_with = {"schema_version": SCHEMA_VERSION, "versions": versions(), "suite": self.suite}
        return {**made_with, **self.extra, self.kind: rows}

    def to_frame(self, reveal: bool = False):
        """A pandas data frame with one row per record."""
        import pandas

        return pandas.DataFrame([as_dict(record, reveal) for record in self.records])

    def to_csv(self, reveal: bool = False) -> str:
        """CSV text with a header line; lists and dicts stand in their cells as JSON.

        A text that a spreadsheet would take for a formula gets a `'` before it: models and strangers wrote it.
        """
        rows = [as_dict(record, reveal) for record in self.records]
        out = io.StringIO()
        writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})
        return out.getvalue()


def _cell(value: Any) -> Any:
    """A value as a cell of CSV."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    if not isinstance(value, str):
        return value
    text = value.replace("\r", "\n")  # alone, a carriage return would end the row
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\n")) else text
