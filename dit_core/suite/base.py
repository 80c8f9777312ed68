"""Loading a base: on which device, in which number type, and only after it was told and checked what this takes."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dit_core.errors import DitError
from dit_core.hub import BASE_FILES, Fetcher, HubPath, Source
from dit_core.suite.requirements import Loading, Needs, needs

if TYPE_CHECKING:
    from dit_core.engine.model import Model

WORTH_SAYING = 1_000_000_000  # bytes of memory or download
_log = logging.getLogger("dit_core")


def fetch_base(where: Source, fetcher: Fetcher, loading: Loading, suite: str, freed: int = 0) -> Needs:
    """Sees that a base's files are on this disk; before that it is told what it takes, and refused if it can't fit.

    `freed` bytes of memory will be given back before it is loaded.
    """
    if isinstance(where, Path) and not (where / "config.json").is_file():
        raise DitError(f"The suite '{suite}' lacks its base in '{where}': get the suite's files anew.")
    _options(loading)  # raises where this machine can't do it
    found = needs(where, fetcher, loading, freed)
    if isinstance(where, HubPath) and not found.memory:
        raise DitError(
            f"'{where}' holds no weights as safetensors, the one format that is fetched: choose another base."
        )
    found.check()
    if found.download > WORTH_SAYING:
        _log.info("%s", found)
    fetcher.folder(where, BASE_FILES)
    return found


def load_base(where: Source, fetcher: Fetcher, loading: Loading, suite: str) -> "Model":
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


def _options(loading: Loading) -> dict[str, Any]:
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
