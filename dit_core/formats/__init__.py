"""Adapter files there are, to and from one `Adapter` in memory: named low-rank factors, whole weights, or both.

Knows files and no models: the published layout (`index.csv`, `weight-diffs/*.pt`, `dit-adapter.pt`), PEFT adapter
folders, whole checkpoints, and zips of any of these. Nobody's pickle is ever loaded without `weights_only=True`, and
whatever is wrong with a file is said as a `DitError`. What lies at a path is told by its content (`identify`).
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from dit_core.formats.adapter import Adapter, is_finite, low_rank_norm
from dit_core.formats.checkpoint import is_checkpoint, origin_name, read_checkpoint
from dit_core.formats.files import FormatError, reading, unpack
from dit_core.formats.peft_folder import CONFIG, WEIGHTS, base_and_method, read_peft, write_peft
from dit_core.formats.published import (
    IndexRow,
    count_weight_diffs,
    load_objects,
    read_dit_adapter,
    read_index,
    read_weight_diff,
    write_dit_adapter,
    write_index,
    write_weight_diffs,
)

__all__ = [
    "KINDS",
    "Adapter",
    "StoredAdapter",
    "AdapterFile",
    "IndexRow",
    "count_weight_diffs",
    "identify",
    "is_finite",
    "low_rank_norm",
    "open_adapter_file",
    "read_checkpoint",
    "read_dit_adapter",
    "read_index",
    "read_peft",
    "read_weight_diff",
    "unpack",
    "write_dit_adapter",
    "write_index",
    "write_peft",
    "write_weight_diffs",
]


KINDS = {
    "peft": "PEFT LoRA folder",
    "diff": "weight diffs in the published layout",
    "dit": "DIT adapter in the published layout",
    "checkpoint": "checkpoint of whole weights",
}


@dataclass(frozen=True)
class StoredAdapter:
    """One adapter of a file, and what its file says: the base's name, and PEFT's name of the method; "" where unsaid.

    `topic` and `trigger`, which a published diff was trained on, are secrets until they are revealed.
    """

    adapter: Adapter
    base: str = ""
    method: str = ""
    topic: str | None = field(default=None, repr=False)
    trigger: int | None = field(default=None, repr=False)


@dataclass(frozen=True)
class AdapterFile:
    """What lies at a path: its `kind` (a key of `KINDS`), how many adapters, and `read(position)` for each."""

    path: Path
    kind: str
    count: int
    _read: Callable[[int], StoredAdapter] = field(repr=False)

    def read(self, position: int = 0) -> StoredAdapter:
        """Return the adapter number `position`, counted from 0; DitError where there is none, or it is damaged."""
        with reading(self.path, f"a {KINDS[self.kind]}"):
            if not 0 <= position < self.count:
                raise FormatError(f"it holds {self.count}, so there is no number {position}")
        return self._read(position)


def identify(path: Path | str) -> AdapterFile:
    """Return what lies at `path`: a PEFT, checkpoint or published folder, or one file of any of these.

    Nothing is read but what tells the kinds apart; a zip is for `open_adapter_file`.

    Raises:
        DitError: it is anything else, damaged, or not there.
    """
    path = Path(path).expanduser()
    with reading(path, "a diff or an adapter"):
        if path.name in (CONFIG, *WEIGHTS) and (path.parent / CONFIG).is_file():
            path = path.parent
        if path.is_dir():
            return _folder(path)
        if path.suffix == ".gguf":
            raise FormatError("a GGUF file is for running a model; bring the finetune as safetensors or a PEFT folder")
        if path.suffix == ".safetensors":
            return _whole_or_lone_factors(path, read_checkpoint(path).weights)
        found = load_objects(path)
        if isinstance(found, list):
            return AdapterFile(path, "diff", count_weight_diffs(path), lambda at: _published(path, at))
        if not isinstance(found, Mapping):
            raise FormatError(f"it holds {type(found).__name__}, and neither diffs nor tensors")
        if all(isinstance(value, Tensor) for value in found.values()):
            return _whole_or_lone_factors(path, found)
        return AdapterFile(path, "dit", 1, lambda _: StoredAdapter(read_dit_adapter(path)))


@contextmanager
def open_adapter_file(path: Path | str) -> Iterator[AdapterFile]:
    """Give what lies at `path`, as `identify` does, or in a zip there, which is unpacked while the context is open."""
    if Path(path).suffix.lower() != ".zip":
        yield identify(path)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield identify(unpack(path, Path(folder) / "unpacked"))


def _published(path: Path, position: int) -> StoredAdapter:
    adapter, topic, trigger = read_weight_diff(path, position)
    return StoredAdapter(adapter, topic=topic, trigger=trigger)


def _folder(path: Path) -> AdapterFile:
    if (path / CONFIG).is_file():
        return AdapterFile(path, "peft", 1, lambda _: StoredAdapter(read_peft(path), *base_and_method(path)))
    if (path / "index.csv").is_file():
        rows = read_index(path)
        return AdapterFile(path, "diff", len(rows), lambda at: _published(rows[at].path, rows[at].position))
    if is_checkpoint(path):
        return AdapterFile(path, "checkpoint", 1, lambda _: StoredAdapter(read_checkpoint(path), origin_name(path)))
    if not any(path.iterdir()):
        raise FormatError("it is empty")
    raise FormatError(f"it has neither {CONFIG} nor index.csv nor a checkpoint's files{_hint(path)}")


def _hint(path: Path) -> str:
    """Name the last of the finetunes that lie in folders of their own, as training saves them step by step."""
    inside = [one.name for one in path.iterdir() if one.is_dir() and ((one / CONFIG).is_file() or is_checkpoint(one))]
    last = max(inside, key=lambda name: (len(name), name), default="")
    return f"; name one of those in it, such as '{path / last}'" if last else ""


def _whole_or_lone_factors(path: Path, tensors: Mapping[Any, Any]) -> AdapterFile:
    if any(".lora_" in str(name) for name in tensors):
        raise FormatError(f"a LoRA's factors mean nothing without its {CONFIG}, which must lie beside it")
    return AdapterFile(path, "checkpoint", 1, lambda _: StoredAdapter(read_checkpoint(path)))
