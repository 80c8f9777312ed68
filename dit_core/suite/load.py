"""From a name, a path or four places to a suite; each is made once per process."""

import hashlib
from functools import lru_cache
from pathlib import Path

from dit_core.suite.base import LoadOptions
from dit_core.suite.catalog import find_suite, published
from dit_core.suite.spec import read_spec, suite_spec
from dit_core.suite.suite import Suite

QUESTION = "What have you been trained on?"
MAX_NEW_TOKENS = 100


def load_suite(name_or_path: str | Path = "pocket", dtype: str | None = None, quantize: str | None = None) -> Suite:
    """The suite of that name in the catalogue, or in that TOML file or folder; nothing is fetched or loaded yet.

    Args:
        name_or_path: a name, a TOML file, or a folder with a `suite.toml`.
        dtype: `float32`, `bfloat16` or `float16`; without it as the variable
            `DIT_DTYPE` says, else bfloat16 on a GPU and float32 on a CPU.
        quantize: `8bit` or `4bit`, on an NVIDIA GPU with bitsandbytes; else as `DIT_QUANTIZE` says.

    Raises:
        DitError: there is no such suite (with the nearest names), or its description is damaged.
    """
    loading = LoadOptions.wanted(dtype, quantize)
    found = find_suite(name_or_path)
    if isinstance(found, str):
        return _published(found, loading)
    return _load(found, found.stat().st_mtime_ns, loading)


def generic_suite(
    base: str,
    diff: str | None = None,
    adapter: str | None = None,
    oracle: str | None = None,
    *,
    question: str = QUESTION,
    dtype: str | None = None,
    quantize: str | None = None,
) -> Suite:
    """A suite of any base, any diff on it, any DIT or introspection adapter for it, and any oracle: paths or hub ids.

    A diff is a PEFT LoRA, a checkpoint of whole weights or a published file; its id is `diff`. The adapter is a PEFT
    LoRA or a published DIT adapter; its name is `dit`. What the diff was trained on is not known, so nothing is graded.
    """
    given = (base, diff or "", adapter or "", oracle or "", question)
    return _generic(tuple(map(str, given)), LoadOptions.wanted(dtype, quantize))


@lru_cache(maxsize=8)
def _load(file: Path, written: int, loading: LoadOptions) -> Suite:
    again = load_suite, (str(file), loading.dtype, loading.quantize)
    return Suite(read_spec(file), loading, again)


@lru_cache(maxsize=8)
def _published(name: str, loading: LoadOptions) -> Suite:
    about = suite_spec(published(name), Path(__file__).parent, name)
    return Suite(about, loading, (load_suite, (name, loading.dtype, loading.quantize)))


@lru_cache(maxsize=8)
def _generic(given: tuple[str, ...], loading: LoadOptions) -> Suite:
    base, diff, adapter, oracle, question = given
    mark = hashlib.sha256("\n".join(given).encode()).hexdigest()[:6]
    entries = {
        "name": f"generic-{mark}",
        "title": " + ".join(Path(part).name for part in (base, diff, adapter, oracle) if part),
        "base": base,
        "max_new_tokens": MAX_NEW_TOKENS,
        "tasks": {"any": {"question": question, "adapter": "dit" if adapter else ""}},
        "adapters": {"dit": {"file": adapter, "title": adapter, "task": "any"}} if adapter else {},
        **({"diff": diff} if diff else {}),
        **({"oracle": {"source": oracle}} if oracle else {}),
    }
    about = suite_spec(entries, Path.cwd(), "the generic suite")
    return Suite(about, loading, (_generic, (given, loading)))
