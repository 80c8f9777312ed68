"""What samples said and how likely texts were, kept in memory and on disk: evidence costs its time only once.

One small file per suite, its name with the suite's fingerprint, in the user's cache folder. A cache is no reason to
fail: what can't be kept or read is found anew.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from dit_core.errors import DitError
from dit_core.hub import parse_source
from dit_core.hub.key_value_cache import KeyValueCache, user_cache_folder
from dit_core.project import VERSION
from dit_core.suite import Suite

_log = logging.getLogger("dit_core")


class EvidenceCache:
    """JSON values by key, in memory and in the file at `path`; `stamp` is part of every key."""

    def __init__(self, path: Path, stamp: str) -> None:
        self.path = path
        self._file, self._stamp = KeyValueCache(path), stamp
        self._memory: dict[tuple[Any, ...], Any] = {}

    def get(self, *key: Any) -> Any:
        """Return what is kept under a key, or None."""
        if key not in self._memory and self.path.exists():
            try:
                self._memory[key] = self._file.get(self._stamp, *key)
            except DitError as error:
                _log.info("evidence is found anew: %s", error)
        return self._memory.get(key)

    def put(self, items: Iterable[tuple[tuple[Any, ...], Any]]) -> None:
        """Keep values by their keys."""
        values = dict(items)
        self._memory.update(values)
        try:
            self._file.put(((self._stamp, *key), value) for key, value in values.items())
        except DitError as error:
            _log.info("evidence is not kept: %s", error)


@lru_cache(maxsize=8)
def cache_of(suite: Suite) -> EvidenceCache:
    """Return the cache of a suite as its files are now."""
    return EvidenceCache(user_cache_folder() / f"evidence-{suite.name}-{suite.fingerprint}.sqlite", _stamp(suite))


def _stamp(suite: Suite) -> str:
    """Return what tells files from others of the same name and size; the fingerprint has the rest."""
    sources = [suite.about.base, *(suite.about.at(task.folder) for task in suite.tasks.values() if task.folder)]
    sources += [parse_source(suite.oracle.source)] if suite.oracle else []
    folders = [source for source in sources if isinstance(source, Path)]
    ages = sorted((str(path), path.stat().st_mtime_ns) for folder in folders for path in folder.rglob("*.*"))
    return hashlib.sha256(json.dumps([VERSION, str(suite.loading), ages]).encode()).hexdigest()
