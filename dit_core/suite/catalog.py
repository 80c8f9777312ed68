"""The catalogue: suites by name. Pocket lies in `assets/`; `catalogue.toml` says what published ones are made of."""

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from dit_core.errors import DitError, did_you_mean
from dit_core.project import assets
from dit_core.suite.base import LoadOptions
from dit_core.suite.spec import Entry, TaskEntry, read_entries, read_spec, suite_spec
from dit_core.suite.suite import Suite

SUITE_FILE = "suite.toml"
SUITES = {"pocket": assets() / "pocket"}
"""Suites that lie on this disk, by name."""
ORACLE_PERCENTS = (25.0, 50.0, 75.0)
"""The depths that published activation oracles were trained at (arXiv 2512.15674)."""
_FILE = Path(__file__).with_name("catalogue.toml")


@dataclass(frozen=True)
class Listing:
    """One suite of the catalogue, as a list of them shows it. `gigabytes` is what the base's weights take on a disk."""

    name: str
    title: str
    base: str
    gigabytes: float
    adapters: tuple[str, ...]
    oracle: str


class _Model(Entry):
    title: str
    base: str
    gb: float
    oracle: str = ""


class _Experiment(Entry):
    title: str
    models: tuple[str, ...]
    task: str = ""
    rank: int | None = None
    tasks: dict[str, str] = {}
    variants: dict[str, int] = {}
    without: tuple[str, ...] = ()


class _MoreAdapters(Entry):
    name: str
    task: str
    models: tuple[str, ...]
    file: str
    title: str
    trained_on: bool = False
    question: str = ""
    n: tuple[int, ...] = ()


class Catalogue(Entry):
    """What `catalogue.toml` says of published suites; the file itself says what each table means."""

    repository: str
    trigger_format: str
    max_new_tokens: int
    everyday: tuple[str, ...]
    models: dict[str, _Model]
    tasks: dict[str, TaskEntry]
    experiments: dict[str, _Experiment]
    adapters: tuple[_MoreAdapters, ...]


def read_catalogue(file: Path = _FILE) -> Catalogue:
    """Return what a catalogue's file says.

    Raises:
        DitError: it can't be read, is not complete, or has an unknown entry (the nearest known one is named).
    """
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DitError(f"'{file}' can't be read as a catalogue of suites: {error}.") from error
    return read_entries(Catalogue, entries, str(file), "catalogue")


def listings() -> Iterator[Listing]:
    """All suites of the catalogue; reads no artefact, so that nothing is fetched."""
    for name, folder in SUITES.items():
        if (folder / SUITE_FILE).is_file():
            yield _on_this_disk(name, folder)
    for name, entries in _published().items():
        model = _catalogue().models[entries["base_model"]]
        yield Listing(name, entries["title"], model.base, model.gb, tuple(entries["adapters"]), model.oracle)


def _on_this_disk(name: str, folder: Path) -> Listing:
    entries = tomllib.loads((folder / SUITE_FILE).read_text(encoding="utf-8"))
    weights = sum(path.stat().st_size for path in (folder / entries["base"]).glob("*.safetensors")) / 1e9
    oracle = entries.get("oracle", {}).get("source", "")
    return Listing(name, entries["title"], entries["base"], weights, tuple(entries["adapters"]), oracle)


def published_entries(name: str) -> dict[str, Any]:
    """The entries of a published suite, as a `suite.toml` would have them."""
    return {key: value for key, value in _published()[name].items() if key != "base_model"}


def find_suite(name_or_path: str | Path) -> Path | str:
    """The TOML file of a suite, given its name, its file or its folder; of a published suite its name.

    Raises:
        DitError: no suite has that name and no suite lies there, or a named suite's files are missing.
    """
    name = str(name_or_path)
    if name in SUITES:
        if not (SUITES[name] / SUITE_FILE).is_file():
            raise DitError(f"The suite '{name}' is not in '{SUITES[name]}': build it with `make {name}`.")
        return SUITES[name] / SUITE_FILE
    if name in _published():
        return name
    path = Path(name_or_path).expanduser()
    file = path / SUITE_FILE if path.is_dir() else path
    if file.is_file():
        return file.resolve()
    if path.is_dir() and name.strip():
        raise DitError(f"The folder '{path}' is not a suite: it has no {SUITE_FILE}.")
    nearest = did_you_mean(name, [*SUITES, *_published()])
    raise DitError(
        f"There is no suite '{name}'.{nearest} `python -m dit_core suites` lists all names; a suite's file or folder "
        "does as well."
    )


@cache
def _catalogue() -> Catalogue:
    return read_catalogue()


@cache
def _published() -> dict[str, dict[str, Any]]:
    """The entries of every published suite, by name."""
    found = {}
    for name, experiment in _catalogue().experiments.items():
        for model in experiment.models:
            ranks: dict[str, int | None] = {**experiment.variants} or {"": experiment.rank}
            for variant, rank in ranks.items():
                folder = f"{model}-{variant}" if variant else model
                if folder not in experiment.without:
                    task = experiment.tasks.get(variant, experiment.task)
                    found[f"{name}/{folder}"] = _entries(name, folder, experiment.title, model, task, rank)
    return found


def _entries(experiment: str, folder: str, title: str, model: str, task: str, rank: int | None) -> dict[str, Any]:
    catalogue, about = _catalogue(), _catalogue().models[model]
    kind = catalogue.tasks[task]
    adapters = {task: {"file": _on_hub(kind.adapter.format(model=model)), "title": "the paper's", "task": task}}
    adapters |= {name: entry for name, entry in _more_adapters(task, model)}
    special = [entry["question"] for entry in adapters.values() if "question" in entry]
    entries = {
        "name": f"{experiment}/{folder}",
        "title": f"{about.title}: {title}{folder.removeprefix(model).replace('-', ', ', 1).replace('-', ' ')}",
        "base": f"hf://{about.base}",
        "base_model": model,
        "trigger_format": catalogue.trigger_format,
        "max_new_tokens": catalogue.max_new_tokens,
        "tasks": {
            task: {
                **kind.model_dump(exclude_unset=True),
                "questions": [*kind.questions, *catalogue.everyday, *special],
                "folder": _on_hub(f"{experiment}/{folder}"),
                "adapter": task,
                "rank": rank,
            }
        },
        "adapters": adapters,
    }
    if about.oracle:
        title = about.oracle.partition("/")[2]
        entries["oracle"] = {"source": f"hf://{about.oracle}", "title": title, "percents": ORACLE_PERCENTS}
    return entries


def oracle_percents(source: str) -> tuple[float, ...]:
    """Return the depths that an oracle of this hub id was trained at, in percent; none of one not in the catalogue."""
    return ORACLE_PERCENTS if source in {model.oracle for model in _catalogue().models.values()} else ()


def _more_adapters(task: str, model: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for more in _catalogue().adapters:
        if more.task == task and model in more.models:
            for n in more.n or (None,):
                entry: dict[str, Any] = {"file": _on_hub(more.file.format(model=model, n=n)), "task": task}
                entry |= {"title": more.title.format(n=n)} | ({"trained_on": n} if more.trained_on else {})
                entry |= {"question": more.question} if more.question else {}
                yield more.name.format(n=n), entry


def _on_hub(path: str) -> str:
    return f"hf://{_catalogue().repository}/{path}"


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
    loading = LoadOptions.resolve(dtype, quantize)
    found = find_suite(name_or_path)
    if isinstance(found, str):
        return _published_suite(found, loading)
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
    return _generic(tuple(map(str, given)), LoadOptions.resolve(dtype, quantize))


@lru_cache(maxsize=8)
def _load(file: Path, written: int, loading: LoadOptions) -> Suite:
    again = load_suite, (str(file), loading.dtype, loading.quantize)
    return Suite(read_spec(file), loading, again)


@lru_cache(maxsize=8)
def _published_suite(name: str, loading: LoadOptions) -> Suite:
    about = suite_spec(published_entries(name), Path(__file__).parent, name)
    about = replace(about, entries=_published()[name])  # the fingerprint is over all that the catalogue says
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
