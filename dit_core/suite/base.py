"""Loading a base: its device, its number type, and a check of disk and memory before anything is downloaded."""

import gc
import logging
import os
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dit_core.errors import DitError, did_you_mean
from dit_core.formats.files import read_json
from dit_core.hub import (
    BASE_FILES,
    BaseSource,
    Fetcher,
    HubPath,
    PackagedBase,
    dequantized_twin,
    format_bytes,
    without_loading_bars,
)

if TYPE_CHECKING:
    from dit_core.engine.model import Model


BYTES_PER_PARAMETER = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "8bit": 1.1, "4bit": 0.65}
"""Bytes of one parameter by number type; of quantized ones with their scales and with embeddings in full precision."""
MEMORY_FACTOR = 1.1  # times the weights: room for adapters, and for a batch's activations and cache


@dataclass(frozen=True)
class LoadOptions:
    """Options for loading a base.

    Attributes:
        dtype: `float32`, `bfloat16` or `float16`; None for bfloat16 on a GPU and float32 on a CPU.
        quantize: `8bit`, `4bit` or None.
    """

    dtype: str | None = None
    quantize: str | None = None

    def __post_init__(self) -> None:
        for what, value, names in (
            ("number type", self.dtype, ("float32", "bfloat16", "float16")),
            ("quantization", self.quantize, ("8bit", "4bit")),
        ):
            if value is not None and value not in names:
                raise DitError(f"There is no {what} '{value}': use {', '.join(names)}.{did_you_mean(value, names)}")

    @classmethod
    def resolve(cls, dtype: str | None, quantize: str | None) -> "LoadOptions":
        """Return the given options; where one is None, the variables `DIT_DTYPE` and `DIT_QUANTIZE` decide."""
        return cls(dtype or os.environ.get("DIT_DTYPE") or None, quantize or os.environ.get("DIT_QUANTIZE") or None)

    def number_type(self) -> str:
        """Return the number type that the base's unquantized weights get on this machine."""
        import torch

        if self.dtype:
            return self.dtype
        if not torch.cuda.is_available():
            return "float32"
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"


@dataclass(frozen=True)
class Requirements:
    """Disk and memory that loading a base needs, and what this machine has, all in bytes.

    Attributes:
        base: the base's path or hub id.
        download: size of the base's files that are not on this disk yet.
        disk_free: free disk space where they go.
        memory: memory that the base needs on `device`.
        memory_free: free memory there, with that of the base that is loaded now; None where it can't be measured.
        device: name of the device, such as "the CPU".
        on_disk: size of the base's files that are on this disk already.
        extra_download: size of the diff and adapter files that a first question downloads too.
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
        """Check that the base fits on this machine.

        Raises:
            DitError: the disk or the memory is too small.
        """
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


def check_requirements(source: BaseSource, fetcher: Fetcher, loading: LoadOptions, freed: int = 0) -> Requirements:
    """Return what loading a base needs; fetches only the base's config, and of a packaged base nothing.

    `freed` is how many bytes of memory will be given back before the base is loaded.
    """
    from huggingface_hub import constants

    if isinstance(source, PackagedBase):
        weights, stored_type, disk = source.weight_bytes, "bfloat16", source.folder
    else:
        config = _config(fetcher.folder(source, ["config.json"]))
        weights, disk = fetcher.size(source, ["model*.safetensors"]).total, Path(constants.HF_HUB_CACHE)
        stored_type = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    files = fetcher.size(source, BASE_FILES)
    stored_bytes = BYTES_PER_PARAMETER.get(stored_type, 4.0)
    number_type = loading.quantize or loading.number_type()
    device, memory_free = _memory()
    return Requirements(
        base=str(source),
        download=files.missing,
        disk_free=_free_disk(disk),
        memory=int(weights / stored_bytes * BYTES_PER_PARAMETER[number_type] * MEMORY_FACTOR),
        memory_free=None if memory_free is None else memory_free + freed,
        device=device,
        on_disk=files.total - files.missing,
    )


def _memory() -> tuple[str, int | None]:
    """Return the name of the device that a base goes to, and the bytes that are free there."""
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


def _free_disk(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _config(folder: Path) -> dict[str, Any]:
    """Return a base's config; an empty one where it can't be read, as loading gives the better error."""
    try:
        config = read_json(folder / "config.json")
    except Exception:  # whatever is wrong with a file that is not trusted
        return {}
    text_config = config.get("text_config") if isinstance(config, dict) else None
    return (text_config if isinstance(text_config, dict) else {}) | (config if isinstance(config, dict) else {})


LARGE_BYTES = 1_000_000_000  # memory or download that is logged before it is used
_log = logging.getLogger("dit_core")


def fetch_base(source: BaseSource, fetcher: Fetcher, loading: LoadOptions, suite: str, freed: int = 0) -> Requirements:
    """Fetch a base's files, after a check that they fit; a large download is logged first.

    `freed` is how many bytes of memory will be given back before the base is loaded.

    Raises:
        DitError: the files are missing, hold no safetensors, do not fit, or need a GPU that is not there.
    """
    if isinstance(source, Path) and not (source / "config.json").is_file():
        raise DitError(f"The suite '{suite}' lacks its base in '{source}': get the suite's files anew.")
    _options(loading)  # raises where this machine can't do what they ask
    needs = check_requirements(source, fetcher, loading, freed)
    if isinstance(source, HubPath) and not needs.memory:
        raise DitError(
            f"'{source}' holds no weights as safetensors, the one format that is fetched: choose another base."
        )
    needs.check()
    if needs.download > LARGE_BYTES:
        _log.info("%s", needs)
    fetcher.folder(source, BASE_FILES)
    return needs


def load_base(source: BaseSource, fetcher: Fetcher, loading: LoadOptions, suite: str) -> "Model":
    """Load a base; its files are fetched first where they are not on this disk.

    Raises:
        DitError: as `fetch_base` does, the files are damaged, or memory runs out.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from dit_core.engine.model import Model

    needs = fetch_base(source, fetcher, loading, suite)
    folder, options = fetcher.folder(source, BASE_FILES), _options(loading)
    large = needs.memory > LARGE_BYTES
    if large and needs.download <= LARGE_BYTES:  # else `fetch_base` logged it
        _log.info("%s", needs)
    if twin := dequantized_twin(source):
        _log.warning(
            "'%s' is the original of '%s', on whose dequantized weights the figures of its suites were measured: "
            "answers differ here and there.",
            source,
            twin,
        )
    try:
        # A repository's own code is never run. Left out, the option would ask on a terminal.
        with nullcontext() if large else without_loading_bars():
            base = AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, **options
            )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise DitError(
            f"{needs} That was not enough: choose a smaller base, or set DIT_QUANTIZE=8bit on a GPU."
        ) from error
    except Exception as error:  # damaged files raise anything, from OSError to the parsers' own errors
        raise DitError(f"The base in '{source}' can't be loaded: {_remedy(source)}. {_reason(error)}") from error
    return Model(base.eval(), tokenizer)


def release_memory() -> None:
    """Return unused memory to the system: Python keeps it in cycles, torch and libc in pools."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        import ctypes

        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # the C library is not glibc
        pass


def _options(loading: LoadOptions) -> dict[str, Any]:
    """Return the arguments of `from_pretrained`; DitError where this machine can't do what they ask."""
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


def _remedy(source: BaseSource) -> str:
    if isinstance(source, PackagedBase):
        return f"delete it with `python -m dit_core cache --remove {source}`, and it is fetched anew"
    return "get its files anew"


def _reason(error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return "It wants to run code of its own, which is never done here."
    return ""
