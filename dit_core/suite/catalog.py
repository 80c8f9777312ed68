"""The catalogue of suites: embedded ones in `assets/`, and published ones as `catalogue.toml` lists them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import Any

from dit_core.errors import DitError, did_you_mean
from dit_core.hub import Fetcher, PackagedBase, parse_base
from dit_core.project import assets
from dit_core.suite.base import LoadOptions
from dit_core.suite.spec import Entry, TaskEntry, read_entries, read_spec, read_toml, suite_spec
from dit_core.suite.suite import Suite

SUITE_FILE = "suite.toml"
SUITES = {name: assets() / name for name in ("pocket", "smol")}
"""Embedded suites and their folders, by name."""
ORACLE_PERCENTS = (25.0, 50.0, 75.0)  # the depths that published oracles were trained at (arXiv 2512.15674)
QUESTION, ANSWER_TOKENS = "What have you been trained on?", 100  # of a generic suite
_FILE = Path(__file__).with_name("catalogue.toml")


@dataclass(frozen=True)
class Listing:
    """One suite of the catalogue, as lists show it. `gigabytes` is the disk size of the base's weights."""

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
    variants: dict[str, int | None] = {}
    without: tuple[str, ...] = ()


class _Organisms(Entry):
    title: str
    task: str
    models: dict[str, str]
    sources: tuple[str, ...] = ()
    diffs: dict[str, str] = {}
    references: tuple[str, ...] = ("",)
    split: str = "test"
    rank: int | None = None


class _MoreAdapters(Entry):
    name: str
    task: str
    models: tuple[str, ...]
    file: str
    title: str
    trained_on: bool = False
    question: str = ""
    n: tuple[int | str, ...] = ()


class Catalogue(Entry):
    """The content of `catalogue.toml`; comments in that file say what each table means."""

    repository: str
    trigger_format: str
    max_new_tokens: int
    everyday: tuple[str, ...]
    models: dict[str, _Model]
    tasks: dict[str, TaskEntry]
    experiments: dict[str, _Experiment]
    organisms: dict[str, _Organisms]
    adapters: tuple[_MoreAdapters, ...]


def read_catalogue(file: Path = _FILE) -> Catalogue:
    """Return the content of a catalogue's file.

    Raises:
        DitError: it can't be read, is not complete, or has an unknown entry (the nearest known one is named).
    """
    return read_entries(Catalogue, read_toml(file, "a catalogue of suites"), str(file), "catalogue")


_catalogue = cache(read_catalogue)


def listings() -> Iterator[Listing]:
    """Yield all suites of the catalogue; nothing is fetched."""
    yield from (_on_this_disk(name, folder) for name, folder in SUITES.items() if (folder / SUITE_FILE).is_file())
    for name, entries in _published().items():
        model = _catalogue().models[entries["base_model"]]
        yield Listing(name, entries["title"], model.base, model.gb, tuple(entries["adapters"]), model.oracle)


def _on_this_disk(name: str, folder: Path) -> Listing:
    entries = read_toml(folder / SUITE_FILE, "a suite's description")
    base = parse_base(entries["base"], folder)
    weights = base.weight_bytes if isinstance(base, PackagedBase) else Fetcher().size(base, ["*.safetensors"]).total
    oracle = entries.get("oracle", {}).get("source", "")
    return Listing(name, entries["title"], entries["base"], weights / 1e9, tuple(entries.get("adapters", ())), oracle)


def published_entries(name: str) -> dict[str, Any]:
    """Return the entries of a published suite, as a `suite.toml` would have them."""
    return {key: value for key, value in _published()[name].items() if key != "base_model"}


def find_suite(name_or_path: str | Path) -> Path | str:
    """Return the TOML file of a suite, given its name, file or folder; of a published suite return its name.

    Raises:
        DitError: no suite has that name or path, or the files of a named suite are missing.
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
    hint = "`python -m dit_core suites` lists all names; a suite's file or folder does as well."
    raise DitError(f"There is no suite '{name}'.{nearest} {hint}")


@cache
def _published() -> dict[str, dict[str, Any]]:
    """Return the entries of every published suite, by name."""
    return {entries["name"]: entries for entries in (*_of_experiments(), *_of_organisms())}


def _of_experiments() -> Iterator[dict[str, Any]]:
    for name, experiment in _catalogue().experiments.items():
        for model in experiment.models:
            for variant, rank in (experiment.variants or {"": experiment.rank}).items():
                folder = f"{model}-{variant}" if variant else model
                if folder not in experiment.without:
                    title = experiment.title + (f", {variant.replace('-', ' ')}" if variant else "")
                    where = {"folder": _on_hub(f"{name}/{folder}")}
                    yield _entries(f"{name}/{folder}", title, model, experiment.task or variant, where, rank)


def _of_organisms() -> Iterator[dict[str, Any]]:
    for name, group in _catalogue().organisms.items():
        for model, spelling in group.models.items():
            where = {"diffs": [*_organism_diffs(group, spelling)]}
            yield _entries(f"{name}/{model}", group.title, model, group.task, where, group.rank)


def _organism_diffs(group: _Organisms, model: str) -> Iterator[dict[str, str]]:
    for source, name in (*product(group.sources, group.references), *group.diffs.items()):
        place = f"hf://{source.format(model=model, reference=name)}"
        yield {"source": place, "reference": name.replace("_", " ").replace("-", " "), "split": group.split}


def _entries(name: str, title: str, model: str, task: str, where: dict[str, Any], rank: int | None) -> dict[str, Any]:
    """Return the entries of one suite; `where` are those of its one task that say where its diffs are."""
    catalogue = _catalogue()
    model_entry, task_entry = catalogue.models[model], catalogue.tasks[task]
    adapters = dict(_more_adapters(task, model))
    if task_entry.adapter:  # the default is the first
        file = _on_hub(task_entry.adapter.format(model=model))
        adapters = {task: {"file": file, "title": "the paper's", "task": task}, **adapters}
    adapter_questions = [entry["question"] for entry in adapters.values() if "question" in entry]
    entries = {
        "name": name,
        "title": f"{model_entry.title}: {title}",
        "base": f"hf://{model_entry.base}",
        "base_model": model,
        "trigger_format": catalogue.trigger_format,
        "max_new_tokens": catalogue.max_new_tokens,
        "tasks": {
            task: {
                **task_entry.model_dump(exclude_unset=True),
                "questions": [*task_entry.questions, *catalogue.everyday, *adapter_questions],
                **where,
                "adapter": next(iter(adapters), ""),
                "rank": rank,
            }
        },
        "adapters": adapters,
    }
    if oracle := model_entry.oracle:
        entries["oracle"] = {"source": f"hf://{oracle}", "title": oracle.partition("/")[2], "percents": ORACLE_PERCENTS}
    return entries


def oracle_percents(source: str) -> tuple[float, ...]:
    """Return the depths, in percent, that a catalogued oracle was trained at; an empty tuple for an unknown hub id."""
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
    """Return a place on the hub: one by its whole name, else one in the catalogue's repository."""
    return path if path.startswith("hf://") else f"hf://{_catalogue().repository}/{path}"


def load_suite(name_or_path: str | Path = "pocket", dtype: str | None = None, quantize: str | None = None) -> Suite:
    """Return a suite by its name in the catalogue, its TOML file or its folder; nothing is fetched or loaded yet.

    Args:
        name_or_path: a name, a TOML file, or a folder with a `suite.toml`.
        dtype: `float32`, `bfloat16` or `float16`; by default the variable `DIT_DTYPE` decides, else bfloat16 on a GPU
            and float32 on a CPU.
        quantize: `8bit` or `4bit`, on an NVIDIA GPU with bitsandbytes; by default the variable `DIT_QUANTIZE` decides.

    Raises:
        DitError: there is no such suite (the nearest names are given), or its description is damaged.
    """
    loading, file_or_name = LoadOptions.resolve(dtype, quantize), find_suite(name_or_path)
    if isinstance(file_or_name, str):
        return _published_suite(file_or_name, loading)
    return _load(file_or_name, file_or_name.stat().st_mtime_ns, loading)


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
    """Return a suite made of any base and, each optional, a diff, a DIT adapter and an oracle for it.

    What the diff was trained on is not known, so its answers get no grades.

    Args:
        base: a path or hub id (or `package:NAME`), as are `diff`, `adapter` and `oracle`.
        diff: a PEFT LoRA, a checkpoint of full weights or a published file; its id in the suite is `diff`.
        adapter: a PEFT LoRA or a published DIT adapter; its name in the suite is `dit`.
        oracle: an activation oracle, a PEFT LoRA.
        question: the question that the diff is asked.
        dtype, quantize: as in `load_suite`.
    """
    sources = (str(source or "") for source in (base, diff, adapter, oracle))
    return _generic((*sources, question), LoadOptions.resolve(dtype, quantize))


@lru_cache(maxsize=8)
def _load(file: Path, mtime_ns: int, loading: LoadOptions) -> Suite:
    return Suite(read_spec(file), loading, (load_suite, (str(file), loading.dtype, loading.quantize)))


@lru_cache(maxsize=8)
def _published_suite(name: str, loading: LoadOptions) -> Suite:
    spec = suite_spec(published_entries(name), Path(__file__).parent, name)
    spec = replace(spec, entries=_published()[name])  # the fingerprint is over all entries of the catalogue
    return Suite(spec, loading, (load_suite, (name, loading.dtype, loading.quantize)))


@lru_cache(maxsize=8)
def _generic(arguments: tuple[str, ...], loading: LoadOptions) -> Suite:
    base, diff, adapter, oracle, question = arguments
    digest = hashlib.sha256("\n".join(arguments).encode()).hexdigest()[:6]
    entries = {
        "name": f"generic-{digest}",
        "title": " + ".join(Path(part).name for part in (base, diff, adapter, oracle) if part),
        "base": base,
        "max_new_tokens": ANSWER_TOKENS,
        "tasks": {"any": {"question": question, "adapter": "dit" if adapter else ""}},
        "adapters": {"dit": {"file": adapter, "title": adapter, "task": "any"}} if adapter else {},
        **({"diff": diff} if diff else {}),
        **({"oracle": {"source": oracle}} if oracle else {}),
    }
    spec = suite_spec(entries, Path.cwd(), "the generic suite")
    return Suite(spec, loading, (_generic, (arguments, loading)))
