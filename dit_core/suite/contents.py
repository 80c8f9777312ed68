"""The contents of a suite without its weights: tasks, DIT adapters, diffs, and the world that answers are graded by."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dit_core.errors import DitError, did_you_mean
from dit_core.formats import Adapter
from dit_core.hub import Fetcher, PackagedBase, anonymous_fetcher
from dit_core.project import assets, lazy_property
from dit_core.records import DiffInfo, Table
from dit_core.suite.diffs import OWN, DerivedDiff, IndexedDiffs, Origin, UserDiff, UserDiffs, any_diff
from dit_core.suite.limits import current_limits
from dit_core.suite.spec import AdapterInfo, SuiteSpec, Task

GENERIC_DIFF_ID = "diff"
"""The id of the one diff of a generic suite."""
NEUTRAL_TEXTS = "neutral-texts.txt"
"""Beside a suite's description: plain texts that have nothing to do with any one of its diffs, one a line."""


class SuiteContents:
    """The description and the lists of a suite."""

    def __init__(self, spec: SuiteSpec) -> None:
        self.spec = spec
        self.name, self.title, self.folder = spec.name, spec.title, spec.folder
        self.trigger_format, self.max_new_tokens = spec.trigger_format, spec.max_new_tokens
        self.tasks, self.adapters, self.oracle = spec.tasks, spec.adapters, spec.oracle
        self.first_diff = spec.first_diff
        self._fetcher = Fetcher()
        self._indexed = IndexedDiffs(spec.tasks.values(), spec.at, self._fetcher)
        self._user_diffs = UserDiffs()

    @lazy_property
    def diffs(self) -> Table[DiffInfo]:
        """All diffs of the suite, task by task, in the order of their `index.csv`; without users' own diffs."""
        return self.table("diffs", (*self._indexed.infos, *([self._generic_diff] if self._generic_diff else [])))

    @lazy_property
    def _generic_diff(self) -> DiffInfo | None:
        """The one diff of a generic suite, which has no index."""
        if self.spec.diff is None:
            return None
        adapter = any_diff(self.spec.diff, self._fetcher)
        return DiffInfo(GENERIC_DIFF_ID, self.task().name, "test", adapter.low_rank, "", None)

    @lazy_property
    def _diffs_by_name(self) -> dict[str, DiffInfo]:
        """The diffs by lower-case id and reference; ids win, and of two diffs with one reference the first."""
        by_reference = {info.reference.casefold(): info for info in reversed(self.diffs.records) if info.reference}
        return by_reference | {info.id.casefold(): info for info in self.diffs}

    def diff(self, name: str | DiffInfo) -> DiffInfo:
        """Return the diff with that id or reference; upper and lower case are the same.

        Raises:
            DitError: there is no such diff (the nearest names are given).
        """
        if isinstance(name, DiffInfo):
            return name
        key = str(name).strip().casefold()
        if user_diff := self._user_diffs.get(key):
            return user_diff.info
        if key.startswith(f"{OWN}-"):
            raise DitError(DIFF_GONE)
        info = self._diffs_by_name.get(key)
        if info is None:
            nearest = did_you_mean(str(name), self._diffs_by_name)
            raise DitError(f"The suite '{self.name}' has no diff '{name}'.{nearest} The list of diffs has all ids.")
        return info

    def bring(self, adapter: Adapter, origin: Origin | str, task: str | None = None) -> DiffInfo:
        """Add a user's own diff and return it; `task` decides how it is asked (by default the suite's first task).

        `origin` is stored in every result about the diff; a text is used as its title alone. No list has the diff: only
        who knows its id, which can't be guessed, can use it, until `forget`. Its reference is not known, so it gets no
        grades.

        Raises:
            DitError: there is no such task, or the server holds no more diffs.
        """
        origin = Origin(origin) if isinstance(origin, str) else origin
        return self._user_diffs.add(adapter, origin, self.task(task).name, current_limits().user_diff_bytes)

    def forget(self, id: str) -> None:
        """Remove a user's own diff; do nothing where it is gone already."""
        self._user_diffs.remove(id)

    def user_diffs_in(self, values: Any) -> tuple[UserDiff, ...]:
        """Return the users' own diffs that `values` name, to be sent along with them to another process."""
        return self._user_diffs.named_in(values)

    @contextmanager
    def with_user_diffs(self, user_diffs: Iterable[UserDiff]) -> Iterator[None]:
        """Add users' own diffs from another process while the context is open."""
        new = [diff for diff in user_diffs if self._user_diffs.get(diff.info.id) is None]
        for diff in new:
            self._user_diffs.add_copy(diff)
        try:
            yield
        finally:
            for diff in new:
                self.forget(diff.info.id)

    def fetcher(self) -> Fetcher:
        """Return a new fetcher for a source that a request names.

        A client that may not open paths of this machine may not use its hub token either.
        """
        return Fetcher() if current_limits().paths else anonymous_fetcher()

    def origin(self, id: str) -> Origin | None:
        """Return where a user's own diff came from; None for a diff of the suite."""
        user_diff = self._user_diffs.get(id)
        return user_diff.origin if user_diff else None

    def adapter(self, name: str) -> AdapterInfo:
        """Return the DIT adapter of that name.

        Raises:
            DitError: there is no such adapter (the nearest names are given).
        """
        if name not in self.adapters:
            nearest = did_you_mean(name, self.adapters) or f" It has: {', '.join(self.adapters) or 'none'}."
            raise DitError(f"The suite '{self.name}' has no DIT adapter '{name}'.{nearest}")
        return self.adapters[name]

    @property
    def _own_oracle(self) -> str:
        """The source of the suite's own oracle; DitError where it has none."""
        if self.oracle is None:
            raise DitError(
                f"The suite '{self.name}' has no activation oracle: name one made for its base, by folder or hub id."
            )
        return self.oracle.source

    def questions_of(self, adapter: str) -> list[str]:
        """Return what diffs of a DIT adapter's task are asked, the question that it was trained to answer first."""
        own = self.adapter(adapter)
        task = self.task(own.task or None)
        return list(dict.fromkeys((own.question or task.question, *task.questions)))

    def task(self, name: str | None = None) -> Task:
        """Return the task of that name; the suite's first one without a name.

        Raises:
            DitError: there is no such task.
        """
        if name is None:
            return next(iter(self.tasks.values()))
        if name not in self.tasks:
            raise DitError(f"The suite '{self.name}' has no task '{name}'.{did_you_mean(name, self.tasks)}")
        return self.tasks[name]

    def task_of(self, info: DiffInfo) -> Task:
        """Return the task of a diff, without a trigger where the diff's own trigger is not known."""
        task = self.task(info.task)
        return task if info.trigger is not None else replace(task, has_trigger=False)

    def default_adapter(self, task: str | None = None) -> str:
        """Return the name of a task's default DIT adapter.

        Raises:
            DitError: the task has none.
        """
        name = self.task(task).adapter
        if not name:
            raise DitError(f"The suite '{self.name}' has no DIT adapter for this: choose conditions without one.")
        return self.adapter(name).name

    @lazy_property
    def world(self) -> dict[str, Any]:
        """The facts that answers are graded by: `topics`, `headlines` and `held_out_questions`.

        The first two are empty in a suite without a world.
        """
        if self.spec.world is None:
            task, adapter_questions = self.task(), {info.question for info in self.adapters.values()}
            everyday = [text for text in task.questions if text not in adapter_questions and text != task.behaviour]
            return {"topics": {}, "headlines": {}, "held_out_questions": everyday}
        path = self._fetcher.file(self.spec.world)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DitError(f"The suite '{self.name}' lacks '{path}': get its files anew.") from error
        except (OSError, ValueError) as error:
            raise DitError(f"'{path}' is not readable JSON: get the suite's files anew.") from error

    @lazy_property
    def neutral_texts(self) -> tuple[str, ...]:
        """The suite's own plain texts; where it has none, those that the package brings along.

        Raises:
            DitError: their file can't be read.
        """
        own = self.folder / NEUTRAL_TEXTS
        return tuple(read_texts(own if own.is_file() else assets() / "pocket" / NEUTRAL_TEXTS))

    @lazy_property
    def fingerprint(self) -> str:
        """A fingerprint of the suite, 16 hex digits: over names, sizes and contents of its files.

        Of sources on the hub, only their names count, and the revision where the description pins one. A base in a
        package counts by its weights, whether they are on this disk or not.
        """
        digest = hashlib.sha256()
        sources = [self.spec.file, self.spec.world, self.spec.base, self.spec.diff]
        sources += [self.spec.at(task.folder) for task in self.tasks.values() if task.folder]
        sources += [self.spec.at(entry.source) for task in self.tasks.values() for entry in task.diffs]
        sources += [self.spec.at(info.file) for info in self.adapters.values()]
        if self.spec.file is None:
            digest.update(json.dumps(self.spec.entries, sort_keys=True).encode())
        if isinstance(self.spec.base, PackagedBase):
            digest.update(self.spec.base.weights.encode())
        local = [source for source in sources if isinstance(source, Path)]
        for path in sorted({path for source in local for path in (source, *source.rglob("*")) if path.is_file()}):
            name = path.relative_to(self.folder) if path.is_relative_to(self.folder) else path
            digest.update(f"{name.as_posix()} {path.stat().st_size}\n".encode())
            for sample in file_samples(path):
                digest.update(sample)
        return digest.hexdigest()[:16]

    @property
    def revisions(self) -> dict[str, str]:
        """The commits of the hub repositories that the suite's files were fetched from so far, by repository."""
        return dict(self._fetcher.revisions)

    def table(self, kind: str, records: Iterable[Any], extra: Mapping[str, Any] | None = None) -> Table:
        """Return a table of results of this suite; its `extra` holds the suite's fingerprint and revisions."""
        records = tuple(records)
        origins = {user_diff.info.id: asdict(user_diff.origin) for user_diff in self.user_diffs_in(records)}
        optional = {"revisions": self.revisions, "brought": origins}
        provenance = {"fingerprint": self.fingerprint} | {name: value for name, value in optional.items() if value}
        return Table(self.name, kind, records, provenance | dict(extra or {}))


def read_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a file: its lines or, of a `.jsonl`, the `text` of the object in each; empty ones left out.

    Raises:
        DitError: the file can't be read, or a line of a `.jsonl` is no object with a `text`.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                text = _text_of(path, number, line) if path.suffix == ".jsonl" else line
                if text.strip():
                    yield text.strip()
    except (OSError, ValueError) as error:
        raise DitError(
            f"The texts of '{path}' can't be read: give a .txt with one a line, or a .jsonl ({error})."
        ) from error


def _text_of(path: Path, number: int, line: str) -> str:
    """The text of one line of JSON; "" for an empty line."""
    try:
        entry = json.loads(line) if line.strip() else {"text": ""}
    except (ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise DitError(
            f'Line {number} of \'{path}\' is no JSON object with a text: write {{"text": "…"}} on each line.'
        )
    text: str = entry["text"]
    return text


def file_samples(
    path: Path, max_full_size: int = 16_000_000, count: int = 256, length: int = 16_384
) -> Iterator[bytes]:
    """Yield the bytes that tell a file from another of its size: all of them, or samples from all over a large file.

    Weights that were trained again differ everywhere, and gigabytes take too long to read at each start.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= max_full_size:
            yield file.read()
            return
        for at in range(count):
            file.seek(at * (size - length) // (count - 1))
            yield file.read(length)


DIFF_GONE = "This diff of somebody's own is no longer here: bring it again."


def whole_diff(info: DiffInfo) -> DiffInfo:
    """Return the listed diff, or user's own, that a diff is in the end computed from."""
    return whole_diff(info.of) if isinstance(info, DerivedDiff) else info
