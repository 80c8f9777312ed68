"""Torch's own files (`.pt`, `.bin`), opened so that nothing in them runs and only what is asked for is read.

Such a file is a zip around a pickle. `weights_only=True` already runs no code of the file's; here even fewer names are
let through, for some that torch allows can be made to fill the memory.
"""

import pickletools
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from dit_core.formats.files import Wrong

_TENSORS = (
    r"collections\.OrderedDict|torch\.Size|torch\.\w+Storage|torch\.(?:\w*int\w*|b?float\w*)"
    r"|torch\._utils\._rebuild_(?:tensor_v2|parameter)"
)
_HARMLESS = re.compile(_TENSORS)
# How a pickle names a function: the letter c, module, newline, name, newline. Names of other letters torch refuses.
_TWO_LINES = re.compile(rb"(c[\w.]{1,200})\n(?=([\w.]{1,100})\n)")
_HARMLESS_LINES = re.compile(rf"c(?:{_TENSORS})\Z")


def load(path: Path) -> Any:
    """The objects in a file, their tensors mapped and not read.

    Raises Wrong for what isn't torch's zip format, for packed members (a small file could fill the memory), and for a
    pickle that asks for anything but tensors, with the name of the first thing that it would run.
    """
    content = _pickled(path)
    # The lines alone are found at once in a large pickle; they can also be a text's, and then a closer look tells.
    named = {b".".join(match.groups()).decode() for match in _TWO_LINES.finditer(content)}
    if not all(map(_HARMLESS_LINES.search, named)):
        _refuse_names(content)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:
        _refuse_names(content)
        raise


def _pickled(path: Path) -> bytes:
    """The pickle in a file of torch's, when what is around it is as torch writes it."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            _refuse_names(file.read(1 << 20))
        raise Wrong("it is not a zip as torch writes them; get it anew, or save it with a torch of this decade")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise Wrong("it holds packed members, which torch never writes")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise Wrong("its members overlap")
        pickled = [member for member in members if member.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickled) != 1:
            raise Wrong("it is a zip, and not one that torch wrote")
        return archive.read(pickled[0])


def _refuse_names(content: bytes) -> None:
    """Raises Wrong where a pickle names anything but tensors; parsed as far as it can be, and never run."""
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(content):
            name = None
            if opcode.name in ("GLOBAL", "INST"):
                name = argument.replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL":
                name = ".".join(texts[-2:])
            elif isinstance(argument, str):
                texts = [*texts[-1:], argument]
            if name is not None and not _HARMLESS.fullmatch(name):
                raise _would_run(name)
    except ValueError:  # damaged, or cut off: it names nothing more
        return


def _would_run(name: str) -> Wrong:
    return Wrong(f"it would run {name[:100]!r}, and no file may run anything here")
