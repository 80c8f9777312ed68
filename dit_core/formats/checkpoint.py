"""Whole checkpoints: another model's weights as a state dict, in one file or in shards with their index."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from dit_core.formats.adapter import Adapter, checked_tensor, quoted_name
from dit_core.formats.files import FormatError, read_json, reading
from dit_core.formats.pickles import load_torch_file

INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLES = ("model.safetensors", "pytorch_model.bin")
_EMBEDDINGS = 16  # rows in a fingerprint
_QUANTIZED = 0.15  # of an embedding's norm: more than four bits take away, far less than what two models differ by
# What may stand before a text model's own names, whatever the wrapper and its version.
_TEXT_PREFIXES = ("model", "language_model", "base_model", "module")
# What compiling, sharding and checkpointing put anywhere into a name.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)
_SCALES = ("_scale_inv", "_scale")  # behind a weight's name: by blocks, by rows, or one for all; times the weight
_OTHER_SCALES = ("input_scale", "activation_scale", "input_scale_ub", "k_scale", "v_scale")  # of activations


def read_checkpoint(path: Path | str) -> Adapter:
    """Return the weights of a checkpoint (a transformers folder, or one file) as an adapter of whole weights.

    The files are mapped: a tensor is read when it is used. Names are those of the state dict, shapes as they lie there.
    Weights in 8-bit floats are multiplied by their scales, to bfloat16.

    Raises:
        DitError: there is no checkpoint, it is damaged, or its index points out of its folder.
    """
    path = Path(path)
    with reading(path, "a checkpoint"):
        weights: dict[str, Tensor] = {}
        for file in _files(path) if path.is_dir() else [path]:
            weights |= map_tensors(file, _FP8)
        return Adapter({}, {}, _rescaled(weights))


def map_tensors(path: Path, also: tuple[torch.dtype, ...] = ()) -> dict[str, Tensor]:
    """Return the named tensors of a `.safetensors` file or a pickled state dict, memory-mapped; else FormatError.

    `also` are number types that may stand there beside the ordinary ones.
    """
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
    else:
        found = load_torch_file(path)
    if not isinstance(found, Mapping) or not found:
        raise FormatError("it holds no named tensors")
    return {name: checked_tensor(name, tensor, also) for name, tensor in found.items()}


def _rescaled(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in 8-bit floats times their scales, which are gone then."""
    if not any(tensor.dtype in _FP8 for tensor in weights.values()):
        return weights
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if tensor.dtype in _FP8:
            scale = next((weights[name + end] for end in _SCALES if name + end in weights), torch.ones(()))
            found[name] = _times(name, tensor, scale.float())
        elif not name.endswith((*_SCALES, *_OTHER_SCALES)):
            found[name] = tensor
    return found


def _times(name: str, weight: Tensor, scale: Tensor) -> Tensor:
    """`weight` times `scale`, which has a number for all of it, for each row, or for each block of a grid."""
    try:
        for axis in range(scale.dim() if scale.dim() == weight.dim() else 0):
            if 1 < scale.shape[axis] < weight.shape[axis]:
                # Blocks are powers of two, of which the last one of a side may be cut.
                block = 1 << (-(-weight.shape[axis] // scale.shape[axis]) - 1).bit_length()
                scale = scale.repeat_interleave(block, dim=axis).narrow(axis, 0, weight.shape[axis])
        by_row = scale.dim() == 1 and len(scale) == len(weight) and weight.dim() == 2
        return (weight.float() * (scale[:, None] if by_row else scale)).bfloat16()
    except RuntimeError:
        raise FormatError(f"the scales of {quoted_name(name)} do not fit it") from None


def read_fingerprint(folder: Path | str) -> dict[str, Tensor]:
    """Return what tells a base's weights from another's and what quantized copies keep: norms, a few embeddings.

    By `text_name`, in bfloat16; embeddings are cut to their first rows.

    Raises:
        DitError: the folder holds no checkpoint in safetensors, or it is damaged.
    """
    from safetensors import safe_open

    folder, found = Path(folder), {}
    with reading(folder, "a base"):
        for file in _files(folder):
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                    part = opened.get_slice(name)
                    if part.get_dtype() in ("F32", "BF16", "F16") and (
                        kept := fingerprint_rows(name, part.get_shape())
                    ):
                        found[text_name(name)] = part[:kept].bfloat16()
    return found


def fingerprint_rows(name: str, shape: Sequence[int]) -> int:
    """Return how many rows of a tensor are part of a base's fingerprint; 0 for none."""
    if len(shape) == 1:
        return shape[0] if "norm" in name else 0
    return min(_EMBEDDINGS, shape[0]) if re.search(r"embed|wte", name) else 0


def same_weights(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool | None:
    """Return whether two fingerprints are of the same weights; None where they have nothing in common.

    Norms must be equal, embeddings too but for what quantizing one of them took away.
    """
    shared = first.keys() & second.keys()
    return all(_alike(first[name], second[name]) for name in shared) if shared else None


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.shape[1:] != other.shape[1:] or one.dim() == 1:
        return torch.equal(one, other)
    rows = min(len(one), len(other))
    mine, others = one[:rows].float(), other[:rows].float()
    return float((mine - others).norm()) <= _QUANTIZED * float(mine.norm())


def text_name(name: str) -> str:
    """Return a name without what wrappers put before the text model; a vision tower's keep theirs, and never match."""
    parts = [part for part in name.split(".") if part not in _WRAPPERS]
    while len(parts) > 1 and parts[0] in _TEXT_PREFIXES:
        parts.pop(0)
    return ".".join(parts)


def origin_name(folder: Path) -> str:
    """Return what a checkpoint's config says that it was loaded from, a text that is not trusted; "" for nothing."""
    with suppress(OSError, ValueError, FormatError):
        return str(read_json(folder / "config.json").get("_name_or_path") or "")[:200]
    return ""


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
