"""Reading and writing files so that every fault is one sentence and no half-written file is ever seen.

Among them zips from strangers, unpacked into a folder and nowhere else, never larger than they say or may be.
"""

import json
import os
import shutil
import stat
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from dit_core.errors import DitError

MAX_DIRECTORY = 32 << 20  # bytes of a zip's directory: that of the largest published file has 10 MB
MAX_JSON = 16 << 20  # bytes: the index of the largest sharded models has about 1 MB
MAX_MEMBERS = 2000  # of a zip to be unpacked, as all that follow
MAX_MEMBERS_DIRECTORY = 1 << 20  # bytes
MAX_RATIO = 20  # weights hardly pack; a file that grows more than this is no adapter
FREE_BYTES = 1 << 20  # that small texts may grow to, whatever their ratio
_PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENDING = 22 + 65535 + 20 + 56  # bytes from the end in which a zip says how large its directory is


class FormatError(Exception):
    """What is wrong with a file's content; `reading` makes it a whole sentence."""


@contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Turn whatever goes wrong while a file is read into one sentence for the user: 'PATH can't be used as WHAT'."""
    try:
        yield
    except DitError:
        raise
    except FileNotFoundError as error:
        raise DitError(f"'{error.filename or path}' was not found: check the path to {what}.") from error
    except FormatError as error:
        raise DitError(f"'{path}' can't be used as {what}: {error}.") from None
    # Foreign pickles and broken archives raise anything from KeyError to RuntimeError.
    except Exception as error:
        raise DitError(f"'{path}' can't be read as {what}: it is corrupt or something else; get it anew.") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; FormatError for no object, or one too large for what such files hold."""
    if path.stat().st_size > MAX_JSON:
        raise FormatError(f"{path.name} is larger than {MAX_JSON >> 20} MB")
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise FormatError(f"{path.name} holds no JSON object")
    return found


def open_zip(path: Path, most_directory: int = MAX_DIRECTORY) -> zipfile.ZipFile:
    """Open a zip whose directory all readers find in one place; FormatError for another, and for a very large one.

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
            raise FormatError(f"its directory of {size >> 20:,} MB names more members than any adapter has")
        if start + size != end:
            raise FormatError("its directory is not where it says")
    return zipfile.ZipFile(path)


def _directory(tail: bytes, at: int, before: int) -> tuple[int, int, int]:
    """Size, stated start and end of a zip's directory; `at` is its end record in `tail`, behind `before` bytes."""
    if at < 76 or not tail[at - 20 : at].startswith(b"PK\6\7"):
        return *struct.unpack("<II", tail[at + 12 : at + 20]), before + at
    record, (place,) = tail[at - 76 : at - 20], struct.unpack("<Q", tail[at - 12 : at - 4])
    if record[:12] != b"PK\6\6" + struct.pack("<Q", 44) or place != before + at - 76:
        raise FormatError("its directory is not where it says")
    return *struct.unpack("<QQ", record[40:]), place


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary file that takes the place of `path` when all went well: readers never see half a file."""
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


def unpack(archive: Path | str, folder: Path | str, most_bytes: int = 2 << 30) -> Path:
    """Unpack a zip, and return the folder that holds its content.

    That is `folder` itself, or the one folder that everything in the zip lies in. All names and sizes are checked
    before anything is written, and the bytes are counted while they are; what was written goes away when anything is
    wrong.

    Args:
        archive: the zip.
        folder: where to, empty or not there.
        most_bytes: how large the content may be, unpacked.

    Raises:
        DitError: a member lies outside the folder (absolute, `..`, a drive), is a link or anything else than a plain
            file, or is there twice; there are too many, they take more than `most_bytes` or the disk's free space; or
            the zip grows implausibly.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise DitError(f"'{folder}' is not empty: name a new folder to unpack into.")
    with reading(archive, "a zip of an adapter"), open_zip(archive, MAX_MEMBERS_DIRECTORY) as opened_zip:
        members = [member for member in opened_zip.infolist() if not member.is_dir()]
        paths = _checked_paths(opened_zip.infolist())
        _check_sizes(members, archive.stat().st_size, most_bytes)
        folder.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder).free) < sum(member.file_size for member in members):
            raise FormatError(f"it needs more than the {free >> 20} MB that are free on the disk")
        try:
            for member in members:
                _extract(opened_zip, member, folder / paths[member.filename])
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _checked_paths(members: list[zipfile.ZipInfo]) -> dict[str, PurePosixPath]:
    """Where each member goes, by its name in the zip."""
    if not members or len(members) > MAX_MEMBERS:
        raise FormatError(f"it has {len(members)} members, and 1 to {MAX_MEMBERS} are expected")
    paths, seen = {}, set()
    for member in members:
        # `orig_filename` is as the zip has it; Python cuts `filename` at a zero byte.
        name, path = member.orig_filename, PurePosixPath(member.orig_filename)
        if (
            not name.isprintable()
            or path.is_absolute()
            or ".." in path.parts
            or set(name) & set("\\:")
            or not path.parts
        ):
            raise FormatError(f"its member {name[:60]!r} points out of the folder")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > member.is_dir():
            raise FormatError(f"its member {name[:60]!r} is a link or no plain file")
        if str(path).casefold() in seen:
            raise FormatError(f"its member {name[:60]!r} is there twice")
        seen.add(str(path).casefold())
        if member.flag_bits & 1 or member.compress_type not in _PACKING:
            raise FormatError(f"its member {name[:60]!r} is encrypted or packed in an unusual way")
        paths[member.filename] = path
    return paths


def _check_sizes(members: list[zipfile.ZipInfo], packed: int, most_bytes: int) -> None:
    total = sum(member.file_size for member in members)
    if total > most_bytes:
        raise FormatError(f"it unpacks to {total >> 20:,} MB, and {most_bytes >> 20:,} MB are the most")
    if total > FREE_BYTES + MAX_RATIO * packed:
        raise FormatError(f"{packed:,} bytes would unpack to {total:,}, which is no adapter")


def _extract(opened_zip: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    # "x": never over a file, nor through a link, that is there already.
    with opened_zip.open(member) as source, target.open("xb") as out:
        while block := source.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise FormatError(f"its member {member.filename[:60]!r} is larger than it says")
            out.write(block)
