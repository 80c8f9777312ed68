"""The description of a suite, from a TOML file or the catalogue: tasks, DIT adapters, oracle and their sources.

The shortest complete file; each source is a path relative to the file, or `owner/name[@revision][/path]` on the hub
(a base can also be `package:NAME`, one of those that travel in Python packages):

    name = "mine"
    base = "Qwen/Qwen3-0.6B"
    max_new_tokens = 100
    diff = "me/my-finetune"                # or, for many: their task's folder = "…" of the published layout, or its
                                           # diffs = [{ source = "me/one", reference = "cats" }, …]

    [tasks.any]
    question = "What have you been trained on?"
    adapter = "introspection"

    [adapters.introspection]
    file = "adapters/introspection"        # a PEFT folder, or a published DIT adapter's .pt
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dit_core.errors import DitError, did_you_mean
from dit_core.hub import BaseSource, Source, parse_base, parse_source


@dataclass(frozen=True)
class Task:
    """One kind of diffs, and how they are asked.

    Attributes:
        name: its name.
        folder: where its `index.csv` is; "" where the suite lists no such diff.
        question: the question that asks a diff about itself.
        behaviour: the prompt that makes a diff show what it was trained for; None where its trigger does that.
        questions: presets, everyday ones first. The first one shows what the trigger does, where diffs have one.
        has_trigger: whether diffs have a secret trigger.
        adapter: the name of its default DIT adapter; "" where there is none.
        rank: the rank of all its diffs (0 for full weights); None where each diff's file has to tell it.
        diffs: its diffs, one by one, where no index lists them.
    """

    name: str
    folder: str
    question: str
    behaviour: str | None
    questions: tuple[str, ...]
    has_trigger: bool
    adapter: str
    rank: int | None = None
    diffs: tuple["DiffEntry", ...] = ()


@dataclass(frozen=True)
class AdapterInfo:
    """A DIT adapter of the suite.

    Attributes:
        name: its name in conditions.
        file: its path or hub id.
        title: its name for people.
        task: the task that it belongs to; "" for none.
        trained_on: how many diffs it was trained on; None where that is not known.
        question: the question that it was trained to answer; "" for its task's own.
    """

    name: str
    file: str
    title: str
    task: str
    trained_on: int | None
    question: str = ""


@dataclass(frozen=True)
class OracleInfo:
    """An activation oracle: a PEFT LoRA on the suite's base.

    Attributes:
        source: its folder or hub id.
        title: its name for people.
        percents: the depths, in percent of the layers, that it was trained at; empty where that is not known.
        block: the decoder block at whose output activations are injected.
        questions: presets; the first one is asked by default.
    """

    source: str
    title: str
    percents: tuple[float, ...] = ()
    block: int = 1
    questions: tuple[str, ...] = ("What is this text about?",)


@dataclass(frozen=True)
class SuiteSpec:
    """A suite's description. Relative paths start from `folder`; `diff` is the one diff of a generic suite.

    `file` is the TOML file that it was read from, if any, and `entries` is that file's content.
    """

    name: str
    title: str
    folder: Path
    base: BaseSource
    trigger_format: str
    max_new_tokens: int
    first_diff: str
    tasks: Mapping[str, Task]
    adapters: Mapping[str, AdapterInfo]
    oracle: OracleInfo | None
    world: Source | None
    diff: Source | None = None
    file: Path | None = None
    entries: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def at(self, entry: str) -> Source:
        """Return the source that an entry names: a path relative to the suite's folder, or a place on the hub."""
        return parse_source(entry, self.folder)


E = TypeVar("E", bound="Entry")


class Entry(BaseModel):
    """A table of a TOML file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DiffEntry(Entry):
    """One diff of a task that has no index: a place of any diff (a PEFT folder, a checkpoint, …) and what is known."""

    source: str
    reference: str = ""
    split: str = "test"
    trigger: int | None = None


class TaskEntry(Entry):
    """A task's table in a file; `Task` says what each entry means."""

    question: str
    folder: str = ""
    behaviour: str | None = None
    questions: tuple[str, ...] = ()
    has_trigger: bool = False
    adapter: str = ""
    rank: int | None = None
    diffs: tuple[DiffEntry, ...] = ()


class _AdapterEntry(Entry):
    file: str
    title: str | None = None
    task: str | None = None
    trained_on: int | None = None
    question: str = ""


class _OracleEntry(Entry):
    source: str
    title: str = "activation oracle"
    percents: tuple[float, ...] = OracleInfo.percents
    block: int = OracleInfo.block
    questions: tuple[str, ...] = OracleInfo.questions


class _SuiteEntry(Entry):
    name: str
    base: str
    max_new_tokens: int
    tasks: dict[str, TaskEntry] = Field(min_length=1)
    title: str | None = None
    trigger_format: str | None = None
    first_diff: str = ""
    adapters: dict[str, _AdapterEntry] = {}
    oracle: _OracleEntry | None = None
    world: str | None = None
    diff: str | None = None


def read_spec(path: Path) -> SuiteSpec:
    """Return the description that a suite's TOML file holds.

    Raises:
        DitError: the file can't be read, is not complete, or has unknown keys.
    """
    return suite_spec(read_toml(path, "a suite's description"), path.parent, str(path), path)


def read_toml(path: Path, what: str) -> dict[str, Any]:
    """Return the content of a TOML file; DitError where it can't be read as `what`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DitError(f"'{path}' can't be read as {what}: {error}.") from error


def suite_spec(entries: Mapping[str, Any], folder: Path, source: str, file: Path | None = None) -> SuiteSpec:
    """Return the description that entries hold; errors call them `source`, and relative paths start from `folder`.

    Raises:
        DitError: an entry is missing, unknown (the nearest known one is named) or of another type, a task names an
            adapter that is not there, or the trigger's format does not fit.
    """
    entry = read_entries(_SuiteEntry, entries, source)
    tasks = {name: Task(name=name, **dict(task)) for name, task in entry.tasks.items()}
    for task in tasks.values():
        if task.adapter and task.adapter not in entry.adapters:
            raise DitError(f"'{source}' is not a complete suite: add the entry 'adapters.{task.adapter}'.")
        if task.folder and task.diffs:
            raise DitError(f"The task '{task.name}' of '{source}' has a folder and a list of diffs: keep one of both.")
    return SuiteSpec(
        name=entry.name,
        title=entry.title or entry.name,
        folder=folder,
        base=parse_base(entry.base, folder),
        trigger_format=_trigger_format(source, entry),
        max_new_tokens=entry.max_new_tokens,
        first_diff=entry.first_diff,
        tasks=tasks,
        adapters={name: _adapter(name, adapter, tasks) for name, adapter in entry.adapters.items()},
        oracle=_oracle(folder, entry.oracle) if entry.oracle else None,
        world=parse_source(entry.world, folder) if entry.world else None,
        diff=parse_source(entry.diff, folder) if entry.diff else None,
        file=file,
        entries=entries,
    )


def read_entries(model: type[E], entries: Mapping[str, Any], source: str, what: str = "suite") -> E:
    """Return entries as an instance of their model; errors call them `source` and say that they are a `what`.

    Raises:
        DitError: an entry is missing, unknown (the nearest known one is named) or of another type.
    """
    try:
        return model.model_validate(dict(entries))
    except ValidationError as error:
        # A misspelt key first: it is why another one is missing.
        first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    location, kind = first["loc"], first["type"]
    key = ".".join(map(str, location))
    if kind == "extra_forbidden":
        nearest = did_you_mean(str(location[-1]), _table(model, location).model_fields)
        raise DitError(f"'{source}' has an unknown entry '{key}': correct or remove it.{nearest}")
    if kind == "missing":
        raise DitError(f"'{source}' is not a complete {what}: add the entry '{key}'.")
    raise DitError(f"'{source}' is not a complete {what}: check the entry '{key}' ({first['msg'].lower()}).")


def _table(model: type[Entry], location: tuple[int | str, ...]) -> type[Entry]:
    """Return the model of the table that holds the entry at `location`; names of tasks and the like are not tables."""
    for name in location[:-1]:
        if name in model.model_fields:
            model = next(_tables(model.model_fields[str(name)].annotation), model)
    return model


def _tables(annotation: Any) -> Iterator[type[Entry]]:
    if isinstance(annotation, type) and issubclass(annotation, Entry):
        yield annotation
    for part in get_args(annotation):
        yield from _tables(part)


def _trigger_format(source: str, entry: _SuiteEntry) -> str:
    if entry.trigger_format is None:
        if any(task.has_trigger for task in entry.tasks.values()):
            raise DitError(f"'{source}' is not a complete suite: add the entry 'trigger_format'.")
        return "{question}"
    try:
        entry.trigger_format.format(trigger=0, r=0, question="")
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise DitError(
            f"'{source}' is not a complete suite: check the entry 'trigger_format' ({error}), which may hold "
            "{trigger}, {r} and {question}."
        ) from error
    return entry.trigger_format


def _adapter(name: str, entry: _AdapterEntry, tasks: Mapping[str, Task]) -> AdapterInfo:
    parents = PurePosixPath(entry.file).parents
    names = (task.name for task in tasks.values() if task.folder and PurePosixPath(task.folder) in parents)
    task = next(names, "") if entry.task is None else entry.task
    return AdapterInfo(name, entry.file, entry.title or name, task, entry.trained_on, entry.question)


def _oracle(folder: Path, entry: _OracleEntry) -> OracleInfo:
    path = folder / entry.source
    return OracleInfo(**{**dict(entry), "source": str(path) if path.exists() else entry.source})
