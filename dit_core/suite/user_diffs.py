"""A diff of somebody's own, from files or the hub: checked against a suite's base, then joined to the suite."""

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
from dit_core.formats import KINDS, Adapter, AdapterFile, identify, open_adapter_file, unpack
from dit_core.hub import HubPath, parse_source
from dit_core.records import DiffInfo, ModuleChange, Table
from dit_core.suite import Origin
from dit_core.suite.diffs import diff_path, size
from dit_core.suite.limits import current_limits
from dit_core.suite.offload import at_model

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dit_core.suite import Suite


@dataclass(frozen=True)
class AddedDiff:
    """A diff that has joined a suite: under which id, in what layout it came, and what it changes.

    `base` is the name of the base in its files, a stranger's text; `count` is how many diffs they hold.
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
    """Brings one diff out of files: a `.pt`, a zip, or the files of one folder; they may go away afterwards.

    `position` says which, of a file of many; `task` how it is asked (the suite's first way without a name).

    Raises:
        DitError: no files, files that are no diff or are too large, or a diff that does not fit the suite's base.
    """
    if not files:
        raise DitError("There is nothing to check yet: choose files, or give a hub id.")
    title = title or (Path(files[0]).stem if len(files) == 1 else "my diff")
    origin = Origin(title, files=tuple(Path(file).name for file in files), position=position)
    if not all(Path(file).exists() for file in files):
        raise DitError("These files are no longer here: choose them again.")
    with _together([Path(file) for file in files], current_limits().upload_bytes) as found:
        return _join(suite, found, origin, task)


def bring_source(suite: Suite, source: str, title: str = "", task: str | None = None, position: int = 0) -> AddedDiff:
    """Brings one diff from a hub id (`owner/name[@revision][/path/inside]`) or, at home, from a path.

    Raises:
        DitError: nothing there that is a diff, no network, a diff that does not fit, and on a public server a path or a
            download that is too large.
    """
    if not source.strip():
        raise DitError("There is nothing to check yet: choose files, or give a hub id.")
    limits = current_limits()
    where = parse_source(limits.check_source(source), paths=limits.paths)
    fetcher = suite.fetcher()
    if isinstance(where, HubPath):
        limits.check_download(str(where), size(where, fetcher).missing)
    title = title or str(where).rstrip("/").rpartition("/")[2]
    with open_adapter_file(diff_path(where, fetcher)) as found:
        seen = replace(where, revision=fetcher.commit(where)) if isinstance(where, HubPath) else where
        return _join(suite, found, Origin(title, str(seen), position=position), task)


def _join(suite: Suite, found: AdapterFile, origin: Origin, task: str | None) -> AddedDiff:
    entry = found.read(origin.position)
    suite.fetch()
    changes = _changes(suite, entry.adapter)
    if not changes.records:
        raise DitError("This equals the suite's own base in every weight: there is nothing to ask about.")
    info = suite.bring(entry.adapter, origin, task)
    return AddedDiff(info, origin.title, KINDS[found.kind], found.count, entry.base, changes)


@at_model
def _changes(suite: Suite, adapter: Adapter) -> Table[ModuleChange]:
    return suite.worker.run(lambda: report(adapter, suite.model, suite=suite.name))


@contextmanager
def _together(files: Sequence[Path], most_bytes: int) -> Iterator[AdapterFile]:
    """What lies in uploaded files, each of which may have come into a folder of its own."""
    if sum(file.stat().st_size for file in files) > most_bytes:
        raise DitError(f"These files are larger than {most_bytes / 1e6:,.0f} MB, the most that this server takes.")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if len(files) == 1 and files[0].suffix.lower() == ".zip":
            yield identify(unpack(files[0], Path(folder) / "unpacked", most_bytes))
        elif len(files) == 1:
            yield identify(files[0])
        else:
            for file in files:
                shutil.copyfile(file, Path(folder) / PureWindowsPath(file.name).name)
            yield identify(folder)
