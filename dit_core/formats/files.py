"""Reading and writing files so that every fault is one sentence and no half-written file is ever seen."""

import json
import os
import struct
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dit_core.errors import DitError

MAX_DIRECTORY = 32 << 20  # bytes of a zip's directory: that of the largest published file has 10 MB
MAX_JSON = 16 << 20  # bytes: the index of the largest sharded models has about 1 MB
_ENDING = 22 + 65535 + 20 + 56  # bytes from the end in which a zip says how large its directory is


class Wrong(Exception):
    """What is wrong with a file's content; `reading` makes it a whole sentence."""


@contextmanager
def reading(path: Path, what: str):
    """Whatever goes wrong while a file is read becomes one sentence for the user."""
    try:
        yield
    except DitError:
        raise
    except FileNotFoundError as error:
        raise DitError(f"'{error.filename or path}' was not found: check the path to {what}.") from error
    except Wrong as error:
        raise DitError(f"'{path}' can't be used as {what}: {error}.") from None
    # Foreign pickles and broken archives raise anything from KeyError to RuntimeError.
    except Exception as error:
        raise DitError(f"'{path}' can't be read as {what}: it is corrupt or something else; get it anew.") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; Wrong for one that is no object, or too large for what such files hold."""
    if path.stat().st_size > MAX_JSON:
        raise Wrong(f"{path.name} is larger than {MAX_JSON >> 20} MB")
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise Wrong(f"{path.name} holds no JSON object")
    return found


def zipped(path: Path, most_directory: int = MAX_DIRECTORY) -> zipfile.ZipFile:
    """Opens a zip whose directory all readers find in one place; Wrong for another, and for a very large one.

    Python goes back from the end by the directory's size, torch goes where the file says that it begins: to each, a
    file could show another one. Python keeps what it reads at ten times its size.
    """
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - _ENDING))
        tail = file.read()
    # As Python finds it: at the very end where there is no comment, else the last one before.
    plain = tail[-22:-18] == b"PK\5\6" and tail.endswith(b"\0\0")
    at = len(tail) - 22 if plain else tail.rfind(b"PK\5\6")
    if 0 <= at <= len(tail) - 22:
        size, start, end = _directory(tail, at, length - len(tail))
        if size > most_directory:
            raise Wrong(f"its directory of {size >> 20:,} MB names more members than any adapter has")
        if start + size != end:
            raise Wrong("its directory is not where it says")
    return zipfile.ZipFile(path)


def _directory(tail: bytes, at: int, before: int) -> tuple[int, int, int]:
    """Size, stated start and end of a zip's directory; `at` is its end record in `tail`, behind `before` bytes."""
    if at < 76 or not tail[at - 20 : at].startswith(b"PK\6\7"):
        return *struct.unpack("<II", tail[at + 12 : at + 20]), before + at
    record, (place,) = tail[at - 76 : at - 20], struct.unpack("<Q", tail[at - 12 : at - 4])
    if record[:12] != b"PK\6\6" + struct.pack("<Q", 44) or place != before + at - 76:
        raise Wrong("its directory is not where it says")
    return *struct.unpack("<QQ", record[40:]), place


@contextmanager
def written(path: Path):
    """A temporary file that takes the place of `path` when all went well: readers never see half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    try:
        yield Path(name)
        # mkstemp makes files for their owner only; artefacts are for everyone who may read the folder.
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
