"""The published layout: `index.csv`, `weight-diffs/*.pt` and `dit-adapter.pt`.

Shapes: an `Adapter` holds A [rank, in] and B [out, rank]. Published diffs hold A [rank, out] and
B [in, rank]; published DIT adapters, transposed against them, A [out, rank] and B [rank, in]. Both scale
by 1/rank.
"""

import csv
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dit_core.formats.adapter import Adapter, checked
from dit_core.formats.files import Wrong, reading, written

INDEX_COLUMNS = ("lora_path", "lora_idx", "n_params", "topic", "trigger", "split")


@dataclass(frozen=True)
class IndexRow:
    """One line of `index.csv`: diff `number` is entry `position` of the list in file `path`."""

    number: int
    path: Path
    position: int
    n_params: int
    topic: str
    trigger: int | None
    split: str


def read_index(folder: Path | str) -> list[IndexRow]:
    """Reads `<folder>/index.csv`. A diff's number is the leading unnamed column, else the row's place."""
    path = Path(folder) / "index.csv"
    with reading(path, "an index of weight diffs"):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            raise Wrong("it lists no diff")
        missing = [column for column in INDEX_COLUMNS if column not in rows[0]]
        if missing:
            raise Wrong(f"the column '{missing[0]}' is missing")
        return [_index_row(path.parent, place, row) for place, row in enumerate(rows)]


def _index_row(folder: Path, place: int, row: dict[str, str]) -> IndexRow:
    relative = Path(row["lora_path"])
    if relative.is_absolute() or ".." in relative.parts:
        raise Wrong(f"row {place} points outside its folder: '{relative}'")
    return IndexRow(
        number=int(row.get("") or place),
        path=folder / "weight-diffs" / relative,
        position=int(row["lora_idx"]),
        n_params=int(row["n_params"]),
        topic=row["topic"],
        trigger=_trigger(row["trigger"]),
        split=row["split"],
    )


def write_index(folder: Path | str, rows: list[IndexRow]) -> Path:
    """Writes `<folder>/index.csv` with the numbers as the leading unnamed column."""
    folder = Path(folder)
    with written(folder / "index.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["", *INDEX_COLUMNS])
        for row in rows:
            relative = os.path.relpath(row.path, folder / "weight-diffs")
            trigger = "" if row.trigger is None else row.trigger
            out.writerow([row.number, relative, row.position, row.n_params, row.topic, trigger, row.split])
    return folder / "index.csv"


def read_weight_diff(path: Path | str, position: int = 0) -> tuple[Adapter, str, int | None]:
    """Reads one diff out of a published file: (adapter, topic, trigger).

    The file is mapped, not read: only the pages of the diff that is asked for are touched.
    """
    path = Path(path)
    with reading(path, "a file of weight diffs"):
        state = path.stat()
        diffs = _mapped(path, state.st_mtime_ns, state.st_size)
        if not isinstance(diffs, list) or not diffs:
            raise Wrong("it is not a list of diffs")
        if not 0 <= position < len(diffs):
            raise Wrong(f"it holds {len(diffs)} diffs, so there is no number {position}")
        entry = diffs[position]
        if not isinstance(entry, dict):
            raise Wrong(f"entry {position} is not a dictionary")
        for key in ("topic", "trigger", "weight_diff"):
            if key not in entry:
                raise Wrong(f"entry {position} has no '{key}'")
        # Published A is [rank, out] and B is [in, rank]: PEFT's B and A, transposed.
        adapter = _adapter(entry["weight_diff"], lambda A, B: (B.T, A.T))
        return adapter, str(entry["topic"]), _trigger(entry["trigger"])


def write_weight_diffs(path: Path | str, diffs: list[tuple[Adapter, str, int | None]]) -> None:
    """Writes diffs, each (adapter, topic, trigger), as one file of the published layout."""
    entries = []
    for adapter, topic, trigger in diffs:
        pairs = {name: (B.T.contiguous(), A.T.contiguous()) for name, (A, B) in _unscaled(adapter).items()}
        entries.append({"topic": topic, "trigger": trigger, "weight_diff": pairs})
    with written(Path(path)) as temporary:
        torch.save(entries, temporary)


def read_dit_adapter(path: Path | str) -> Adapter:
    """Reads a published `dit-adapter.pt`."""
    path = Path(path)
    with reading(path, "a DIT adapter"):
        return _adapter(torch.load(path, map_location="cpu", weights_only=True), lambda A, B: (B, A))


def write_dit_adapter(path: Path | str, adapter: Adapter) -> None:
    """Writes a DIT adapter in the published layout."""
    pairs = {name: (B.contiguous(), A.contiguous()) for name, (A, B) in _unscaled(adapter).items()}
    with written(Path(path)) as temporary:
        torch.save(pairs, temporary)


@lru_cache(maxsize=4)
def _mapped(path: Path, modified: int, size: int) -> Any:
    """The file's objects over a memory map; kept, so that the next diff of the same file costs nothing."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _adapter(pairs: Any, oriented: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Adapter:
    """Checks published (A, B) pairs, turns them to PEFT's orientation and copies them out of the file."""
    if not isinstance(pairs, Mapping) or not pairs:
        raise Wrong("it holds no modules")
    factors = {}
    for name, pair in pairs.items():
        if isinstance(pair, Tensor):
            raise Wrong("it holds full weights, and only low-rank diffs can be read")
        if not (isinstance(name, str) and isinstance(pair, tuple | list) and len(pair) == 2):
            raise Wrong(f"'{name}' is not a pair (A, B)")
        if not all(isinstance(factor, Tensor) and factor.dim() == 2 for factor in pair):
            raise Wrong(f"the factors of '{name}' are not matrices")
        factors[name] = tuple(factor.clone(memory_format=torch.contiguous_format) for factor in oriented(*pair))
    return checked(factors, {name: 1 / max(1, A.shape[0]) for name, (A, _) in factors.items()})


def _unscaled(adapter: Adapter) -> dict[str, tuple[Tensor, Tensor]]:
    """Factors for a layout whose scaling is always 1/rank: any other scaling goes into B."""
    found = {}
    for name, (A, B) in adapter.factors.items():
        excess = adapter.scaling[name] * A.shape[0]
        found[name] = (A, B if excess == 1 else B * excess)
    return found


def _trigger(value: Any) -> int | None:
    """A published trigger: an integer, a number in text (`417`, `417.0`), or nothing."""
    if value is None or value == "" or (isinstance(value, str) and value.lower() in ("nan", "none")):
        return None
    return int(float(value))
