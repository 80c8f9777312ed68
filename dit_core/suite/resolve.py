"""An adapter or a diff wherever it is: a file or folder on this disk, or a file, LoRA or checkpoint on the hub."""

from pathlib import Path, PurePosixPath

from dit_core.errors import DitError
from dit_core.formats import Adapter, identify, read_dit_adapter, read_peft
from dit_core.hub import ADAPTER_FILES, Fetcher, HubPath, NoMatchingFiles, Size, Source

CHECKPOINT_FILES = ("*.json", "model*.safetensors")


def any_adapter(where: Source, fetcher: Fetcher) -> Adapter:
    """A DIT adapter: a file in the published layout, or a PEFT folder; DitError for anything else."""
    path = adapter_path(where, fetcher)
    return read_dit_adapter(path) if _is_file(where) else read_peft(path)


def adapter_path(where: Source, fetcher: Fetcher) -> Path:
    """Where the files of an adapter are on this disk, fetched as far as they are not here yet."""
    if _is_file(where):
        return fetcher.file(where)
    if isinstance(where, Path) and not where.exists():
        raise DitError(f"There is no folder '{where}': give a PEFT adapter's folder, or a hub id like 'owner/name'.")
    return fetcher.folder(where, ADAPTER_FILES)


def any_diff(where: Source, fetcher: Fetcher) -> Adapter:
    """A diff of any kind: a PEFT folder, whole weights, or the first diff of a published file."""
    return identify(diff_path(where, fetcher)).read(0).adapter


def diff_path(where: Source, fetcher: Fetcher) -> Path:
    """Where the files of a diff of any kind are on this disk, fetched as far as they are not here yet."""
    if isinstance(where, Path):
        return where
    if _is_file(where):
        return fetcher.file(where)
    try:
        return fetcher.folder(where, ADAPTER_FILES)
    except NoMatchingFiles:
        return fetcher.folder(where, CHECKPOINT_FILES)


def size(where: Source, fetcher: Fetcher) -> Size:
    """How large the files of an adapter or a diff of any kind are; nothing is fetched."""
    if _is_file(where):
        return fetcher.file_size(where)
    found = fetcher.size(where, ADAPTER_FILES)
    return found if found.total else fetcher.size(where, CHECKPOINT_FILES)


def _is_file(where: Source) -> bool:
    path = PurePosixPath(where.path) if isinstance(where, HubPath) else where
    return path.suffix in (".pt", ".safetensors", ".bin") and not (isinstance(where, Path) and where.is_dir())
