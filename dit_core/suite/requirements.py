"""What loading a base takes, told before it is done: in which number type, what is fetched and held, and what fits."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dit_core.errors import DitError, did_you_mean
from dit_core.formats.files import read_json
from dit_core.hub import BASE_FILES, Fetcher, Source, format_bytes

BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "8bit": 1.1, "4bit": 0.65}
"""What one parameter takes; quantized ones with their scales and the embeddings, which stay whole."""
ROOM = 1.1  # over the weights: adapters, a batch's activations and cache


@dataclass(frozen=True)
class Loading:
    """How a base is loaded. `dtype` None: bfloat16 on a GPU, float32 on a CPU. `quantize`: None, `8bit` or `4bit`."""

    dtype: str | None = None
    quantize: str | None = None

    def __post_init__(self) -> None:
        for what, value, known in (
            ("number type", self.dtype, ("float32", "bfloat16", "float16")),
            ("quantization", self.quantize, ("8bit", "4bit")),
        ):
            if value is not None and value not in known:
                raise DitError(f"There is no {what} '{value}': use {', '.join(known)}.{did_you_mean(value, known)}")

    @classmethod
    def wanted(cls, dtype: str | None, quantize: str | None) -> "Loading":
        """As asked for; what is not, as the variables `DIT_DTYPE` and `DIT_QUANTIZE` say."""
        return cls(dtype or os.environ.get("DIT_DTYPE") or None, quantize or os.environ.get("DIT_QUANTIZE") or None)

    def number_type(self) -> str:
        """The number type that the base's unquantized weights get on this machine."""
        import torch

        if self.dtype:
            return self.dtype
        if not torch.cuda.is_available():
            return "float32"
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


@dataclass(frozen=True)
class Needs:
    """What loading a base takes, in bytes: `download` of its files, `memory` on `device`; and what there is of it.

    `here` is what of its files is on this disk already. `beside` is downloaded too: what a first question needs of
    diffs and adapters. `memory_there` is None where this machine does not tell, and counts what the base that is
    loaded now gives back.
    """

    base: str
    download: int
    disk_there: int
    memory: int
    memory_there: int | None
    device: str
    here: int = 0
    beside: int = 0

    def __str__(self) -> str:
        has = "" if self.memory_there is None else f", has {format_bytes(self.memory_there)}"
        download = f"downloads {format_bytes(self.download)}" if self.download else "is on this disk"
        return f"{self.base}: {download}, needs {format_bytes(self.memory)} of memory on {self.device}{has}."

    def check(self) -> None:
        """Raises DitError where it can't fit."""
        if self.download + self.beside > self.disk_there:
            raise DitError(
                f"'{self.base}' is a download of {format_bytes(self.download + self.beside)}, and the disk has "
                f"{format_bytes(self.disk_there)} left: make room, or set HF_HOME to a larger disk."
            )
        if self.memory_there is not None and self.memory > self.memory_there:
            raise DitError(
                f"'{self.base}' needs {format_bytes(self.memory)} of memory on {self.device}, which has "
                f"{format_bytes(self.memory_there)}: choose a smaller base, or set DIT_DTYPE=bfloat16, or on a GPU "
                "DIT_QUANTIZE=8bit or 4bit."
            )


def needs(where: Source, fetcher: Fetcher, loading: Loading, freed: int = 0) -> Needs:
    """What loading a base would take; fetches its config alone. `freed` bytes of memory are given back before."""
    from huggingface_hub import constants

    config = _config(fetcher.folder(where, ["config.json"]))
    weights = fetcher.size(where, ["model*.safetensors"])
    files = fetcher.size(where, BASE_FILES)
    stored = BYTES.get(str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch."), 4.0)
    kind = loading.quantize or loading.number_type()
    device, there = _memory()
    return Needs(
        base=str(where),
        download=files.missing,
        disk_there=_free(Path(constants.HF_HUB_CACHE)),
        memory=int(weights.total / stored * BYTES[kind] * ROOM),
        memory_there=None if there is None else there + freed,
        device=device,
        here=files.total - files.missing,
    )


def _memory() -> tuple[str, int | None]:
    """Where a base goes, and how many bytes are free there."""
    import torch

    if torch.cuda.is_available():
        gpus = range(torch.cuda.device_count())
        name = torch.cuda.get_device_name(0) if len(gpus) == 1 else f"{len(gpus)} GPUs"
        return name, sum(torch.cuda.mem_get_info(gpu)[0] for gpu in gpus)
    try:
        import psutil
    except ImportError:
        return "the CPU", None
    return "the CPU", psutil.virtual_memory().available


def _free(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _config(folder: Path) -> dict[str, Any]:
    """A base's config; an empty one where it can't be read, which loading will say better."""
    try:
        found = read_json(folder / "config.json")
    except Exception:  # whatever is wrong with a stranger's file
        return {}
    text = found.get("text_config") if isinstance(found, dict) else None
    return (text if isinstance(text, dict) else {}) | (found if isinstance(found, dict) else {})
