"""A zip from a stranger, unpacked into a folder and nowhere else, never larger than it says or may be."""

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from dit_core.errors import DitError
from dit_core.formats.files import Wrong, reading, zipped

MAX_MEMBERS = 2000
MAX_DIRECTORY = 1 << 20  # bytes
MAX_RATIO = 20  # weights hardly pack; a file that grows more than this is no adapter
FREE = 1 << 20  # bytes that small texts may grow to, whatever their ratio
_PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def unpack(archive: Path | str, folder: Path | str, most_bytes: int = 2 << 30) -> Path:
    """Unpacks a zip into `folder`, which must be empty or not there; returns the folder that holds its content.

    That is `folder` itself, or the one folder that everything in the zip lies in. All names and sizes are checked
    before anything is written, and the bytes are counted while they are; what was written goes away when anything is
    wrong.

    Raises DitError for a member outside the folder (absolute, `..`, a drive), a link or anything else than a plain
    file, a name that is there twice, too many members, more than `most_bytes` or the disk's free space, and a zip that
    grows implausibly.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise DitError(f"'{folder}' is not empty: name a new folder to unpack into.")
    with reading(archive, "a zip of an adapter"), zipped(archive, MAX_DIRECTORY) as opened_zip:
        members = [member for member in opened_zip.infolist() if not member.is_dir()]
        paths = _checked_paths(opened_zip.infolist())
        _check_sizes(members, archive.stat().st_size, most_bytes)
        folder.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder).free) < sum(member.file_size for member in members):
            raise Wrong(f"it needs more than the {free >> 20} MB that are free on the disk")
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
        raise Wrong(f"it has {len(members)} members, and 1 to {MAX_MEMBERS} are expected")
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
            raise Wrong(f"its member {name[:60]!r} points out of the folder")
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > member.is_dir():
            raise Wrong(f"its member {name[:60]!r} is a link or no plain file")
        if str(path).casefold() in seen:
            raise Wrong(f"its member {name[:60]!r} is there twice")
        seen.add(str(path).casefold())
        if member.flag_bits & 1 or member.compress_type not in _PACKING:
            raise Wrong(f"its member {name[:60]!r} is encrypted or packed in an unusual way")
        paths[member.filename] = path
    return paths


def _check_sizes(members: list[zipfile.ZipInfo], packed: int, most_bytes: int) -> None:
    total = sum(member.file_size for member in members)
    if total > most_bytes:
        raise Wrong(f"it unpacks to {total >> 20:,} MB, and {most_bytes >> 20:,} MB are the most")
    if total > FREE + MAX_RATIO * packed:
        raise Wrong(f"{packed:,} bytes would unpack to {total:,}, which is no adapter")


def _extract(opened_zip: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    # "x": never over a file, nor through a link, that is there already.
    with opened_zip.open(member) as source, target.open("xb") as out:
        while block := source.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise Wrong(f"its member {member.filename[:60]!r} is larger than it says")
            out.write(block)
