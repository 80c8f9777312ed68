"""Judges' grades kept on disk, so that no pair is judged twice, whatever stops a run."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from dit_core.errors import DitError


class Replies:
    """Grades by what they depend on, in a small database: each is on disk before the next, and two runs may share it.

    The file is made when first used; by default `judge.sqlite` in the user's cache folder.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.path = Path(path) if path else Path(cache) / "dit_core" / "judge.sqlite"

    def find(self, *parts: str) -> int | None:
        """The grade kept for these parts: model, rubric and pair."""
        with self._open() as database:
            found = database.execute("SELECT grade FROM replies WHERE key = ?", [_key(parts)]).fetchone()
        return found and found[0]

    def keep(self, grade: int, *parts: str) -> None:
        """Keeps a grade. Of two for the same parts the last counts."""
        with self._open() as database, database:
            database.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", [_key(parts), grade])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=30)) as database:
                database.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, grade INTEGER NOT NULL)")
                yield database
        except (OSError, sqlite3.Error) as error:
            raise DitError(
                f"The judge's grades can't be kept in '{self.path}' ({error}): free the disk, remove a damaged file, "
                "or name another with --cache."
            ) from error


def _key(parts: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
