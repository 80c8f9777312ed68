"""The diffs of a suite: those that its indices list, and users' own, which no list has."""

import math
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, is_dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dit_core.errors import DitError
from dit_core.formats import Adapter, IndexRow, identify, read_dit_adapter, read_index, read_peft, read_weight_diff
from dit_core.formats.files import FormatError, read_json, reading
from dit_core.formats.peft_folder import CONFIG
from dit_core.hub import ADAPTER_FILES, Fetcher, HubPath, NoMatchingFiles, Size, Source, format_bytes
from dit_core.project import lazy_property
from dit_core.records import DiffInfo
from dit_core.suite.spec import DiffEntry, Task

if TYPE_CHECKING:
    from dit_core.engine.model import Model

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

    def weights(self, load: Callable[[DiffInfo], Adapter], model: Callable[[], "Model"]) -> Adapter:
        """Return the weights; `load` returns those of the other diffs that they are computed from, `model` the base."""
        raise NotImplementedError


class IndexedDiffs:
    """Diffs that the tasks list, in an index or one by one.

    An index is fetched when diffs are first listed, weights when they are first used.
    """

    def __init__(self, tasks: Iterable[Task], at: Callable[[str], Source], fetcher: Fetcher) -> None:
        self._tasks = {task.name: task for task in tasks if task.folder or task.diffs}
        self._at, self._fetcher = at, fetcher
        self.weights = lru_cache(maxsize=16)(self._weights)

    @lazy_property
    def infos(self) -> tuple[DiffInfo, ...]:
        """All listed diffs, task by task, in the order of their `index.csv` or of the suite's description."""
        tasks = self._tasks.values()
        return tuple(info for task in tasks for info in (self._one_by_one if task.diffs else self._from_index)(task))

    def _one_by_one(self, task: Task) -> Iterator[DiffInfo]:
        for id, entry in self._entries[task.name].items():
            rank = self._rank_at(self._at(entry.source)) if task.rank is None else task.rank
            yield DiffInfo(id, task.name, entry.split, rank, entry.reference, entry.trigger)

    def _from_index(self, task: Task) -> Iterator[DiffInfo]:
        per_rank = self._params_per_rank(task.name) if task.rank is None else math.inf
        for id, row in self._rows[task.name].items():
            rank = round(row.n_params / per_rank) if task.rank is None else task.rank
            yield DiffInfo(id, task.name, row.split, rank, row.topic, row.trigger)

    @lazy_property
    def _entries(self) -> dict[str, dict[str, DiffEntry]]:
        """The entries of each task that lists its diffs one by one, by diff id."""
        return {
            name: {f"{name}-{number:04d}": entry for number, entry in enumerate(task.diffs)}
            for name, task in self._tasks.items()
            if task.diffs
        }

    @lazy_property
    def _rows(self) -> dict[str, dict[str, IndexRow]]:
        """The index rows of each task that has an index, by diff id."""
        return {
            name: {f"{name}-{row.number:04d}": row for row in read_index(self._index(task).parent)}
            for name, task in self._tasks.items()
            if task.folder
        }

    def _index(self, task: Task) -> Path:
        return self._fetcher.file(self._at(task.folder) / "index.csv")

    def _weights(self, info: DiffInfo) -> Adapter:
        if info.task in self._entries:
            return any_diff(self.source(info), self._fetcher)
        return self._read(info.task, self._rows[info.task][info.id])

    def source(self, info: DiffInfo) -> Source:
        """Return where the file or folder with a diff's weights is."""
        if entries := self._entries.get(info.task):
            return self._at(entries[info.id].source)
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

    def _rank_at(self, source: Source) -> int:
        """Return the rank of one diff: a PEFT folder's config says it, so that of the hub's only that is fetched."""
        if not _is_file(source):
            try:
                path = self._fetcher.folder(source, [CONFIG]) / CONFIG
            except NoMatchingFiles:
                return 0  # a checkpoint
            if path.is_file():
                with reading(path, "an adapter's description"):
                    rank = read_json(path).get("r")
                    if not isinstance(rank, int) or rank < 1:
                        raise FormatError("it says no rank 'r'")
                    return rank
        adapter = any_diff(source, self._fetcher)
        return adapter.low_rank


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


_OWN_ID = re.compile(rf"(?<![\w-]){OWN}-[0-9a-f]{{32}}(?![0-9a-f])")


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
        """Return the diffs that `values` name: by id, as a diff, in a condition, in a record's `diff` or
        `condition` field, or in containers of these.

        No other field of a record is read, so that a long table takes one look per row.
        """
        with self._lock:
            by_id = dict(self._by_id)
        ids = set(_user_ids(values)) if by_id else set()
        return tuple(user_diff for id, user_diff in by_id.items() if id in ids)

    def remove(self, id: str) -> None:
        """Remove a diff; do nothing where it is gone already."""
        with self._lock:
            self._by_id.pop(id, None)


def _user_ids(values: Any) -> Iterator[str]:
    """Yield the ids of users' diffs in texts, conditions, diffs and records, and in plain containers of them."""
    if isinstance(values, str):
        yield from _OWN_ID.findall(values.casefold())  # of a control or a part, or in a condition too
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
        for name in ("diff", "condition", "diffs"):  # the last are a condition's own
            yield from _user_ids(getattr(values, name, None))
