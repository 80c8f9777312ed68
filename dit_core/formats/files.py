"""Reading and writing files so that every fault is one sentence and no half-written file is ever seen."""

import json
import os
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
    """Opens a zip, whose directory Python reads whole and keeps at ten times its size; Wrong for a larger one."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _ENDING))
        tail = file.read()
    # As Python finds it: at the very end where there is no comment, else the last one before.
    plain = tail[-22:-18] == b"PK\5\6" and tail.endswith(b"\0\0")
    at = len(tail) - 22 if plain else tail.rfind(b"PK\5\6")
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    if tail[max(0, at - 20) : at].startswith(b"PK\6\7"):  # its large form stands before
        size = int.from_bytes(tail[max(0, at - 36) : max(0, at - 28)], "little")
    if at >= 0 and size > most_directory:
        raise Wrong(f"its directory of {size >> 20:,} MB names more members than any adapter has")
    return zipfile.ZipFile(path)


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
