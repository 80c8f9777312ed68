"""Fetching files of a place through the hub's own client."""

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dit_core.errors import DitError
from dit_core.hub.failures import said
from dit_core.hub.progress import progress_bar_class
from dit_core.hub.sources import HubPath, Source


class NoMatchingFiles(DitError):
    """A folder on the hub has none of the files that were wanted."""


ADAPTER_FILES = ("adapter_config.json", "adapter_model.*")
# Weights in one format only, the tokenizer, and no code: a repository often holds the same weights several times.
BASE_FILES = ("*.json", "model*.safetensors", "tokenizer*", "*.jinja", "merges.txt", "vocab.txt")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Size:
    """Bytes of some files, and how many of them are not on this disk yet."""

    total: int
    missing: int


class Fetcher:
    """Fetches artefacts for one suite. A repository keeps the commit that it was first seen at.

    `revisions` holds those commits, by repository (and the revision asked for): the provenance of what was loaded.
    `client` are settings of the hub's client for every request, such as `token` and `cache_dir`.
    """

    def __init__(self, **client: Any) -> None:
        self.revisions: dict[str, str] = {}
        self._client = client
        self._here: dict[tuple[Source, tuple[str, ...]], Path] = {}  # what has been fetched, so that it is asked once

    def file(self, where: Source) -> Path:
        """The path of one file, fetched where it is not here yet; a file that lacks on this disk is the reader's error.

        Raises DitError: one sentence for each reason why the hub does not give it.
        """
        if isinstance(where, Path):
            return where
        if (here := self._here.get((where, ()))) and here.is_file():
            return here
        from huggingface_hub import hf_hub_download

        with self._said(where), progress_bar_class(str(where)) as bar:
            found = hf_hub_download(
                where.repo, where.path, revision=self._revision(where), tqdm_class=bar, **self._client
            )
        snapshot = Path(found)
        for _ in where.path.split("/"):
            snapshot = snapshot.parent
        self._saw(where, snapshot)
        self._here[where, ()] = Path(found)
        return Path(found)

    def folder(self, where: Source, patterns: Sequence[str]) -> Path:
        """The path of a folder in which all files of these patterns are, fetched where they are not here yet."""
        if isinstance(where, Path):
            return where
        if (here := self._here.get((where, tuple(patterns)))) and _there(here, patterns):
            return here
        from huggingface_hub import snapshot_download

        with self._said(where), progress_bar_class(str(where)) as bar:
            found = snapshot_download(
                where.repo,
                revision=self._revision(where),
                allow_patterns=_inside(where, patterns),
                tqdm_class=bar,
                **self._client,
            )
        self._saw(where, Path(found))
        folder = Path(found) / where.path
        if not _there(folder, patterns):
            raise NoMatchingFiles(
                f"'{where}' holds none of the files that are needed ({', '.join(patterns)}): check the name."
            )
        self._here[where, tuple(patterns)] = folder
        return folder

    def size(self, where: Source, patterns: Sequence[str]) -> Size:
        """How large the files of these patterns are, in all and without those that are here; nothing is fetched."""
        if isinstance(where, Path):
            return Size(_bytes(where, patterns), 0)
        from huggingface_hub import snapshot_download

        with self._said(where):
            try:
                here = snapshot_download(
                    where.repo,
                    revision=self._revision(where),
                    allow_patterns=_inside(where, patterns),
                    local_files_only=True,
                    **self._client,
                )
                if any((Path(here) / where.path).glob("config.json")):
                    return Size(_bytes(Path(here) / where.path, patterns), 0)
            except OSError:  # not all of it is here
                pass
            with progress_bar_class(str(where), silent=True) as bar:
                files = snapshot_download(
                    where.repo,
                    revision=self._revision(where),
                    allow_patterns=_inside(where, patterns),
                    dry_run=True,
                    tqdm_class=bar,
                    **self._client,
                )
        sizes = [(file.file_size or 0, file.will_download) for file in files]
        return Size(sum(size for size, _ in sizes), sum(size for size, missing in sizes if missing))

    def file_size(self, where: Source) -> Size:
        """As `size`, of one file."""
        if isinstance(where, Path):
            return Size(where.stat().st_size if where.is_file() else 0, 0)
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        with self._said(where):
            cache = self._client.get("cache_dir")
            here = try_to_load_from_cache(where.repo, where.path, cache, revision=self._revision(where))
            if isinstance(here, str):
                return Size(Path(here).stat().st_size, 0)
            file = hf_hub_download(where.repo, where.path, revision=self._revision(where), dry_run=True, **self._client)
        return Size(file.file_size or 0, (file.file_size or 0) if file.will_download else 0)

    def commit(self, where: HubPath) -> str | None:
        """The commit that a repository was first seen at; None where nothing of it was fetched yet."""
        return self.revisions.get(_key(where))

    def _said(self, where: HubPath) -> AbstractContextManager[None]:
        return said(where, stranger=self._client.get("token") is False)

    def _revision(self, where: HubPath) -> str | None:
        return self.commit(where) or where.revision

    def _saw(self, where: HubPath, snapshot: Path) -> None:
        if _COMMIT.fullmatch(snapshot.name):
            self.revisions.setdefault(_key(where), snapshot.name)


def _key(where: HubPath) -> str:
    return f"{where.repo}@{where.revision}" if where.revision else where.repo


def _inside(where: HubPath, patterns: Sequence[str]) -> list[str]:
    return [f"{where.path}/{pattern}" if where.path else pattern for pattern in patterns]


def _there(folder: Path, patterns: Sequence[str]) -> bool:
    return folder.is_dir() and any(path for pattern in patterns for path in folder.glob(pattern))


def _bytes(folder: Path, patterns: Sequence[str]) -> int:
    files = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sum(path.stat().st_size for path in files)
