"""The diffs of a suite: those that its indices list, and those that somebody brought, which no list has."""

import math
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, is_dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

from dit_core.errors import DitError
from dit_core.formats import Adapter, IndexRow, identify, read_dit_adapter, read_index, read_peft, read_weight_diff
from dit_core.hub import ADAPTER_FILES, Fetcher, HubPath, NoMatchingFiles, Size, Source, format_bytes
from dit_core.records import DiffInfo
from dit_core.suite.lazy import lazy_property
from dit_core.suite.spec import Task

CHECKPOINT_FILES = ("*.json", "model*.safetensors")


def any_adapter(where: Source, fetcher: Fetcher) -> Adapter:
    """A DIT adapter: a file in the published layout, or a PEFT folder; DitError for anything else."""
    path = adapter_path(where, fetcher)
    return read_dit_adapter(path) if _is_file(where) else read_peft(path)


def adapter_path(where: Source, fetcher: Fetcher) -> Path:
    """Where the files of an adapter are on this disk, fetched as far as they are not here yet."""
    if _is_file(where):
        return fetcher.file(where)
    if isinstance(where, Path) and not where.exists():
        raise DitError(f"There is no folder '{where}': give a PEFT adapter's folder, or a hub id like 'owner/name'.")
    return fetcher.folder(where, ADAPTER_FILES)


def any_diff(where: Source, fetcher: Fetcher) -> Adapter:
    """A diff of any kind: a PEFT folder, whole weights, or the first diff of a published file."""
    return identify(diff_path(where, fetcher)).read(0).adapter


def diff_path(where: Source, fetcher: Fetcher) -> Path:
    """Where the files of a diff of any kind are on this disk, fetched as far as they are not here yet."""
    if isinstance(where, Path):
        return where
    if _is_file(where):
        return fetcher.file(where)
    try:
        return fetcher.folder(where, ADAPTER_FILES)
    except NoMatchingFiles:
        return fetcher.folder(where, CHECKPOINT_FILES)


def size(where: Source, fetcher: Fetcher) -> Size:
    """How large the files of an adapter or a diff of any kind are; nothing is fetched."""
    if _is_file(where):
        return fetcher.file_size(where)
    found = fetcher.size(where, ADAPTER_FILES)
    return found if found.total else fetcher.size(where, CHECKPOINT_FILES)


def _is_file(where: Source) -> bool:
    path = PurePosixPath(where.path) if isinstance(where, HubPath) else where
    return path.suffix in (".pt", ".safetensors", ".bin") and not (isinstance(where, Path) and where.is_dir())


OWN = "own"
"""The split of diffs that somebody brought, and how their ids begin."""


class DerivedDiff(DiffInfo):
    """A diff that no list has: its weights are made of the diff `of` when they are used, the same ones each time."""

    of: DiffInfo

    def weights(self, load: Callable[[DiffInfo], Adapter]) -> Adapter:
        """The weights; `load` gives those of other diffs that they are made of."""
        raise NotImplementedError


class IndexedDiffs:
    """The diffs of the tasks' indices. An index is fetched when diffs are first listed, weights when one is used."""

    def __init__(self, tasks: Iterable[Task], at: Callable[[str], Source], fetcher: Fetcher) -> None:
        self._tasks = {task.name: task for task in tasks if task.folder}
        self._at, self._fetcher = at, fetcher
        self.weights = lru_cache(maxsize=16)(self._weights)

    @lazy_property
    def infos(self) -> tuple[DiffInfo, ...]:
        """All of them, task by task, in the order of their `index.csv`."""
        found = []
        for name, rows in self._rows.items():
            known = self._tasks[name].rank
            per_rank = self._params_per_rank(name) if known is None else math.inf
            for id, row in rows.items():
                rank = round(row.n_params / per_rank) if known is None else known
                found.append(DiffInfo(id, name, row.split, rank, row.topic, row.trigger))
        return tuple(found)

    @lazy_property
    def _rows(self) -> dict[str, dict[str, IndexRow]]:
        """The index rows of each task, by diff id."""
        return {
            name: {f"{name}-{row.number:04d}": row for row in read_index(self._index(task).parent)}
            for name, task in self._tasks.items()
        }

    def _index(self, task: Task) -> Path:
        return self._fetcher.file(self._at(task.folder) / "index.csv")

    def _weights(self, info: DiffInfo) -> Adapter:
        return self._read(info.task, self._rows[info.task][info.id])

    def source(self, info: DiffInfo) -> Source:
        """Where the file with a diff's weights is."""
        return self._row_source(info.task, self._rows[info.task][info.id])

    def _row_source(self, task: str, row: IndexRow) -> Source:
        inside = row.path.relative_to(self._index(self._tasks[task]).parent)
        return self._at(self._tasks[task].folder) / inside.as_posix()

    def _read(self, task: str, row: IndexRow) -> Adapter:
        return read_weight_diff(self._fetcher.file(self._row_source(task, row)), row.position)[0]

    def _params_per_rank(self, task: str) -> float:
        """Parameters of one rank of a task's diffs, from the first diff that can be read.

        The index holds parameter counts and no ranks; the diffs of a task cover the same modules, so counts are in
        proportion to ranks and one diff tells how much a rank is.
        """
        fault = None
        # One diff of each file: a damaged file hides only its own.
        for row in {row.path: row for row in self._rows[task].values()}.values():
            try:
                rank = self._read(task, row).rank
                return row.n_params / rank if rank else math.inf  # a full finetune: any number of parameters is rank 0
            except DitError as error:
                fault = error
        raise fault or DitError("A task of this suite lists no diff: check its index.csv.")


@dataclass(frozen=True)
class Origin:
    """Where a diff that somebody brought came from, enough to bring the same one again.

    `source` is a hub id with its commit, a path, or "" where `files` of these names were uploaded; `position` says
    which diff of a file of many it was.
    """

    title: str
    source: str = ""
    files: tuple[str, ...] = ()
    position: int = 0


@dataclass(frozen=True)
class UserDiff:
    """A diff that somebody brought, under the title that they gave it."""

    info: DiffInfo
    origin: Origin
    adapter: Adapter


class UserDiffs:
    """The diffs that were brought, each reachable by its id alone, which can't be guessed."""

    def __init__(self) -> None:
        self._by_id: dict[str, UserDiff] = {}
        self._lock = threading.Lock()

    def add(self, adapter: Adapter, origin: Origin, task: str, most_bytes: int | None = None) -> DiffInfo:
        """Takes one in; DitError where all together would be more than `most_bytes`."""
        info = DiffInfo(f"{OWN}-{secrets.token_hex(16)}", task, OWN, 0 if adapter.weights else adapter.rank, "", None)
        with self._lock:
            size = sum(own.adapter.n_bytes for own in self._by_id.values())
            if most_bytes is not None and size + adapter.n_bytes > most_bytes:
                raise DitError(
                    f"Visitors have brought {format_bytes(size)} of diffs already and this one takes "
                    f"{format_bytes(adapter.n_bytes)}: this server holds {format_bytes(most_bytes)} at most, so forget "
                    "one of yours, or try again when others have left."
                )
            self._by_id[info.id] = UserDiff(info, origin, adapter)
        return info

    def take(self, own: UserDiff) -> None:
        """Takes in what was brought to another process."""
        with self._lock:
            self._by_id[own.info.id] = own

    def get(self, id: str) -> UserDiff | None:
        return self._by_id.get(id)

    def named(self, things: Any) -> tuple[UserDiff, ...]:
        """Return those that `things` name: by id, as a diff, in a record's `diff` field, or in containers of these.

        What else a record holds is not looked at, so a long table takes one look a row.
        """
        with self._lock:
            found = dict(self._by_id)
        named = set(_user_ids(things)) if found else set()
        return tuple(own for id, own in found.items() if id in named)

    def remove(self, id: str) -> None:
        with self._lock:
            self._by_id.pop(id, None)


def _user_ids(things: Any) -> Iterator[str]:
    """Yield the ids of users' diffs in texts, diffs and records, and in plain containers of them."""
    if isinstance(things, str):
        id = things.strip().casefold().partition("~")[0]  # before it: the diff that a control is made of
        if id.startswith(f"{OWN}-"):
            yield id
    elif isinstance(things, DiffInfo):
        yield from _user_ids(things.id)
        yield from _user_ids(getattr(things, "of", None))
    elif isinstance(things, Mapping):
        for key, value in things.items():
            yield from _user_ids(key)
            yield from _user_ids(value)
    elif isinstance(things, Sequence | Set) and not isinstance(things, bytes):
        for thing in things:
            yield from _user_ids(thing)
    elif is_dataclass(things):
        yield from _user_ids(getattr(things, "diff", None))
