"""What a suite's TOML file or a catalogue entry says: tasks, DIT adapters, oracle, and where the artefacts are.

The least that makes a suite; every place is a path from the file on, or `owner/name[@revision][/path]` on the hub:

    name = "mine"
    base = "Qwen/Qwen3-0.6B"
    max_new_tokens = 100
    diff = "me/my-finetune"                # or, for many diffs: folder = "…" of the published layout in their task

    [tasks.any]
    question = "What have you been trained on?"
    adapter = "introspection"

    [adapters.introspection]
    file = "adapters/introspection"        # a PEFT folder, or a published DIT adapter's .pt
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from dit_core.errors import DitError
from dit_core.hub import Source, parse_source


@dataclass(frozen=True)
class Task:
    """One kind of diff, and how it is asked. `adapter` names its default DIT adapter, `""` where there is none.

    `folder` is where its `index.csv` is, `""` where the suite lists no diff of its own. `behaviour` is the prompt that
    makes a diff show what it was trained for, where that is not the trigger's work. `questions` are presets, everyday
    ones first: where diffs have a trigger, the first is what it is shown with. `rank` is that of all its diffs (0:
    whole weights), where the suite says it; else it is told from a diff's file.
    """

    name: str
    folder: str
    question: str
    behaviour: str | None
    questions: tuple[str, ...]
    has_trigger: bool
    adapter: str
    rank: int | None = None


@dataclass(frozen=True)
class AdapterInfo:
    """A DIT adapter of the suite. `task` is the task that it belongs to, `""` where to none.

    `question` is the one that it was trained to answer, where that is not its task's.
    """

    name: str
    file: str
    title: str
    task: str
    trained_on: int | None
    question: str = ""


@dataclass(frozen=True)
class OracleInfo:
    """An activation oracle: a PEFT LoRA on the same base, by folder or hub id in `source`.

    `percents` are the depths it was trained at, none where that is not known; it is injected at the output of decoder
    block `block`. `questions` are presets; the first is asked by default.
    """

    source: str
    title: str
    percents: tuple[float, ...] = ()
    block: int = 1
    questions: tuple[str, ...] = ("What is this text about?",)


@dataclass(frozen=True)
class Description:
    """A suite in words. `folder` is what relative paths in it start from; `diff` is the one diff of a generic suite.

    `file` is the TOML file that says all this, where it is one; `entries` what it says.
    """

    name: str
    title: str
    folder: Path
    base: Source
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
        """The place that an entry names: a path, from the suite's folder on, or a place on the hub."""
        return parse_source(entry, self.folder)


def read_description(path: Path) -> Description:
    """The description in a TOML file; DitError where it can't be read, or is not complete."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DitError(f"'{path}' can't be read as a suite's description: {error}.") from error
    return describe(entries, path.parent, str(path), path)


def describe(entries: Mapping[str, Any], folder: Path, source: str, file: Path | None = None) -> Description:
    """The description that entries make; `source` is what an error calls them."""
    try:
        tasks = {name: _task(name, entry) for name, entry in entries["tasks"].items()}
        found = Description(
            name=str(entries["name"]),
            title=str(entries.get("title", entries["name"])),
            folder=folder,
            base=parse_source(entries["base"], folder),
            trigger_format=_trigger_format(entries, tasks),
            max_new_tokens=int(entries["max_new_tokens"]),
            first_diff=entries.get("first_diff", ""),
            tasks=tasks,
            adapters={name: _adapter(name, entry, tasks) for name, entry in entries.get("adapters", {}).items()},
            oracle=_oracle(folder, entries["oracle"]) if "oracle" in entries else None,
            world=parse_source(entries["world"], folder) if "world" in entries else None,
            diff=parse_source(entries["diff"], folder) if "diff" in entries else None,
            file=file,
            entries=entries,
        )
        found.trigger_format.format(trigger=0, r=0, question="")
        if not tasks:
            raise KeyError("tasks")
        for task in tasks.values():
            if task.adapter and task.adapter not in found.adapters:
                raise KeyError(f"adapters.{task.adapter}")
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise DitError(f"'{source}' is not a complete suite: check the entry {error}.") from error
    return found


def _trigger_format(entries: Mapping[str, Any], tasks: Mapping[str, Task]) -> str:
    needed = any(task.has_trigger for task in tasks.values())
    return entries["trigger_format"] if needed else entries.get("trigger_format", "{question}")


def _task(name: str, entry: Mapping[str, Any]) -> Task:
    return Task(
        name=name,
        folder=entry.get("folder", ""),
        question=entry["question"],
        behaviour=entry.get("behaviour"),
        questions=tuple(entry.get("questions", ())),
        has_trigger=bool(entry.get("has_trigger", False)),
        adapter=entry.get("adapter", ""),
        rank=None if entry.get("rank") is None else int(entry["rank"]),
    )


def _adapter(name: str, entry: Mapping[str, Any], tasks: Mapping[str, Task]) -> AdapterInfo:
    parents = PurePosixPath(entry["file"]).parents
    near = (task.name for task in tasks.values() if task.folder and PurePosixPath(task.folder) in parents)
    task = entry.get("task", next(near, ""))
    return AdapterInfo(
        name, entry["file"], entry.get("title", name), task, entry.get("trained_on"), entry.get("question", "")
    )


def _oracle(folder: Path, entry: Mapping[str, Any]) -> OracleInfo:
    own = folder / entry["source"]
    return OracleInfo(
        source=str(own) if own.exists() else entry["source"],
        title=entry.get("title", "activation oracle"),
        percents=tuple(float(percent) for percent in entry.get("percents", OracleInfo.percents)),
        block=int(entry.get("block", OracleInfo.block)),
        questions=tuple(entry.get("questions", OracleInfo.questions)),
    )
