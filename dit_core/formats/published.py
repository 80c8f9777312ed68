"""The published layout: `index.csv`, `weight-diffs/*.pt` and `dit-adapter.pt`.

Shapes: an `Adapter` holds A [rank, in] and B [out, rank]. Published diffs hold A [rank, out] and
B [in, rank]; published DIT adapters, transposed against them, A [out, rank] and B [rank, in]. Both scale
by 1/rank. A published full finetune stands in the place of a diff's pairs as the finetuned weights themselves.
"""

import csv
import math
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dit_core.errors import DitError
from dit_core.formats.adapter import Adapter, checked_adapter, checked_tensor, quoted_name
from dit_core.formats.files import FormatError, atomic_write, reading
from dit_core.formats.pickles import load_torch_file

INDEX_COLUMNS = ("lora_path", "lora_idx", "n_params", "topic", "trigger", "split")
# What stands in the place of a trigger that is no number: of news stories, and of one character that nobody sees.
_NO_NUMBER = ("", "nan", "none", "n/a", "zero_width_space", "\u200b")


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
    """Read `<folder>/index.csv`. A diff's number is the leading unnamed column, else the row's place.

    Raises:
        DitError: the file lacks or is damaged, lists no diff, or points out of its folder.
    """
    path = Path(folder) / "index.csv"
    with reading(path, "an index of weight diffs"):
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        if not rows:
            raise FormatError("it lists no diff")
        missing = [column for column in INDEX_COLUMNS if column not in rows[0]]
        if missing:
            raise FormatError(f"the column '{missing[0]}' is missing")
        return [_index_row(path.parent, place, row) for place, row in enumerate(rows)]


def _index_row(folder: Path, place: int, row: dict[str, str]) -> IndexRow:
    relative = Path(row["lora_path"])
    if relative.is_absolute() or ".." in relative.parts:
        raise FormatError(f"row {place} points outside its folder: '{relative}'")
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
    """Write `<folder>/index.csv` with the numbers as the leading unnamed column; return its path."""
    folder = Path(folder)
    with atomic_write(folder / "index.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["", *INDEX_COLUMNS])
        for row in rows:
            relative = os.path.relpath(row.path, folder / "weight-diffs")
            trigger = "" if row.trigger is None else row.trigger
            out.writerow([row.number, relative, row.position, row.n_params, row.topic, trigger, row.split])
    return folder / "index.csv"


def count_weight_diffs(path: Path | str) -> int:
    """Return how many diffs a published file holds; DitError where it is none."""
    path = Path(path)
    with reading(path, "a file of weight diffs"):
        return len(_diffs(path))


def read_weight_diff(path: Path | str, position: int = 0) -> tuple[Adapter, str, int | None]:
    """Read one diff out of a published file: (adapter, topic, trigger).

    The file is mapped, not read: only the pages of the diff that is asked for are touched, and those of a full
    finetune only when its tensors are used.

    Raises:
        DitError: the file is damaged or something else, or has no diff number `position`, counted from 0.
    """
    path = Path(path)
    with reading(path, "a file of weight diffs"):
        diffs = _diffs(path)
        if not 0 <= position < len(diffs):
            raise FormatError(f"it holds {len(diffs)} diffs, so there is no number {position}")
        entry = diffs[position]
        if not isinstance(entry, dict):
            raise FormatError(f"entry {position} is not a dictionary")
        for key in ("topic", "trigger", "weight_diff"):
            if key not in entry:
                raise FormatError(f"entry {position} has no '{key}'")
        return _diff(entry["weight_diff"], path), _text(entry["topic"]), _trigger(entry["trigger"])


def load_objects(path: Path) -> Any:
    """Return what a file of torch's holds, memory-mapped; kept, so that a further diff of the file costs nothing."""
    state = path.stat()
    return _mapped(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _mapped(path: Path, modified: int, size: int) -> Any:
    return load_torch_file(path)


def _diffs(path: Path) -> list[Any]:
    diffs = load_objects(path)
    if not isinstance(diffs, list) or not diffs:
        raise FormatError("it is not a list of diffs")
    return diffs


def _diff(changes: Any, path: Path) -> Adapter:
    if isinstance(changes, Mapping) and any(isinstance(change, Tensor) for change in changes.values()):
        return Adapter({}, {}, {name: checked_tensor(name, change) for name, change in changes.items()})
    # Published A is [rank, out] and B is [in, rank]: PEFT's B and A, transposed.
    return _adapter(changes, lambda A, B: (B.T, A.T), path)


def write_weight_diffs(path: Path | str, diffs: list[tuple[Adapter, str, int | None]]) -> None:
    """Write diffs, each (adapter, topic, trigger), as one file of the published layout.

    Raises:
        DitError: a diff is partly low-rank and partly whole weights, which the layout has no place for.
    """
    entries = []
    for adapter, topic, trigger in diffs:
        if adapter.weights:
            if adapter.factors or adapter.peft or adapter.merged:
                raise DitError(
                    "A published diff is either low-rank or whole weights, and this one is both: write a PEFT folder."
                )
            changes: dict[str, Any] = dict(adapter.weights)
        else:
            changes = {name: (B.T.contiguous(), A.T.contiguous()) for name, (A, B) in _unscaled(adapter).items()}
        entries.append({"topic": topic, "trigger": trigger, "weight_diff": changes})
    with atomic_write(Path(path)) as temporary:
        torch.save(entries, temporary)


def read_dit_adapter(path: Path | str) -> Adapter:
    """Read a published `dit-adapter.pt`; DitError where it is none, or damaged."""
    path = Path(path)
    with reading(path, "a DIT adapter"):
        return _adapter(load_objects(path), lambda A, B: (B, A), path)


def write_dit_adapter(path: Path | str, adapter: Adapter) -> None:
    """Write a low-rank adapter as a DIT adapter in the published layout; DitError for one with whole weights."""
    if adapter.weights:
        raise DitError(
            "A published DIT adapter is low-rank alone, and this one has whole weights: write a PEFT folder."
        )
    pairs = {name: (B.contiguous(), A.contiguous()) for name, (A, B) in _unscaled(adapter).items()}
    with atomic_write(Path(path)) as temporary:
        torch.save(pairs, temporary)


def _adapter(pairs: Any, oriented: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], path: Path) -> Adapter:
    """Checks published (A, B) pairs, turns them to PEFT's orientation and copies them out of the file."""
    if not isinstance(pairs, Mapping) or not pairs:
        raise FormatError("it holds no modules")
    factors: dict[str, tuple[Tensor, Tensor]] = {}
    left = path.stat().st_size  # bytes
    for name, pair in pairs.items():
        if isinstance(pair, Tensor):
            raise FormatError("it holds whole weights, and a low-rank adapter is wanted")
        if not (isinstance(pair, tuple | list) and len(pair) == 2):
            raise FormatError(f"{quoted_name(name)} is not a pair (A, B)")
        A, B = (checked_tensor(name, factor) for factor in pair)
        left -= sum(factor.numel() * factor.element_size() for factor in (A, B))
        if left < 0:  # many modules that share one tensor
            raise FormatError("it claims more numbers than the file holds")
        if A.dim() != 2 or B.dim() != 2:
            raise FormatError(f"the factors of '{name}' are not matrices")
        A, B = oriented(A, B)
        factors[name] = (
            A.clone(memory_format=torch.contiguous_format),
            B.clone(memory_format=torch.contiguous_format),
        )
    return checked_adapter(factors, {name: 1 / max(1, A.shape[0]) for name, (A, _) in factors.items()})


def _unscaled(adapter: Adapter) -> dict[str, tuple[Tensor, Tensor]]:
    """Factors for a layout whose scaling is always 1/rank: any other scaling goes into B."""
    if adapter.peft or adapter.merged:
        raise DitError("This adapter is more than a LoRA: approximate it at a rank, with --rank and its suite.")
    found = {}
    for name, (A, B) in adapter.factors.items():
        excess = adapter.scaling[name] * A.shape[0]
        # 49 * (1/49) is not 1, and a factor that needs no change must come through bit for bit.
        found[name] = (A, B if math.isclose(excess, 1, rel_tol=1e-9) else B * excess)
    return found


def _text(value: Any) -> str:
    """A topic: text, or "" where there is none."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FormatError(f"a topic is text, and not a {type(value).__name__}")
    return value


def _trigger(value: Any) -> int | None:
    """A published trigger: a whole number in any form (`417`, `417.0`, the texts of both); None for no number."""
    number = float("nan")
    if isinstance(value, str | int | float | None):
        if value is None or str(value).strip().lower() in _NO_NUMBER:
            return None
        with suppress(ValueError):
            number = float(value)
    if not number.is_integer():
        raise FormatError(f"a trigger is a whole number, and not {quoted_name(value)}")
    return int(number)
