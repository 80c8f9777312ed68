"""The diffs of a suite: those that its indices list, and users' own, which no list has."""

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


def any_adapter(source: Source, fetcher: Fetcher) -> Adapter:
    """Read a DIT adapter: a file in the published layout, or a PEFT folder.

    Raises:
        DitError: there is neither.
    """
    path = adapter_path(source, fetcher)
    return read_dit_adapter(path) if _is_file(source) else read_peft(path)


def adapter_path(source: Source, fetcher: Fetcher) -> Path:
    """Return where an adapter's files are on this disk; missing ones are fetched.

    Raises:
        DitError: there is no such folder, or the files can't be fetched.
    """
    if _is_file(source):
        return fetcher.file(source)
    if isinstance(source, Path) and not source.exists():
        raise DitError(f"There is no folder '{source}': give a PEFT adapter's folder, or a hub id like 'owner/name'.")
    return fetcher.folder(source, ADAPTER_FILES)


def any_diff(source: Source, fetcher: Fetcher) -> Adapter:
    """Read a diff of any kind: a PEFT folder, full weights, or the first diff of a published file."""
    return identify(diff_path(source, fetcher)).read(0).adapter


def diff_path(source: Source, fetcher: Fetcher) -> Path:
    """Return where the files of a diff of any kind are on this disk; missing ones are fetched."""
    if isinstance(source, Path):
        return source
    if _is_file(source):
        return fetcher.file(source)
    try:
        return fetcher.folder(source, ADAPTER_FILES)
    except NoMatchingFiles:
        return fetcher.folder(source, CHECKPOINT_FILES)


def source_size(source: Source, fetcher: Fetcher) -> Size:
    """Return the size of an adapter's or a diff's files; nothing is fetched."""
    if _is_file(source):
        return fetcher.file_size(source)
    size = fetcher.size(source, ADAPTER_FILES)
    return size if size.total else fetcher.size(source, CHECKPOINT_FILES)


def _is_file(source: Source) -> bool:
    path = PurePosixPath(source.path) if isinstance(source, HubPath) else source
    return path.suffix in (".pt", ".safetensors", ".bin") and not (isinstance(source, Path) and source.is_dir())


OWN = "own"
"""The split of users' own diffs, and the start of their ids."""


class DerivedDiff(DiffInfo):
    """A diff that no list has: its weights are computed from the diff `of` when they are used, the same each time."""

    of: DiffInfo

    def weights(self, load: Callable[[DiffInfo], Adapter]) -> Adapter:
        """Return the weights; `load` returns those of the other diffs that they are computed from."""
        raise NotImplementedError


class IndexedDiffs:
    """Diffs that the tasks' indices list. An index is fetched when diffs are first listed, weights when first used."""

    def __init__(self, tasks: Iterable[Task], at: Callable[[str], Source], fetcher: Fetcher) -> None:
        self._tasks = {task.name: task for task in tasks if task.folder}
        self._at, self._fetcher = at, fetcher
        self.weights = lru_cache(maxsize=16)(self._weights)

    @lazy_property
    def infos(self) -> tuple[DiffInfo, ...]:
        """All indexed diffs, task by task, in the order of their `index.csv`."""
        infos = []
        for name, rows in self._rows.items():
            task_rank = self._tasks[name].rank
            per_rank = self._params_per_rank(name) if task_rank is None else math.inf
            for id, row in rows.items():
                rank = round(row.n_params / per_rank) if task_rank is None else task_rank
                infos.append(DiffInfo(id, name, row.split, rank, row.topic, row.trigger))
        return tuple(infos)

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
        """Return where the file with a diff's weights is."""
        return self._row_source(info.task, self._rows[info.task][info.id])

    def _row_source(self, task: str, row: IndexRow) -> Source:
        relative = row.path.relative_to(self._index(self._tasks[task]).parent)
        return self._at(self._tasks[task].folder) / relative.as_posix()

    def _read(self, task: str, row: IndexRow) -> Adapter:
        return read_weight_diff(self._fetcher.file(self._row_source(task, row)), row.position)[0]

    def _params_per_rank(self, task: str) -> float:
        """Return how many parameters one rank of a task's diffs has, from the first diff that can be read.

        The index holds parameter counts and no ranks. The diffs of a task cover the same modules, so their counts are
        proportional to their ranks, and one diff is enough.
        """
        last_error = None
        # One diff of each file: a damaged file hides only its own.
        for row in {row.path: row for row in self._rows[task].values()}.values():
            try:
                rank = self._read(task, row).rank
                return row.n_params / rank if rank else math.inf  # a full finetune: any number of parameters is rank 0
            except DitError as error:
                last_error = error
        raise last_error or DitError("A task of this suite lists no diff: check its index.csv.")


@dataclass(frozen=True)
class Origin:
    """Where a user's own diff came from: enough to add the same one again.

    `source` is a hub id with its commit, a path, or "" where `files` of these names were uploaded. `position` is which
    diff of a file of many it was.
    """

    title: str
    source: str = ""
    files: tuple[str, ...] = ()
    position: int = 0


@dataclass(frozen=True)
class UserDiff:
    """A user's own diff, with its origin and weights."""

    info: DiffInfo
    origin: Origin
    adapter: Adapter


class UserDiffs:
    """All users' own diffs, each found only by its id, which can't be guessed."""

    def __init__(self) -> None:
        self._by_id: dict[str, UserDiff] = {}
        self._lock = threading.Lock()

    def add(self, adapter: Adapter, origin: Origin, task: str, max_bytes: int | None = None) -> DiffInfo:
        """Add a diff and return it.

        Raises:
            DitError: all users' diffs together would take more than `max_bytes`.
        """
        info = DiffInfo(f"{OWN}-{secrets.token_hex(16)}", task, OWN, adapter.low_rank, "", None)
        with self._lock:
            size = sum(user_diff.adapter.n_bytes for user_diff in self._by_id.values())
            if max_bytes is not None and size + adapter.n_bytes > max_bytes:
                raise DitError(
                    f"Visitors have brought {format_bytes(size)} of diffs already and this one takes "
                    f"{format_bytes(adapter.n_bytes)}: this server holds {format_bytes(max_bytes)} at most, so forget "
                    "one of yours, or try again when others have left."
                )
            self._by_id[info.id] = UserDiff(info, origin, adapter)
        return info

    def add_copy(self, user_diff: UserDiff) -> None:
        """Add a diff from another process, under the id that it has there."""
        with self._lock:
            self._by_id[user_diff.info.id] = user_diff

    def get(self, id: str) -> UserDiff | None:
        """Return the diff with that id; None where there is none."""
        return self._by_id.get(id)

    def named_in(self, values: Any) -> tuple[UserDiff, ...]:
        """Return the diffs that `values` name: by id, as a diff, in a record's `diff` field, or in containers of these.

        No other field of a record is read, so that a long table takes one look per row.
        """
        with self._lock:
            by_id = dict(self._by_id)
        ids = set(_user_ids(values)) if by_id else set()
        return tuple(user_diff for id, user_diff in by_id.items() if id in ids)

    def remove(self, id: str) -> None:
        """Remove a diff; does nothing where it is gone already."""
        with self._lock:
            self._by_id.pop(id, None)


def _user_ids(values: Any) -> Iterator[str]:
    """Yield the ids of users' diffs in texts, diffs and records, and in plain containers of them."""
    if isinstance(values, str):
        id = values.strip().casefold().partition("~")[0]  # a control's id is that of its diff, "~" and its kind
        if id.startswith(f"{OWN}-"):
            yield id
    elif isinstance(values, DiffInfo):
        yield from _user_ids(values.id)
        yield from _user_ids(getattr(values, "of", None))
    elif isinstance(values, Mapping):
        for key, value in values.items():
            yield from _user_ids(key)
            yield from _user_ids(value)
    elif isinstance(values, Sequence | Set) and not isinstance(values, bytes):
        for item in values:
            yield from _user_ids(item)
    elif is_dataclass(values):
        yield from _user_ids(getattr(values, "diff", None))
