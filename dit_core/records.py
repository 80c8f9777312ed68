"""Plain records and the table that holds them: every result of this project is one of these.

A table becomes a pandas frame, a JSON object or CSV text; it holds no tensors and no model.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Generic, TypeVar, overload

SCHEMA_VERSION = 1
R = TypeVar("R")


def _secret() -> Any:
    """A field that listings leave out until it is revealed, and that no log shows."""
    return field(repr=False, metadata={"secret": True})


@dataclass(frozen=True)
class Verbalization:
    """What one condition said.

    `diff` is `""` where the request has none; `tokens` are decoded pieces that join to `text`;
    `token_probabilities` holds the model's probability (at temperature 1) of each of them.
    """

    diff: str
    condition: str
    question: str
    sample: int
    seed: int
    text: str
    tokens: tuple[str, ...]
    token_probabilities: tuple[float, ...]


@dataclass(frozen=True)
class DiffInfo:
    """What is known about a diff. `reference` is what it was really trained on (a topic or a headline)."""

    id: str
    task: str
    split: str
    rank: int
    reference: str = _secret()
    trigger: int | None = _secret()


@dataclass(frozen=True)
class Score:
    """One row of the scoreboard: a measure's value over `n` diffs, with its 95 % interval.

    `grades` counts the diffs per grade ("1" to "5") where the measure is a mean grade;
    `published` holds other people's figures for the same thing: `{"model", "value"}`.
    """

    method: str
    task: str
    adapter: str
    layer: int | None
    measure: str
    n: int
    value: float
    interval: tuple[float, float] | None = None
    grades: dict[str, int] | None = None
    published: list[dict[str, Any]] = field(default_factory=list)


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
        """A JSON-ready object: `{"schema_version", "suite", ..., kind: [...]}`."""
        rows = [as_dict(record, reveal) for record in self.records]
        return {"schema_version": SCHEMA_VERSION, "suite": self.suite, **self.extra, self.kind: rows}

    def to_frame(self, reveal: bool = False):
        """A pandas data frame with one row per record."""
        import pandas

        return pandas.DataFrame([as_dict(record, reveal) for record in self.records])

    def to_csv(self, reveal: bool = False) -> str:
        """CSV text with a header line; lists and dicts stand in their cells as JSON."""
        rows = [as_dict(record, reveal) for record in self.records]
        out = io.StringIO()
        writer = csv.DictWriter(out, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: json.dumps(v, ensure_ascii=False) if isinstance(v, list | dict) else v for k, v in row.items()}
            )
        return out.getvalue()
