"""Whole checkpoints: another model's weights as a state dict, in one file or in shards with their index."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from dit_core.formats.adapter import Adapter, checked_tensor
from dit_core.formats.files import FormatError, read_json, reading
from dit_core.formats.pickles import load_torch_file

INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLES = ("model.safetensors", "pytorch_model.bin")


def read_checkpoint(path: Path | str) -> Adapter:
    """Return the weights of a checkpoint (a transformers folder, or one file) as an adapter of whole weights.

    The files are mapped: a tensor is read when it is used. Names are those of the state dict, shapes as they lie there.

    Raises:
        DitError: there is no checkpoint, it is damaged, or its index points out of its folder.
    """
    path = Path(path)
    with reading(path, "a checkpoint"):
        weights: dict[str, Tensor] = {}
        for file in _files(path) if path.is_dir() else [path]:
            weights |= map_tensors(file)
        return Adapter({}, {}, weights)


def map_tensors(path: Path) -> dict[str, Tensor]:
    """Return the named tensors of a `.safetensors` file or a pickled state dict, memory-mapped; else FormatError."""
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    else:
        found = load_torch_file(path)
    if not isinstance(found, Mapping) or not found:
        raise FormatError("it holds no named tensors")
    return {name: checked_tensor(name, tensor) for name, tensor in found.items()}


def is_checkpoint(folder: Path) -> bool:
    """Return whether a folder looks like a transformers checkpoint."""
    return any((folder / name).is_file() for name in (*INDICES, *SINGLES))


def _files(folder: Path) -> list[Path]:
    """The files that hold a folder's weights."""
    for index, single in zip(INDICES, SINGLES, strict=True):
        if (folder / index).is_file():
            shards = read_json(folder / index).get("weight_map")
            if not isinstance(shards, dict) or not shards:
                raise FormatError(f"{index} lists no shards")
            names = sorted(set(map(str, shards.values())))
            # A name and no path: an index must not reach out of its folder.
            if outside := [name for name in names if Path(name).name != name or "\\" in name]:
                raise FormatError(f"{index} points outside its folder: '{outside[0]}'")
            return [folder / name for name in names]
        if (folder / single).is_file():
            return [folder / single]
    raise FormatError("it has no model.safetensors or pytorch_model.bin, nor an index of shards")
