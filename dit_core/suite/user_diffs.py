"""A user's own diff, from files or the hub: checked against a suite's base, then added to the suite."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from dit_core.engine.changes import report
from dit_core.errors import DitError
from dit_core.formats import KINDS, Adapter, AdapterFile, StoredAdapter, identify, open_adapter_file, unpack
from dit_core.hub import Fetcher, HubPath, parse_source
from dit_core.records import DiffInfo, ModuleChange, Table
from dit_core.suite import Origin
from dit_core.suite.diffs import diff_path, source_size
from dit_core.suite.fitting import base_note
from dit_core.suite.limits import current_limits
from dit_core.suite.offload import at_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dit_core.suite import Suite


@dataclass(frozen=True)
class AddedDiff:
    """A user's own diff that was added to a suite: its id, the layout of its files, and what it changes.

    `base` is the base's name in those files, a text that is not trusted; `count` is how many diffs they hold.
    """

    info: DiffInfo
    title: str
    layout: str
    count: int
    base: str
    changes: Table[ModuleChange]


def bring_files(
    suite: Suite, files: Sequence[Path | str], title: str = "", task: str | None = None, position: int = 0
) -> AddedDiff:
    """Add one diff from files, which are not needed afterwards: a `.pt`, a zip, or the files of one folder.

    Args:
        suite: the suite whose base the diff was made for.
        files: paths.
        title: its name for people; by default the file's name.
        task: the task that decides how it is asked; by default the suite's first one.
        position: which diff, of a file that holds many.

    Raises:
        DitError: there are no files, they are no diff or too large, or the diff does not fit the suite's base.
    """
    if not files:
        raise DitError("There is nothing to check yet: choose files, or give a hub id.")
    title = title or (Path(files[0]).stem if len(files) == 1 else "my diff")
    origin = Origin(title, files=tuple(Path(file).name for file in files), position=position)
    if not all(Path(file).exists() for file in files):
        raise DitError("These files are no longer here: choose them again.")
    with _uploaded([Path(file) for file in files], current_limits().upload_bytes) as adapter_file:
        return _noted(suite, adapter_file, origin, task)


def bring_source(suite: Suite, source: str, title: str = "", task: str | None = None, position: int = 0) -> AddedDiff:
    """Add one diff from a hub id (`owner/name[@revision][/path/inside]`) or, where paths are allowed, from a path.

    `title`, `task` and `position` are those of `bring_files`.

    Raises:
        DitError: there is no diff, no network, the diff does not fit, or a public server is given a path or a download
            that is too large.
    """
    if not source.strip():
        raise DitError("There is nothing to check yet: choose files, or give a hub id.")
    with open_source(source, suite.fetcher(), title, position) as (adapter_file, origin):
        return _noted(suite, adapter_file, origin, task)


@contextmanager
def open_source(
    source: str, fetcher: Fetcher, title: str = "", position: int = 0
) -> Iterator[tuple[AdapterFile, Origin]]:
    """Give what lies at a path or hub id, fetched where it is not here, and where it came from.

    Raises:
        DitError: as `bring_source` does.
    """
    limits = current_limits()
    where = parse_source(limits.check_source(source), paths=limits.paths)
    if isinstance(where, HubPath):
        limits.check_download(str(where), source_size(where, fetcher).missing)
    title = title or str(where).rstrip("/").rpartition("/")[2]
    with open_adapter_file(diff_path(where, fetcher)) as adapter_file:
        fetched = replace(where, revision=fetcher.commit(where)) if isinstance(where, HubPath) else where
        yield adapter_file, Origin(title, str(fetched), position=position)


def add_diff(
    suite: Suite,
    adapter_file: AdapterFile,
    stored: StoredAdapter,
    origin: Origin,
    task: str | None = None,
    note: str = "",
) -> AddedDiff:
    """Add a diff that was read from a file, after a check against the suite's base; `note` joins what is told of it.

    Raises:
        DitError: it doesn't fit the base, or equals it, or the base can't be had.
    """
    suite.fetch()
    changes = _changes(suite, stored.adapter)
    if not changes.records:
        raise DitError("This equals the suite's own base in every weight: there is nothing to ask about.")
    if note:
        changes = replace(changes, extra=changes.extra | {"notes": [*changes.extra.get("notes", ()), note]})
    info = suite.bring(stored.adapter, origin, task)
    return AddedDiff(info, origin.title, KINDS[adapter_file.kind], adapter_file.count, stored.base, changes)


def _noted(suite: Suite, adapter_file: AdapterFile, origin: Origin, task: str | None) -> AddedDiff:
    stored = adapter_file.read(origin.position)
    return add_diff(suite, adapter_file, stored, origin, task, base_note(suite, stored.base))


@at_model
def _changes(suite: Suite, adapter: Adapter) -> Table[ModuleChange]:
    return suite.worker.run(lambda: report(adapter, suite.model, suite=suite.name))


@contextmanager
def _uploaded(files: Sequence[Path], max_bytes: int) -> Iterator[AdapterFile]:
    """Yield what uploaded files hold; each may have come into a folder of its own."""
    if sum(file.stat().st_size for file in files) > max_bytes:
        raise DitError(f"These files are larger than {max_bytes / 1e6:,.0f} MB, the most that this server takes.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if len(files) == 1 and files[0].suffix.lower() == ".zip":
            yield identify(unpack(files[0], Path(folder) / "unpacked", max_bytes))
        elif len(files) == 1:
            yield identify(files[0])
        else:
            for file in files:
                shutil.copyfile(file, Path(folder) / PureWindowsPath(file.name).name)
            yield identify(folder)
