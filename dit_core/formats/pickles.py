"""Torch's own files (`.pt`, `.bin`), opened so that nothing in them runs and only what is asked for is read.

Such a file is a zip around a pickle, which is looked through before torch opens it with `weights_only=True`.
"""

import gc
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dit_core.formats.files import Wrong, zipped
from dit_core.formats.opcodes import check, refuse_names

MAX_PICKLE = 64 << 20  # bytes: that of the largest published file has 12 MB


def load(path: Path) -> Any:
    """The objects in a file, their tensors mapped and not read.

    Raises Wrong for what isn't torch's zip format, for packed members (a small file could fill the memory), and for a
    pickle that asks for anything but tensors, with the name of the first thing that it would run.
    """
    check(_pickled(path))
    with _without_collections():
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Keeps Python from looking for garbage again and again, which takes an eighth of the time of a large file."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _pickled(path: Path) -> bytes:
    """The pickle in a file of torch's, when what is around it is as torch writes it."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            refuse_names(file.read(1 << 20))
        raise Wrong("it is not a zip as torch writes them; get it anew, or save it with a torch of this decade")
    with zipped(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise Wrong("it holds packed members, which torch never writes")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise Wrong("its members overlap")
        # As torch looks for it: in the names that stand in the directory, whatever their case.
        pickled = [one for one in members if one.orig_filename.lower().rpartition("/")[2] == "data.pkl"]
        if len(pickled) != 1:
            raise Wrong("it is a zip, and not one that torch wrote")
        if pickled[0].file_size > MAX_PICKLE:
            raise Wrong(f"its pickle is larger than {MAX_PICKLE >> 20} MB")
        return archive.read(pickled[0])
