"""What samples said and how likely texts were, kept in memory and on disk: evidence costs its time only once.

One small database per suite, its name with the suite's fingerprint, in the user's cache folder. A cache is no reason to
fail: what can't be kept or read is found anew.
"""

import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any

from dit_core import __version__
from dit_core.hub import parse_source
from dit_core.suite import Suite

_log = logging.getLogger("dit_core")


class Store:
    """JSON values by key; `stamp` goes into every key."""

    def __init__(self, path: Path, stamp: str) -> None:
        self.path, self._stamp = path, stamp
        self._memory: dict[str, Any] = {}

    def find(self, *key: Any) -> Any:
        """What is kept under a key; None for nothing."""
        place = self._place(key)
        if place not in self._memory and self.path.exists():
            try:
                with closing(sqlite3.connect(self.path, timeout=5)) as database:
                    row = database.execute("SELECT value FROM kept WHERE key = ?", [place]).fetchone()
                if row:
                    self._memory[place] = json.loads(row[0])
            except (OSError, sqlite3.Error, ValueError) as error:
                _log.info("the controls kept in '%s' can't be read: %s", self.path, error)
        return self._memory.get(place)

    def keep(self, items: Iterable[tuple[tuple, Any]]) -> None:
        """Keeps values by their keys."""
        rows = {self._place(key): value for key, value in items}
        self._memory.update(rows)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=5)) as database, database:
                database.execute("CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
                written = [(place, json.dumps(value)) for place, value in rows.items()]
                database.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?)", written)
        except (OSError, sqlite3.Error) as error:
            _log.info("the controls can't be kept in '%s': %s", self.path, error)

    def _place(self, key: tuple) -> str:
        return hashlib.sha256(json.dumps([self._stamp, *key]).encode()).hexdigest()


@lru_cache(maxsize=8)
def store_of(suite: Suite) -> Store:
    """The store of a suite as its files are now."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Store(cache / "dit_core" / f"controls-{suite.name}-{suite.fingerprint}.sqlite", _stamp(suite))


def _stamp(suite: Suite) -> str:
    """What tells files from others of the same name and size; the fingerprint has the rest."""
    places = [suite.about.base, *(suite.about.at(task.folder) for task in suite.tasks.values() if task.folder)]
    places += [parse_source(suite.oracle.source)] if suite.oracle else []
    folders = [where for where in places if isinstance(where, Path)]
    ages = sorted((str(path), path.stat().st_mtime_ns) for folder in folders for path in folder.rglob("*.*"))
    return hashlib.sha256(json.dumps([__version__, str(suite.loading), ages]).encode()).hexdigest()
