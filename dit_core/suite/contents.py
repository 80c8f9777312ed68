"""What is in a suite, without its weights: tasks, DIT adapters, diffs, and the world that answers are graded by."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dit_core.errors import DitError, did_you_mean
from dit_core.formats import Adapter
from dit_core.hub import Fetcher, anonymous_fetcher
from dit_core.records import DiffInfo, Table
from dit_core.suite.diffs import OWN, IndexedDiffs, Origin, UserDiff, UserDiffs, any_diff
from dit_core.suite.lazy import lazy_property
from dit_core.suite.limits import current_limits
from dit_core.suite.spec import AdapterInfo, SuiteSpec, Task

GENERIC_DIFF_ID = "diff"
"""The id of a generic suite's one diff."""


class SuiteContents:
    """A suite's description and lists."""

    def __init__(self, about: SuiteSpec) -> None:
        self.spec = about
        self.name, self.title, self.folder = about.name, about.title, about.folder
        self.trigger_format, self.max_new_tokens = about.trigger_format, about.max_new_tokens
        self.tasks, self.adapters, self.oracle = about.tasks, about.adapters, about.oracle
        self.first_diff = about.first_diff
        self._fetcher = Fetcher()
        self._indexed = IndexedDiffs(about.tasks.values(), about.at, self._fetcher)
        self._user_diffs = UserDiffs()

    @lazy_property
    def diffs(self) -> Table[DiffInfo]:
        """All diffs of the suite, task by task, in the order of their `index.csv`; none that somebody brought."""
        return self.table("diffs", (*self._indexed.infos, *([self._generic_diff] if self._generic_diff else [])))

    @lazy_property
    def _generic_diff(self) -> DiffInfo | None:
        """The one diff of a generic suite, of which no index tells anything."""
        if self.spec.diff is None:
            return None
        adapter = any_diff(self.spec.diff, self._fetcher)
        return DiffInfo(GENERIC_DIFF_ID, self.task().name, "test", 0 if adapter.weights else adapter.rank, "", None)

    @lazy_property
    def _diffs_by_name(self) -> dict[str, DiffInfo]:
        """Diffs by lower-case reference and id; ids win, and so does the first of two with one reference."""
        by_reference = {info.reference.casefold(): info for info in reversed(self.diffs.records) if info.reference}
        return by_reference | {info.id.casefold(): info for info in self.diffs}

    def diff(self, name: str | DiffInfo) -> DiffInfo:
        """The diff with that id or reference, upper and lower case alike; DitError with the nearest names."""
        if isinstance(name, DiffInfo):
            return name
        wanted = str(name).strip().casefold()
        if own := self._user_diffs.get(wanted):
            return own.info
        if wanted.startswith(f"{OWN}-"):
            raise DitError(DIFF_GONE)
        found = self._diffs_by_name.get(wanted)
        if found is None:
            nearest = did_you_mean(str(name), self._diffs_by_name)
            raise DitError(f"The suite '{self.name}' has no diff '{name}'.{nearest} The list of diffs has all ids.")
        return found

    def bring(self, adapter: Adapter, origin: Origin | str, task: str | None = None) -> DiffInfo:
        """Takes in a diff of somebody's own, to be asked as `task` is (the suite's first one without a name).

        `origin` is told in every result about it; a text is a title alone.

        No list has it: only who knows its id, which can't be guessed, reaches it, until `forget`. What it was trained
        on is not known, so it gets no grades. Raises DitError for an unknown task, and where the server takes no more.
        """
        origin = Origin(origin) if isinstance(origin, str) else origin
        return self._user_diffs.add(adapter, origin, self.task(task).name, current_limits().user_diff_bytes)

    def forget(self, id: str) -> None:
        """Drops a diff that was brought; nothing happens where it is gone already."""
        self._user_diffs.remove(id)

    def user_diffs_in(self, things: Any) -> tuple[UserDiff, ...]:
        """The diffs of somebody's own that are named anywhere in `things`, to be sent along with them."""
        return self._user_diffs.named(things)

    @contextmanager
    def with_user_diffs(self, sent: Iterable[UserDiff]) -> Iterator[None]:
        """Inside, diffs that were brought to another process are here too."""
        new = [own for own in sent if self._user_diffs.get(own.info.id) is None]
        for own in new:
            self._user_diffs.take(own)
        try:
            yield
        finally:
            for own in new:
                self.forget(own.info.id)

    def fetcher(self) -> Fetcher:
        """A new one for what a request names: who may open no path of this machine may not use its token either."""
        return Fetcher() if current_limits().paths else anonymous_fetcher()

    def origin(self, id: str) -> Origin | None:
        """Where a diff that was brought came from; None for one of the suite's."""
        own = self._user_diffs.get(id)
        return own.origin if own else None

    def adapter(self, name: str) -> AdapterInfo:
        """The DIT adapter of that name; DitError with the nearest names."""
        if name not in self.adapters:
            nearest = did_you_mean(name, self.adapters) or f" It has: {', '.join(self.adapters) or 'none'}."
            raise DitError(f"The suite '{self.name}' has no DIT adapter '{name}'.{nearest}")
        return self.adapters[name]

    def task(self, name: str | None = None) -> Task:
        """The task of that name; the suite's first one without a name."""
        if name is None:
            return next(iter(self.tasks.values()))
        if name not in self.tasks:
            raise DitError(f"The suite '{self.name}' has no task '{name}'.{did_you_mean(name, self.tasks)}")
        return self.tasks[name]

    def task_of(self, info: DiffInfo) -> Task:
        """How a diff is asked: as its task says, but without a trigger where its own is not known."""
        task = self.task(info.task)
        return task if info.trigger is not None else replace(task, has_trigger=False)

    def default_adapter(self, task: str | None = None) -> str:
        """The name of the DIT adapter that a task is asked with; DitError where it has none."""
        name = self.task(task).adapter
        if not name:
            raise DitError(f"The suite '{self.name}' has no DIT adapter for this: choose conditions without one.")
        return self.adapter(name).name

    @lazy_property
    def world(self) -> dict[str, Any]:
        """What answers are graded by: `topics` and `headlines` (none without a world), `held_out_questions`."""
        if self.spec.world is None:
            task, special = self.task(), {info.question for info in self.adapters.values()}
            everyday = [text for text in task.questions if text not in special and text != task.behaviour]
            return {"topics": {}, "headlines": {}, "held_out_questions": everyday}
        path = self._fetcher.file(self.spec.world)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DitError(f"The suite '{self.name}' lacks '{path}': get its files anew.") from error
        except (OSError, ValueError) as error:
            raise DitError(f"'{path}' is not readable JSON: get the suite's files anew.") from error

    @lazy_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the suite: over its files' names, sizes and content.

        Of what lies on the hub the place counts, and its revision where the description pins one.
        """
        digest = hashlib.sha256()
        places = [self.spec.file, self.spec.world, self.spec.base, self.spec.diff]
        places += [self.spec.at(task.folder) for task in self.tasks.values() if task.folder]
        places += [self.spec.at(info.file) for info in self.adapters.values()]
        if self.spec.file is None:
            digest.update(json.dumps(self.spec.entries, sort_keys=True).encode())
        here = [where for where in places if isinstance(where, Path)]
        for path in sorted({path for where in here for path in (where, *where.rglob("*")) if path.is_file()}):
            inside = path.relative_to(self.folder) if path.is_relative_to(self.folder) else path
            digest.update(f"{inside.as_posix()} {path.stat().st_size}\n".encode())
            for piece in file_samples(path):
                digest.update(piece)
        return digest.hexdigest()[:16]

    @property
    def revisions(self) -> dict[str, str]:
        """The commit of each of the suite's hub repositories that something was fetched from so far."""
        return dict(self._fetcher.revisions)

    def table(self, kind: str, records: Iterable[Any], extra: Mapping[str, Any] | None = None) -> Table:
        """A table of results of this suite; it says which files, and which revisions, they were made with."""
        records = tuple(records)
        brought = {own.info.id: asdict(own.origin) for own in self.user_diffs_in(records)}
        told = {"revisions": self.revisions, "brought": brought}
        provenance = {"fingerprint": self.fingerprint} | {name: what for name, what in told.items() if what}
        return Table(self.name, kind, records, provenance | dict(extra or {}))


def file_samples(path: Path, whole: int = 16_000_000, count: int = 256, length: int = 16_384) -> Iterator[bytes]:
    """What tells a file from another of its size: all of it, or of a large one samples from all over.

    Weights that were trained anew differ everywhere, and gigabytes are too many to read at each start.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= whole:
            yield file.read()
            return
        for at in range(count):
            file.seek(at * (size - length) // (count - 1))
            yield file.read(length)


DIFF_GONE = "This diff of somebody's own is no longer here: bring it again."
