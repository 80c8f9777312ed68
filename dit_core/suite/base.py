"""Loading a base: on which device, in which number type, and only after it was told and checked what this takes."""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dit_core.errors import DitError, did_you_mean
from dit_core.formats.files import read_json
from dit_core.hub import BASE_FILES, Fetcher, HubPath, Source, format_bytes

if TYPE_CHECKING:
    from dit_core.engine.model import Model


BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "8bit": 1.1, "4bit": 0.65}
"""What one parameter takes; quantized ones with their scales and the embeddings, which stay whole."""
ROOM = 1.1  # over the weights: adapters, a batch's activations and cache


@dataclass(frozen=True)
class LoadOptions:
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
    def resolve(cls, dtype: str | None, quantize: str | None) -> "LoadOptions":
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
class Requirements:
    """What loading a base takes, in bytes: `download` of its files, `memory` on `device`; and what there is of it.

    `here` is what of its files is on this disk already. `beside` is downloaded too: what a first question needs of
    diffs and adapters. `memory_free` is None where this machine does not tell, and counts what the base that is
    loaded now gives back.
    """

    base: str
    download: int
    disk_free: int
    memory: int
    memory_free: int | None
    device: str
    on_disk: int = 0
    extra_download: int = 0

    def __str__(self) -> str:
        has = "" if self.memory_free is None else f", has {format_bytes(self.memory_free)}"
        download = f"downloads {format_bytes(self.download)}" if self.download else "is on this disk"
        return f"{self.base}: {download}, needs {format_bytes(self.memory)} of memory on {self.device}{has}."

    def check(self) -> None:
        """Raises DitError where it can't fit."""
        if self.download + self.extra_download > self.disk_free:
            raise DitError(
                f"'{self.base}' is a download of {format_bytes(self.download + self.extra_download)}, and the disk has "
                f"{format_bytes(self.disk_free)} left: make room, or set HF_HOME to a larger disk."
            )
        if self.memory_free is not None and self.memory > self.memory_free:
            raise DitError(
                f"'{self.base}' needs {format_bytes(self.memory)} of memory on {self.device}, which has "
                f"{format_bytes(self.memory_free)}: choose a smaller base, or set DIT_DTYPE=bfloat16, or on a GPU "
                "DIT_QUANTIZE=8bit or 4bit."
            )


def check_requirements(where: Source, fetcher: Fetcher, loading: LoadOptions, freed: int = 0) -> Requirements:
    """What loading a base would take; fetches its config alone. `freed` bytes of memory are given back before."""
    from huggingface_hub import constants

    config = _config(fetcher.folder(where, ["config.json"]))
    weights = fetcher.size(where, ["model*.safetensors"])
    files = fetcher.size(where, BASE_FILES)
    stored = BYTES.get(str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch."), 4.0)
    kind = loading.quantize or loading.number_type()
    device, there = _memory()
    return Requirements(
        base=str(where),
        download=files.missing,
        disk_free=_free(Path(constants.HF_HUB_CACHE)),
        memory=int(weights.total / stored * BYTES[kind] * ROOM),
        memory_free=None if there is None else there + freed,
        device=device,
        on_disk=files.total - files.missing,
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


WORTH_SAYING = 1_000_000_000  # bytes of memory or download
_log = logging.getLogger("dit_core")


def fetch_base(where: Source, fetcher: Fetcher, loading: LoadOptions, suite: str, freed: int = 0) -> Requirements:
    """Sees that a base's files are on this disk; before that it is told what it takes, and refused if it can't fit.

    `freed` bytes of memory will be given back before it is loaded.
    """
    if isinstance(where, Path) and not (where / "config.json").is_file():
        raise DitError(f"The suite '{suite}' lacks its base in '{where}': get the suite's files anew.")
    _options(loading)  # raises where this machine can't do it
    found = check_requirements(where, fetcher, loading, freed)
    if isinstance(where, HubPath) and not found.memory:
        raise DitError(
            f"'{where}' holds no weights as safetensors, the one format that is fetched: choose another base."
        )
    found.check()
    if found.download > WORTH_SAYING:
        _log.info("%s", found)
    fetcher.folder(where, BASE_FILES)
    return found


def load_base(where: Source, fetcher: Fetcher, loading: LoadOptions, suite: str) -> "Model":
    """Loads a base, fetched where it is not here yet."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from dit_core.engine.model import Model

    found = fetch_base(where, fetcher, loading, suite)
    folder, options = fetcher.folder(where, BASE_FILES), _options(loading)
    large = found.memory > WORTH_SAYING
    if large and found.download <= WORTH_SAYING:  # else it was told before the download
        _log.info("%s", found)
    try:
        # Code that a repository brings is never run: False, as leaving it out would ask on a terminal.
        with nullcontext() if large else _without_bars():
            base = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, **options
            )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise DitError(
            f"{found} That was not enough: choose a smaller base, or set DIT_QUANTIZE=8bit on a GPU."
        ) from error
    except Exception as error:  # damaged files raise anything, from OSError to the parsers' own kinds
        raise DitError(f"The base in '{where}' can't be loaded: get its files anew. {_reason(error)}") from error
    return Model(base.eval(), tokenizer)


@contextmanager
def _without_bars() -> Iterator[None]:
    """No progress bar of transformers' inside: a small base is loaded before anybody has read it."""
    from transformers.utils import logging as bars

    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bar()


def _options(loading: LoadOptions) -> dict[str, Any]:
    """What `from_pretrained` is to be told; DitError where this machine can't do it."""
    import torch

    options: dict[str, Any] = {"dtype": getattr(torch, loading.number_type())}
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus:
        options["device_map"] = "auto" if gpus > 1 else {"": 0}
    if loading.quantize:
        if not gpus:
            raise DitError("Quantized bases need an NVIDIA GPU, and there is none here: leave the quantization out.")
        options["quantization_config"] = _quantization(loading.quantize, options["dtype"])
    return options


def _quantization(quantize: str, dtype: Any) -> Any:
    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise DitError("Quantized bases need bitsandbytes: `pip install bitsandbytes`, or leave the quantization out.")
    if quantize == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def _reason(error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return "It wants to run code of its own, which is never done here."
    return ""
