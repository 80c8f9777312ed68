"""Fetching the files of a source through the hub's own client, whose every failure is one sentence for the user."""

import errno
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dit_core.errors import DitError
from dit_core.hub.packages import BaseSource, PackagedBase, fetch_packaged_base
from dit_core.hub.progress import progress_bar_class
from dit_core.hub.sources import HubPath, Source

ADAPTER_FILES = ("adapter_config.json", "adapter_model.*")
BASE_FILES = ("*.json", "model*.safetensors", "tokenizer*", "*.jinja", "merges.txt", "vocab.txt")
"""Weights in one format only, the tokenizer, and no code: a repository often holds the same weights several times."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


class NoMatchingFiles(DitError):
    """A folder on the hub has none of the files that were wanted."""


@dataclass(frozen=True)
class Size:
    """Bytes of some files in all, and of those among them that are not on this disk yet."""

    total: int
    missing: int


class Fetcher:
    """Fetches files from the hub for one suite. A repository keeps the commit that it was first seen at.

    What is on this disk already is never fetched, and every failure is a `DitError` that says what to do.

    Args:
        anonymous: take neither this machine's token nor anything that was fetched with it.
        cache: the folder that holds what is fetched; the client's own without it.

    Attributes:
        revisions: the commits, by repository (and the revision asked for): the provenance of what was loaded.
    """

    def __init__(self, anonymous: bool = False, cache: Path | str | None = None) -> None:
        self.revisions: dict[str, str] = {}
        self._anonymous = anonymous
        self._token = False if anonymous else None  # None: the token of this machine, where there is one
        self._cache = cache
        self._here: dict[tuple[Source, tuple[str, ...]], Path] = {}  # what has been fetched, so that it is asked once

    def file(self, source: Source) -> Path:
        """Return the path of one file, fetched where it is not here yet.

        Raises:
            DitError: the hub does not give it. That a path on this disk is not there shows when it is read.
        """
        if isinstance(source, Path):
            return source
        if (here := self._here.get((source, ()))) and here.is_file():
            return here
        from huggingface_hub import hf_hub_download

        with self._errors_of(source), progress_bar_class(str(source)) as bar:
            path = Path(
                hf_hub_download(
                    source.repo,
                    source.path,
                    revision=self._revision(source),
                    tqdm_class=bar,
                    token=self._token,
                    cache_dir=self._cache,
                )
            )
        snapshot = path
        for _ in source.path.split("/"):
            snapshot = snapshot.parent
        self._keep_commit(source, snapshot)
        self._here[source, ()] = path
        return path

    def folder(self, source: BaseSource, patterns: Sequence[str]) -> Path:
        """Return the path of a folder with all files of these patterns, fetched where they are not here yet.

        Raises:
            NoMatchingFiles: the folder holds none of them.
            DitError: the hub does not give it.
        """
        if isinstance(source, Path):
            return source
        if isinstance(source, PackagedBase):
            self.revisions[str(source)] = source.version
            return fetch_packaged_base(source)
        if (here := self._here.get((source, tuple(patterns)))) and _any_match(here, patterns):
            return here
        from huggingface_hub import snapshot_download

        with self._errors_of(source), progress_bar_class(str(source)) as bar:
            snapshot = snapshot_download(
                source.repo,
                revision=self._revision(source),
                allow_patterns=_inside(source, patterns),
                tqdm_class=bar,
                token=self._token,
                cache_dir=self._cache,
            )
        self._keep_commit(source, Path(snapshot))
        folder = Path(snapshot) / source.path
        if not _any_match(folder, patterns):
            raise NoMatchingFiles(
                f"'{source}' holds none of the files that are needed ({', '.join(patterns)}): check the name."
            )
        self._here[source, tuple(patterns)] = folder
        return folder

    def size(self, source: BaseSource, patterns: Sequence[str]) -> Size:
        """Return how large the files of these patterns in a folder are; nothing is fetched."""
        if isinstance(source, Path):
            return Size(_bytes(source, patterns), 0)
        if isinstance(source, PackagedBase):
            missing = 0 if source.is_here else source.wheel_bytes
            return Size(missing or _bytes(source.folder, patterns), missing)
        from huggingface_hub import snapshot_download

        wanted, revision = _inside(source, patterns), self._revision(source)
        with self._errors_of(source):
            try:
                snapshot = snapshot_download(
                    source.repo,
                    revision=revision,
                    allow_patterns=wanted,
                    local_files_only=True,
                    token=self._token,
                    cache_dir=self._cache,
                )
                if any((Path(snapshot) / source.path).glob("config.json")):
                    return Size(_bytes(Path(snapshot) / source.path, patterns), 0)
            except OSError:  # not all of it is here
                pass
            with progress_bar_class(str(source), silent=True) as bar:
                files = snapshot_download(
                    source.repo,
                    revision=revision,
                    allow_patterns=wanted,
                    dry_run=True,
                    tqdm_class=bar,
                    token=self._token,
                    cache_dir=self._cache,
                )
        sizes = [(file.file_size or 0, file.will_download) for file in files]
        return Size(sum(size for size, _ in sizes), sum(size for size, missing in sizes if missing))

    def file_size(self, source: Source) -> Size:
        """Return how large one file is; nothing is fetched."""
        if isinstance(source, Path):
            return Size(source.stat().st_size if source.is_file() else 0, 0)
        from huggingface_hub import hf_hub_download, try_to_load_from_cache

        revision = self._revision(source)
        with self._errors_of(source):
            here = try_to_load_from_cache(source.repo, source.path, self._cache, revision=revision)
            if isinstance(here, str):
                return Size(Path(here).stat().st_size, 0)
            file = hf_hub_download(
                source.repo, source.path, revision=revision, dry_run=True, token=self._token, cache_dir=self._cache
            )
        return Size(file.file_size or 0, (file.file_size or 0) if file.will_download else 0)

    def commit(self, source: HubPath) -> str | None:
        """Return the commit that a repository was first seen at; None where nothing of it was fetched yet."""
        return self.revisions.get(_key(source))

    def _revision(self, source: HubPath) -> str | None:
        return self.commit(source) or source.revision

    def _keep_commit(self, source: HubPath, snapshot: Path) -> None:
        if _COMMIT.fullmatch(snapshot.name):
            self.revisions.setdefault(_key(source), snapshot.name)

    @contextmanager
    def _errors_of(self, source: HubPath) -> Iterator[None]:
        """Turns whatever the client raises into one sentence that says what to do."""
        try:
            yield
        except DitError:
            raise
        except Exception as error:  # the client raises kinds of its own, its HTTP library's, and the system's
            reason = _reason(source, error, self._anonymous)
            raise DitError(f"'{source}' can't be had from the hub: {reason}") from error


def anonymous_fetcher() -> Fetcher:
    """Return a fetcher of what is public alone, for what a visitor names; its files go when it goes."""
    folder = tempfile.mkdtemp(prefix="dit-stranger-")
    fetcher = Fetcher(anonymous=True, cache=folder)
    weakref.finalize(fetcher, shutil.rmtree, folder, ignore_errors=True)
    return fetcher


def _key(source: HubPath) -> str:
    return f"{source.repo}@{source.revision}" if source.revision else source.repo


def _inside(source: HubPath, patterns: Sequence[str]) -> list[str]:
    return [f"{source.path}/{pattern}" if source.path else pattern for pattern in patterns]


def _any_match(folder: Path, patterns: Sequence[str]) -> bool:
    return folder.is_dir() and any(path for pattern in patterns for path in folder.glob(pattern))


def _bytes(folder: Path, patterns: Sequence[str]) -> int:
    files = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sum(path.stat().st_size for path in files)


def _reason(source: HubPath, error: BaseException, anonymous: bool) -> str:
    """Why the hub does not give it, and what to do; who is anonymous can't log in."""
    from huggingface_hub import constants, errors

    chain = _chain(error)
    codes = {getattr(getattr(link, "response", None), "status_code", None) for link in chain}

    def has(*kinds: type) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if anonymous and has(errors.RepositoryNotFoundError):  # which a gated one is too
        return "it is not there, gated or private, which this server does not open: check it, or upload the files."
    if has(errors.GatedRepoError):
        return (
            f"it is gated: accept the terms at {constants.ENDPOINT}/{source.repo}, then log in with `hf auth login` or "
            "set HF_TOKEN."
        )
    if has(errors.RevisionNotFoundError):
        return f"'{source.repo}' has no revision '{source.revision or 'main'}': check it."
    if has(errors.RepositoryNotFoundError):
        return f"'{source.repo}' is not there, or private: check the name, or log in with `hf auth login` or HF_TOKEN."
    if has(errors.RemoteEntryNotFoundError):
        return f"'{source.repo}' has no file '{source.path}': check the name and the revision."
    if codes & {401, 403}:
        return "your token is refused: check HF_TOKEN, or log in anew with `hf auth login`."
    if any(isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT) for link in chain):
        return f"the disk of '{constants.HF_HUB_CACHE}' is full: make room, or set HF_HOME to a larger one."
    if constants.is_offline_mode():
        return (
            "there is no folder of that name here, it was not fetched before, and HF_HUB_OFFLINE is set: unset that "
            "once, with a network."
        )
    if has(errors.LocalEntryNotFoundError, ConnectionError, TimeoutError) or _of_transport(chain):
        return f"{constants.ENDPOINT} does not answer: check the network and try again; whole files that came are kept."
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"check its name and the network ({reason})."


def _of_transport(chain: Sequence[BaseException]) -> bool:
    """Whether the HTTP library itself failed, whichever it is, or fewer bytes came than were announced."""
    kinds = {kind.__name__ for link in chain for kind in type(link).__mro__}
    return bool(kinds & {"TransportError", "FileMetadataError"}) or any("Consistency check" in str(e) for e in chain)


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
