"""The files that a visitor uploads: on this disk until they are read, taken back, or left behind.

Gradio's own cache would keep them; `MOST_SECONDS` is for those of whom the page hears nothing more.
"""

from collections.abc import Iterable
from pathlib import Path

MOST_SECONDS = 3600
LOOKS = 600, MOST_SECONDS
"""Gradio's `delete_cache`: how often it looks for old files, and how old a file may get."""


class Uploads:
    """One visitor's files."""

    def __init__(self) -> None:
        self._files: set[Path] = set()

    def keep(self, files: Iterable[str]) -> None:
        """Takes these in, and deletes all others."""
        kept = {Path(file) for file in files}
        gone, self._files = self._files - kept, kept
        for file in gone:
            file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Deletes all."""
        self.keep(())
