"""Caches on this disk: what was fetched from hub and package index, and how to delete of it; results in SQLite."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dit_core.errors import DitError, did_you_mean

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo, HFCacheInfo


@dataclass(frozen=True)
class CachedRepository:
    """One repository in the cache: its size in bytes, its commits, and the day when it was last used.

    A base that came in a Python package is one too, `package:NAME`, whose versions are its commits.
    """

    repo: str
    size: int
    revisions: tuple[str, ...]
    last_used: str


def cached_repositories() -> list[CachedRepository]:
    """Return all models in the cache, the largest first; what other programs fetched too, as all share it."""
    from datetime import UTC, datetime

    found = []
    for repo in _models():
        day = datetime.fromtimestamp(repo.last_accessed, UTC).date().isoformat()
        commits = tuple(sorted(revision.commit_hash for revision in repo.revisions))
        found.append(CachedRepository(repo.repo_id, repo.size_on_disk, commits, day))
    for name, folder in _packages().items():
        files = [path.stat() for path in folder.rglob("*") if path.is_file()]
        day = datetime.fromtimestamp(max((file.st_atime for file in files), default=0), UTC).date().isoformat()
        versions = tuple(sorted(path.name for path in folder.glob("[!.]*/")))
        found.append(CachedRepository(name, sum(file.st_size for file in files), versions, day))
    return sorted(found, key=lambda repo: (-repo.size, repo.repo))


def delete_repositories(names: Sequence[str]) -> int:
    """Delete repositories from the cache, and return how many bytes that freed.

    Raises:
        DitError: one is not there; then nothing is deleted.
    """
    sizes = {repo.repo: repo.size for repo in cached_repositories()}
    for name in names:
        if name not in sizes:
            raise DitError(
                f"The cache holds no '{name}'.{did_you_mean(name, sizes)} `dit_core cache` lists what it has."
            )
    freed = 0
    for name, folder in _packages().items():
        if name in names:
            freed += sizes[name]
            shutil.rmtree(folder)
    if commits := [revision.commit_hash for repo in _models() if repo.repo_id in names for revision in repo.revisions]:
        plan = _scan().delete_revisions(*commits)
        plan.execute()
        freed += plan.expected_freed_size
    return freed


def _models() -> list[CachedRepoInfo]:
    from huggingface_hub.errors import CacheNotFound

    try:
        return [repo for repo in _scan().repos if repo.repo_type == "model"]
    except CacheNotFound:
        return []


def _packages() -> dict[str, Path]:
    """Return the folders of bases that came in Python packages, by the bases' names."""
    return {f"package:{folder.name}": folder for folder in sorted(packages_folder().glob("*/"))}


def _scan() -> HFCacheInfo:
    from huggingface_hub import constants, scan_cache_dir

    # The folder that downloads go to now: the client's own default is the one that was set when it was imported.
    return scan_cache_dir(constants.HF_HUB_CACHE)


WAIT_SECONDS = 30  # for another process that is writing
CREATE = "CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, value TEXT NOT NULL)"
SELECT = "SELECT value FROM cache WHERE key = ?"
INSERT = "INSERT OR REPLACE INTO cache VALUES (?, ?)"
T = TypeVar("T")

_log = logging.getLogger("dit_core")


def user_cache_folder() -> Path:
    """Return this project's folder in the user's cache (`XDG_CACHE_HOME`, else `~/.cache`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dit_core"


def packages_folder() -> Path:
    """Return the folder of the bases that came in Python packages: `<package>/<version>` below it."""
    return user_cache_folder() / "packages"


class KeyValueCache:
    """JSON values by key; a key is any JSON-ready sequence, of which a hash is kept.

    The file is made when the first value is put. One that is damaged, or no database, is moved aside (`.damaged`), and
    a new one begun. Every method raises DitError where the file can't be read or written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def get(self, *key: Any) -> Any:
        """Return the value kept under a key, or None."""
        if not self.path.exists():
            return None
        row = self._run(lambda database: database.execute(SELECT, [_digest(key)]).fetchone())
        try:
            return json.loads(row[0]) if row else None
        except (ValueError, TypeError, RecursionError):
            return None  # another program's value: as good as none

    def put(self, items: Iterable[tuple[tuple[Any, ...], Any]]) -> None:
        """Keep values by their keys, all or none of them; of two for the same key the last counts."""
        rows = [(_digest(key), json.dumps(value)) for key, value in items]
        self._run(lambda database: database.executemany(INSERT, rows))

    def _run(self, action: Callable[[sqlite3.Connection], T]) -> T:
        """Do something in one transaction; where the file turns out damaged, once more in a new one."""
        try:
            try:
                return self._transaction(action)
            except sqlite3.DatabaseError as error:
                # Its subclasses mean no room, no rights or a lock: then the file itself is sound.
                if type(error) is not sqlite3.DatabaseError:
                    raise
                aside = self.path.with_name(f"{self.path.name}.damaged")
                _log.warning("the cache '%s' is damaged (%s) and is now '%s'", self.path, error, aside.name)
                self.path.replace(aside)
                return self._transaction(action)
        except (OSError, sqlite3.Error) as error:
            raise DitError(
                f"The cache '{self.path}' can't be used ({error}): free the disk, or choose another file."
            ) from error

    def _transaction(self, action: Callable[[sqlite3.Connection], T]) -> T:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(self.path, timeout=WAIT_SECONDS)) as database, database:
            database.execute(CREATE)
            return action(database)


def _digest(key: tuple[Any, ...]) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()
