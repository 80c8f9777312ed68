"""The content of the hub client's cache on this disk, and how to delete from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dit_core.errors import DitError, did_you_mean

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo, HFCacheInfo


@dataclass(frozen=True)
class CachedRepository:
    """One repository in the cache: its size in bytes, its commits, and the day when it was last used."""

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
    return sorted(found, key=lambda repo: (-repo.size, repo.repo))


def delete_repositories(names: Sequence[str]) -> int:
    """Delete repositories from the cache, and return how many bytes that freed.

    Raises:
        DitError: one is not there; then nothing is deleted.
    """
    there = {repo.repo_id: repo for repo in _models()}
    for name in names:
        if name not in there:
            raise DitError(
                f"The cache holds no '{name}'.{did_you_mean(name, there)} `dit_core cache` lists what it has."
            )
    commits = [revision.commit_hash for name in names for revision in there[name].revisions]
    plan = _scan().delete_revisions(*commits)
    plan.execute()
    return plan.expected_freed_size


def _models() -> list[CachedRepoInfo]:
    from huggingface_hub.errors import CacheNotFound

    try:
        return [repo for repo in _scan().repos if repo.repo_type == "model"]
    except CacheNotFound:
        return []


def _scan() -> HFCacheInfo:
    from huggingface_hub import constants, scan_cache_dir

    # The folder that downloads go to now: the client's own default is the one that was set when it was imported.
    return scan_cache_dir(constants.HF_HUB_CACHE)
