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
from dit_core.formats import KINDS, Adapter, AdapterFile, identify, open_adapter_file, unpack
from dit_core.formats.checkpoint import read_fingerprint
from dit_core.hub import HubPath, parse_source
from dit_core.records import DiffInfo, ModuleChange, Table
from dit_core.suite import Origin
from dit_core.suite.diffs import diff_path, source_size
from dit_core.suite.limits import current_limits
from dit_core.suite.offload import at_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

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
        return _add(suite, adapter_file, origin, task)


def bring_source(suite: Suite, source: str, title: str = "", task: str | None = None, position: int = 0) -> AddedDiff:
    """Add one diff from a hub id (`owner/name[@revision][/path/inside]`) or, where paths are allowed, from a path.

    `title`, `task` and `position` are those of `bring_files`.

    Raises:
        DitError: there is no diff, no network, the diff does not fit, or a public server is given a path or a download
            that is too large.
    """
    if not source.strip():
        raise DitError("There is nothing to check yet: choose files, or give a hub id.")
    limits = current_limits()
    where = parse_source(limits.check_source(source), paths=limits.paths)
    fetcher = suite.fetcher()
    if isinstance(where, HubPath):
        limits.check_download(str(where), source_size(where, fetcher).missing)
    title = title or str(where).rstrip("/").rpartition("/")[2]
    with open_adapter_file(diff_path(where, fetcher)) as adapter_file:
        fetched = replace(where, revision=fetcher.commit(where)) if isinstance(where, HubPath) else where
        return _add(suite, adapter_file, Origin(title, str(fetched), position=position), task)


def _add(suite: Suite, adapter_file: AdapterFile, origin: Origin, task: str | None) -> AddedDiff:
    entry = adapter_file.read(origin.position)
    suite.fetch()
    changes = _changes(suite, entry.adapter)
    if not changes.records:
        raise DitError("This equals the suite's own base in every weight: there is nothing to ask about.")
    if note := base_note(suite, entry.base):
        changes = replace(changes, extra=changes.extra | {"notes": [*changes.extra.get("notes", ()), note]})
    info = suite.bring(entry.adapter, origin, task)
    return AddedDiff(info, origin.title, KINDS[adapter_file.kind], adapter_file.count, entry.base, changes)


def base_note(suite: Suite, named: str) -> str:
    """Return a sentence on the base that a diff's files name, where that is not the suite's by name.

    A base of another name is compared by a fingerprint of its weights where it is on this disk: a copy, a mirror and
    a 4-bit version of the same base have the same. A public server looks at no place that a stranger names.
    """
    if not named or named.casefold() == str(suite.spec.base).casefold():
        return ""
    folder = _base_on_this_disk(named) if current_limits().paths else None
    same = None
    if folder is not None:
        try:
            same = _is_same_base(suite, read_fingerprint(folder))
        except DitError:  # it is no checkpoint, or damaged: then it tells nothing
            same = None
    if same is None:
        return f"Its files name the base {named!r}, which can't be compared here: by its shapes it fits this suite's."
    if same:
        return f"Its files name the base {named!r}, whose weights are those of this suite's."
    return (
        f"Its files name the base {named!r}, whose weights differ from this suite's: what it says here may mean "
        f"nothing. Open it on its own base, with `generic_suite({named!r}, …)`."
    )


def _base_on_this_disk(named: str) -> Path | None:
    """The folder of a base that is a path here or was fetched from the hub before; nothing is fetched."""
    if (path := Path(named).expanduser()).is_dir():
        return path
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        config = try_to_load_from_cache(named, "config.json")
    except HFValidationError:
        return None
    return Path(config).parent if isinstance(config, str) else None


@at_model
def _is_same_base(suite: Suite, fingerprint: Mapping[str, Tensor]) -> bool | None:
    return suite.worker.run(lambda: suite.model.base_modules.is_same(fingerprint))


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
