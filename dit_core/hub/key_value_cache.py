"""JSON values by key in one small SQLite file of the user's cache folder: what was expensive is computed once.

Several processes may share a file. Each value is on disk before the next, whatever stops the run.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from dit_core.errors import DitError

WAIT_SECONDS = 30  # for another process that is writing


def user_cache_folder() -> Path:
    """Return this project's folder in the user's cache (`XDG_CACHE_HOME`, else `~/.cache`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dit_core"


class KeyValueCache:
    """JSON values by key; a key is any JSON-ready sequence, of which a hash is kept.

    The file is made when first used. Every method raises DitError where it can't be read or written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def get(self, *key: Any) -> Any:
        """Return the value kept under a key, or None."""
        with self._open() as database:
            row = database.execute("SELECT value FROM cache WHERE key = ?", [_digest(key)]).fetchone()
        return None if row is None else json.loads(row[0])

    def put(self, items: Iterable[tuple[tuple[Any, ...], Any]]) -> None:
        """Keep values by their keys, all or none of them; of two for the same key the last counts."""
        rows = [(_digest(key), json.dumps(value)) for key, value in items]
        with self._open() as database, database:
            database.executemany("INSERT OR REPLACE INTO cache VALUES (?, ?)", rows)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=WAIT_SECONDS)) as database:
                database.execute("CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
                yield database
        except (OSError, sqlite3.Error, ValueError) as error:
            raise DitError(
                f"The cache '{self.path}' can't be used ({error}): free the disk, or remove the damaged file."
            ) from error


def _digest(key: tuple[Any, ...]) -> str:
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()
