"""Fetching what a stranger names: as nobody, and into a folder that goes with the fetcher."""

import shutil
import tempfile
import weakref

from dit_core.hub.fetch import Fetcher


def anonymous_fetcher() -> Fetcher:
    """A fetcher that has neither this machine's token nor what was fetched with it: it reaches what is public alone."""
    folder = tempfile.mkdtemp(prefix="dit-stranger-")
    fetcher = Fetcher(token=False, cache_dir=folder)
    weakref.finalize(fetcher, shutil.rmtree, folder, ignore_errors=True)
    return fetcher
