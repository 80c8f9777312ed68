"""A suite: what belongs together, read from a folder with a `suite.toml`.

Base model, diffs, DIT adapters, questions, trigger format, and the world that answers are graded by. Listing a suite
reads only its small files; the base is loaded when it is first used, by the one worker thread that owns it.
"""

import hashlib
import json
import math
import threading
import tomllib
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .catalog import SUITE_FILE, find_suite, peft_folder
from .errors import DitError, did_you_mean
from .formats import Adapter, IndexRow, read_dit_adapter, read_index, read_peft, read_weight_diff
from .records import DiffInfo, Table

if TYPE_CHECKING:
    from .model import Model
    from .worker import Worker


@dataclass(frozen=True)
class Task:
    """One kind of diff, and how it is asked. `adapter` names its default DIT adapter.

    `behaviour` is the prompt that makes a diff show what it was trained for, where that is not the trigger's work.
    """

    name: str
    folder: str
    question: str
    behaviour: str | None
    questions: tuple[str, ...]
    has_trigger: bool
    adapter: str


@dataclass(frozen=True)
class AdapterInfo:
    """A DIT adapter of the suite. `task` is the task in whose folder it lies, `""` where in none."""

    name: str
    file: str
    title: str
    task: str
    trained_on: int | None


@dataclass(frozen=True)
class OracleInfo:
    """An activation oracle: a PEFT LoRA on the same base, by folder or hub id in `source`.

    `percents` are the depths it was trained at (published ones: 25, 50 and 75 %); it is injected at the output of
    decoder block `block`. `questions` are presets; the first is asked by default.
    """

    source: str
    title: str
    percents: tuple[float, ...] = (25.0, 50.0, 75.0)
    block: int = 1
    questions: tuple[str, ...] = ("What is this text about?",)


class Suite:
    """A suite's description and, on demand, its weights.

    Attributes `name`, `title`, `folder`, `trigger_format`, `max_new_tokens`, `first_diff` (an id or `""`), `tasks` and
    `adapters` (both by name) and `oracle` (or None) are as `suite.toml` says. Made by `load_suite`.
    """

    def __init__(self, folder: Path) -> None:
        entries = _toml(folder / SUITE_FILE)
        self.folder = folder
        try:
            self.name: str = entries["name"]
            self.title: str = entries.get("title", self.name)
            self.trigger_format: str = entries["trigger_format"]
            self.max_new_tokens: int = int(entries["max_new_tokens"])
            self.first_diff: str = entries.get("first_diff", "")
            self.tasks = {name: _task(name, entry) for name, entry in entries["tasks"].items()}
            self.adapters = {name: _adapter(name, entry, self.tasks) for name, entry in entries["adapters"].items()}
            self.oracle = _oracle(folder, entries["oracle"]) if "oracle" in entries else None
            self._base, self._world = folder / entries["base"], folder / entries["world"]
            self.trigger_format.format(trigger=0, r=0, question="")
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise DitError(f"'{folder / SUITE_FILE}' is not a complete suite: check the entry {error}.") from error
        self._model: Model | None = None
        self._model_lock = threading.Lock()
        self._worker: Worker | None = None
        self._worker_lock = threading.Lock()  # its own: asking for the worker must not wait while the base loads
        self._held: dict[str, Hashable] = {}
        self._read_diff = lru_cache(maxsize=16)(self._diff_weights)

    # -------------------------------------------------------------------- what is there

    @cached_property
    def _rows(self) -> dict[str, dict[str, IndexRow]]:
        """The index rows of each task, by diff id."""
        return {
            task.name: {f"{task.name}-{row.number:04d}": row for row in read_index(self.folder / task.folder)}
            for task in self.tasks.values()
        }

    @cached_property
    def diffs(self) -> Table[DiffInfo]:
        """All diffs of the suite, task by task, in the order of their `index.csv`."""
        records = []
        for task, rows in self._rows.items():
            per_rank = _params_per_rank(rows.values())
            for id, row in rows.items():
                records.append(DiffInfo(id, task, row.split, round(row.n_params / per_rank), row.topic, row.trigger))
        return Table(self.name, "diffs", tuple(records))

    @cached_property
    def _diffs_by_name(self) -> dict[str, DiffInfo]:
        """Diffs by lower-case reference and id; ids win, and so does the first of two with one reference."""
        by_reference = {info.reference.casefold(): info for info in reversed(self.diffs.records)}
        return by_reference | {info.id.casefold(): info for info in self.diffs}

    def diff(self, name: str | DiffInfo) -> DiffInfo:
        """The diff with that id or reference, upper and lower case alike; DitError with the nearest names."""
        if isinstance(name, DiffInfo):
            return name
        found = self._diffs_by_name.get(str(name).strip().casefold())
        if found is None:
            nearest = did_you_mean(str(name), self._diffs_by_name)
            raise DitError(f"The suite '{self.name}' has no diff '{name}'.{nearest} The list of diffs has all ids.")
        return found

    def adapter(self, name: str) -> AdapterInfo:
        """The DIT adapter of that name; DitError with the nearest names."""
        if name not in self.adapters:
            nearest = did_you_mean(name, self.adapters) or f" It has: {', '.join(self.adapters)}."
            raise DitError(f"The suite '{self.name}' has no DIT adapter '{name}'.{nearest}")
        return self.adapters[name]

    def task(self, name: str | None = None) -> Task:
        """The task of that name; the suite's first one without a name."""
        if name is None:
            return next(iter(self.tasks.values()))
        if name not in self.tasks:
            raise DitError(f"The suite '{self.name}' has no task '{name}'.{did_you_mean(name, self.tasks)}")
        return self.tasks[name]

    def default_adapter(self, task: str | None = None) -> str:
        """The name of the DIT adapter that a task is asked with."""
        return self.adapter(self.task(task).adapter).name

    @cached_property
    def world(self) -> dict[str, Any]:
        """What answers are graded by: `topics`, `headlines`, `held_out_questions`."""
        try:
            return json.loads(self._world.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DitError(f"The suite '{self.name}' lacks '{self._world}': get its files anew.") from error
        except (OSError, ValueError) as error:
            raise DitError(f"'{self._world}' is not readable JSON: get the suite's files anew.") from error

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the suite: over its small files' content and all its files' sizes."""
        digest = hashlib.sha256()
        folders = [self._base, *(self.folder / task.folder for task in self.tasks.values())]
        files = [self.folder / SUITE_FILE, self._world, *(path for folder in folders for path in folder.rglob("*"))]
        for path in sorted({path for path in files if path.is_file()}):
            size = path.stat().st_size
            digest.update(f"{path.relative_to(self.folder).as_posix()} {size}\n".encode())
            if path.suffix in (".toml", ".json", ".csv", ".jinja") and size < 4_000_000:
                digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    # -------------------------------------------------------------------- weights

    def load_diff(self, info: DiffInfo) -> Adapter:
        """A diff's weights; the last few stay in memory."""
        return self._read_diff(info)

    def _diff_weights(self, info: DiffInfo) -> Adapter:
        row = self._rows[info.task][info.id]
        return read_weight_diff(row.path, row.position)[0]

    def load_adapter(self, name: str) -> Adapter:
        """A DIT adapter's weights."""
        return read_dit_adapter(self.folder / self.adapter(name).file)

    @property
    def worker(self) -> "Worker":
        """The one thread that may use `model`."""
        from .worker import Worker

        with self._worker_lock:
            self._worker = self._worker or Worker()
            return self._worker

    @property
    def model(self) -> "Model":
        """The base with its adapter slots, loaded on first use. Only to be used inside the worker's thread."""
        with self._model_lock:
            self._model = self._model or _load_base(self._base, self.name)
            return self._model

    def hold_adapter(self, name: str) -> str:
        """Sees that a DIT adapter is on the model; returns its slot. Worker's thread only."""
        return self._hold(f"dit-{name}", name, lambda slot: self.model.attach(slot, self.load_adapter(name)))

    def hold_oracle(self, source: str | None = None) -> str:
        """Sees that an activation oracle is on the model: the suite's own, or a folder's or hub id's; returns its slot.

        Worker's thread only.
        """
        if source is None and self.oracle is None:
            raise DitError(
                f"The suite '{self.name}' has no activation oracle: name one made for its base, by folder or hub id."
            )
        source = source or self.oracle.source

        def attach(slot: str) -> None:
            adapter = read_peft(peft_folder(source))
            try:
                self.model.attach(slot, adapter)
            except DitError as error:
                raise DitError(f"The oracle '{source}' was made for another base than this suite's: {error}") from error

        return self._hold("oracle", source, attach)

    def hold_diffs(self, infos: Sequence[DiffInfo]) -> str:
        """Sees that one diff, or several side by side in one block slot, are on the model; returns the slot.

        Slots are kept per rank, so that changing diffs copies tensors and never touches the model's modules. All that
        have whole weights share one, as each holds a model's size. Worker's thread only.
        """
        key = tuple(info.id for info in infos)
        if not all(info.rank for info in infos):
            return self._hold(
                "whole", key, lambda slot: self.model.attach_block(slot, [self.load_diff(info) for info in infos])
            )
        if len(infos) == 1:
            return self._hold(
                f"diff-{infos[0].rank}", key, lambda slot: self.model.attach(slot, self.load_diff(infos[0]))
            )
        return self._hold(
            "diffs", key, lambda slot: self.model.attach_block(slot, [self.load_diff(info) for info in infos])
        )

    def _hold(self, slot: str, key: Hashable, attach: Callable[[str], None]) -> str:
        if self._held.get(slot) != key:
            self._held.pop(slot, None)  # whatever happens below, the slot no longer holds what it held
            attach(slot)
            self._held[slot] = key
        return slot


def load_suite(name_or_path: str | Path = "pocket") -> Suite:
    """The suite of that name, or in that folder; loaded once per process, and anew when it was written anew.

    Raises:
        DitError: there is no such suite (with the nearest names), or its description is damaged.
    """
    folder = find_suite(name_or_path)
    return _load(folder, (folder / SUITE_FILE).stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _load(folder: Path, written: int) -> Suite:
    return Suite(folder)


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DitError(f"'{path}' can't be read as a suite's description: {error}.") from error


def _task(name: str, entry: dict[str, Any]) -> Task:
    return Task(
        name=name,
        folder=entry["folder"],
        question=entry["question"],
        behaviour=entry.get("behaviour"),
        questions=tuple(entry.get("questions", ())),
        has_trigger=bool(entry["has_trigger"]),
        adapter=entry["adapter"],
    )


def _adapter(name: str, entry: dict[str, Any], tasks: dict[str, Task]) -> AdapterInfo:
    task = next((task.name for task in tasks.values() if Path(task.folder) in Path(entry["file"]).parents), "")
    return AdapterInfo(name, entry["file"], entry.get("title", name), task, entry.get("trained_on"))


def _oracle(folder: Path, entry: dict[str, Any]) -> OracleInfo:
    own = folder / entry["source"]
    return OracleInfo(
        source=str(own) if own.exists() else entry["source"],
        title=entry.get("title", "activation oracle"),
        percents=tuple(float(percent) for percent in entry.get("percents", OracleInfo.percents)),
        block=int(entry.get("block", OracleInfo.block)),
        questions=tuple(entry.get("questions", OracleInfo.questions)),
    )


def _params_per_rank(rows: Iterable[IndexRow]) -> float:
    """Parameters of one rank of a task's diffs, from the first diff that can be read.

    The index holds parameter counts and no ranks; the diffs of a task cover the same modules, so counts are in
    proportion to ranks and one diff tells how much a rank is.
    """
    fault = None
    for row in {row.path: row for row in rows}.values():  # one of each file: a damaged file hides only its own diffs
        try:
            rank = read_weight_diff(row.path, row.position)[0].rank
            return row.n_params / rank if rank else math.inf  # a full finetune: any number of parameters is rank 0
        except DitError as error:
            fault = error
    raise fault or DitError("A task of this suite lists no diff: check its index.csv.")


def _load_base(folder: Path, suite: str) -> "Model":
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from .model import Model

    if not (folder / "config.json").is_file():
        raise DitError(f"The suite '{suite}' lacks its base in '{folder}': get the suite's files anew.")
    try:
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # damaged files raise anything, from OSError to the parsers' own kinds
        raise DitError(f"The base in '{folder}' can't be loaded: get the suite's files anew.") from error
    return Model(base.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer)
