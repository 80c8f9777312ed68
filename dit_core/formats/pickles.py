"""Torch's own files (`.pt`, `.bin`), opened so that nothing in them runs and only what is asked for is read.

Such a file is a zip around a pickle. torch's `weights_only=True` runs no code of a file's, yet builds whatever it says:
a tuple of twice the same tuple, forty deep, is a few hundred bytes that can't be hashed in a lifetime. So what a pickle
would build is told from its opcodes first. Adapters and checkpoints name the types of tensors, are not deep, and have
no list, tuple or dict in two places.
"""

import gc
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dit_core.formats.files import FormatError, open_zip

MAX_PICKLE = 64 << 20  # bytes: that of the largest published file has 12 MB
_REBUILD = r"torch\._utils\._rebuild_(?:tensor_v2|parameter)"
_HARMLESS = re.compile(
    rf"collections\.OrderedDict|torch\.Size|torch\.\w+Storage|torch\.(?:\w*int\w*|b?float\w*)|{_REBUILD}"
)
_TENSOR = re.compile(_REBUILD)
_DEEPEST = 16  # a published file has four levels
_WIDEST = 10_000  # values that wait to be put somewhere: pickles put them by the thousand
_CONTAINERS = 100_000, 8  # so many lists, tuples and dicts, and one more for so many bytes

_INT = rb"(?:K.|M..|J.{4})"
_GET, _PUT = rb"(h.|j.{4})", rb"r(.{4})"
_SIZE = b"(?:" + b"|".join(_INT * n + end for n, end in ((1, b"\x85"), (2, b"\x86"), (3, b"\x87"))) + b")"
_KEY = b"X(?:" + b"|".join(bytes([n]) + rb"\x00\x00\x00" + rb"\d" * n for n in range(1, 8)) + b")"
# A tensor as torch writes all but the first few: rebuild(storage, offset, size, stride, False, OrderedDict()). Taken at
# once, as a large file has a hundred thousand. A storage's key is put once; further views and tied weights get it.
_WHOLE = (
    _GET
    + rb"\(\("
    + _GET * 2
    + (b"(?:" + _KEY + _PUT + b"|" + _GET + b")" + _GET + _INT + b"t" + _PUT + b"Q")
    + (_INT + _SIZE + _PUT + _SIZE + _PUT + rb"[\x88\x89]")
    + (_GET + rb"\)R" + _PUT + b"t" + _PUT + b"R" + _PUT)
)
_TOKEN = re.compile(
    rb"(?P<tensor>" + _WHOLE + rb")"
    rb"|(?P<put>q.|r.{4})|(?P<get>h.|j.{4})"
    rb"|(?P<text>X.{4}|[U\x8a].)|(?P<plain>" + _INT + rb"|G.{8}|[N\x88\x89])"
    rb"|(?P<name>c[\w.]{1,200}\n[\w.]{1,100}\n)"
    rb"|(?P<act>[(tQR\x81\x85\x86\x87)\]}aesub])|(?P<start>\x80.)|(?P<end>\.)",
    re.DOTALL,
)
_PUT_KEY, _GOT_KEY = 5, 6  # a whole tensor's groups: the storage's key, as it is put or got
_READS, _WRITES = (2, 3, 4, 7, 11), (8, 9, 10, 12, 13, 14)  # what else it gets, what else it puts


def load_torch_file(path: Path) -> Any:
    """Return the objects in a file, their tensors mapped and not read.

    Raises:
        FormatError: it isn't torch's zip format, has packed members (a small file could fill the memory), or its pickle
            asks for anything but tensors: then the first thing that it would run is named.
    """
    check_pickle(_pickled(path))
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
    """Return the pickle in a file of torch's, where what is around it is as torch writes it."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            refuse_names(file.read(1 << 20))
        raise FormatError("it is not a zip as torch writes them; get it anew, or save it with a torch of this decade")
    with open_zip(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise FormatError("it holds packed members, which torch never writes")
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise FormatError("its members overlap")
        # As torch looks for it: in the names that stand in the directory, whatever their case.
        pickled = [member for member in members if member.orig_filename.lower().rpartition("/")[2] == "data.pkl"]
        if len(pickled) != 1:
            raise FormatError("it is a zip, and not one that torch wrote")
        if pickled[0].file_size > MAX_PICKLE:
            raise FormatError(f"its pickle is larger than {MAX_PICKLE >> 20} MB")
        return archive.read(pickled[0])


def check_pickle(pickle: bytes) -> None:
    """Raise FormatError for a pickle that asks for more than tensors in plain containers, or that is damaged."""
    machine, at, length = _Machine(_CONTAINERS[0] + len(pickle) // _CONTAINERS[1]), 0, len(pickle)
    try:
        while match := _TOKEN.match(pickle, at):
            at, kind = match.end(), str(match.lastgroup)
            if kind == "text":
                head = match[0]
                at += head[1] if len(head) == 2 else int.from_bytes(head[1:], "little")
                machine.push(0)
            elif kind == "end":
                return
            elif kind != "start":
                _STEPS[kind](machine, match)
            if at > length:
                break
    except (IndexError, KeyError):  # what is taken was never put there
        pass
    refuse_names(pickle)
    raise FormatError("it is damaged, or no pickle of tensors; get it anew")


class _Machine:
    """Runs a pickle with all values left out but one: how deep each is (0: it holds nothing), or the name it is.

    It stops at `left` containers.
    """

    def __init__(self, left: int) -> None:
        self.left, self.waiting = left, 0  # values and marks on all stacks
        self.stack: list[int | str] = []
        self.below: list[list[int | str]] = []  # the stacks under the open marks
        self.memo: dict[int, int | str] = {}
        self.newest = -1
        self.known: set[tuple[bytes, ...]] = set()  # what whole tensors got, where that was right

    def push(self, value: int | str) -> None:
        self.stack.append(value)
        self._grow()

    def hold(self, depth: int) -> None:
        """A new list, tuple or dict."""
        self.left -= 1
        if self.left < 0:
            raise FormatError("it holds more lists, tuples and dicts than any adapter")
        self.push(depth)

    def name(self, match: re.Match[bytes]) -> None:
        name = match[0][1:-1].replace(b"\n", b".").decode("ascii", "replace")
        if not _HARMLESS.fullmatch(name):
            raise _would_run(name)
        self.push(name)

    def put(self, match: re.Match[bytes]) -> None:
        self._remember((_number(match[0]),), self.stack[-1])

    def get(self, match: re.Match[bytes]) -> None:
        value = self.memo[_number(match[0])]
        if value and not isinstance(value, str):
            raise FormatError("it has one list, tuple or dict in several places; save it anew with copies")
        self.push(value)

    def tensor(self, match: re.Match[bytes]) -> None:
        got = match.group(*_READS)
        if got not in self.known:
            rebuild, storage, kind, device, hooks = (self.memo[_number(token)] for token in got)
            if not (rebuild == "torch._utils._rebuild_tensor_v2" and hooks == "collections.OrderedDict"):
                raise KeyError(rebuild)
            if storage or device or not str(kind).endswith("Storage"):
                raise KeyError(kind)
            self.known.add(got)
        if key := match[_PUT_KEY]:
            self._remember(struct.unpack("<I", key), 0)
        elif self.memo[_number(match[_GOT_KEY])] != 0:  # a name
            raise KeyError(key)
        self._remember(struct.unpack("<6I", b"".join(match.group(*_WRITES))), 0)
        self.push(0)

    def act(self, match: re.Match[bytes]) -> None:
        _ACTS[match[0]](self)

    def mark(self) -> None:
        self.below.append(self.stack)
        self._grow()
        self.stack = []

    def contain(self, count: int | None) -> None:
        """A tuple of the last `count`, or of all since the mark."""
        inside = self._taken(count)
        self.hold(_deeper(0, inside))

    def add(self, count: int | None) -> None:
        """Puts the last `count`, or all since the mark, into the container below."""
        inside = self._taken(count)
        if not isinstance(self.stack[-1], int) or not self.stack[-1]:
            raise KeyError("nothing that holds anything")
        self.stack[-1] = _deeper(self.stack[-1], inside)

    def reduce(self) -> None:
        name, arguments = self._taken(2)
        if not isinstance(name, str):
            raise KeyError(name)
        if _TENSOR.fullmatch(name):
            self.push(0)
        else:
            self.hold(_deeper(0, [arguments]))

    def refer(self) -> None:
        """A storage, by the tuple that says which."""
        self._taken(1)
        self.push(0)

    def _grow(self) -> None:
        self.waiting += 1
        if self.waiting > _WIDEST:
            raise FormatError("it piles up more than any pickle of tensors")

    def _taken(self, count: int | None) -> list[int | str]:
        if count is None:
            inside, self.stack = self.stack, self.below.pop()
            self.waiting -= 1  # the mark
        elif len(self.stack) < count:
            raise IndexError(count)
        else:
            inside = self.stack[len(self.stack) - count :]
            del self.stack[len(self.stack) - count :]
        self.waiting -= len(inside)
        return inside

    def _remember(self, numbers: tuple[int, ...], value: int | str) -> None:
        """Only the last of `numbers` can be got again. Pickles count upwards: nothing is ever replaced."""
        for number in numbers:
            if number <= self.newest:
                raise FormatError("it names two things alike, as no pickle of tensors does; get it anew")
            self.newest = number
        self.memo[number] = value


_STEPS: dict[str, Callable[[_Machine, re.Match[bytes]], None]] = {
    "tensor": _Machine.tensor,
    "put": _Machine.put,
    "get": _Machine.get,
    "plain": lambda machine, _: machine.push(0),
    "name": _Machine.name,
    "act": _Machine.act,
}
_ACTS: dict[bytes, Callable[[_Machine], None]] = {
    b"(": _Machine.mark,
    b")": lambda machine: machine.contain(0),
    b"\x85": lambda machine: machine.contain(1),
    b"\x86": lambda machine: machine.contain(2),
    b"\x87": lambda machine: machine.contain(3),
    b"t": lambda machine: machine.contain(None),
    b"]": lambda machine: machine.hold(1),
    b"}": lambda machine: machine.hold(1),
    b"a": lambda machine: machine.add(1),
    b"b": lambda machine: machine.add(1),
    b"s": lambda machine: machine.add(2),
    b"e": lambda machine: machine.add(None),
    b"u": lambda machine: machine.add(None),
    b"R": _Machine.reduce,
    b"\x81": _Machine.reduce,
    b"Q": _Machine.refer,
}


def _number(token: bytes) -> int:
    return int.from_bytes(token[1:], "little")


def _deeper(own: int, inside: list[int | str]) -> int:
    depth = max(own, 1 + max((value for value in inside if isinstance(value, int)), default=0))
    if depth > _DEEPEST:
        raise FormatError(f"it is nested more than {_DEEPEST} levels deep, as no adapter is")
    return depth


def refuse_names(pickle: bytes) -> None:
    """Raise FormatError where a pickle names what is no tensor; read as far as it can be, and never run."""
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(pickle):
            name = None
            if opcode.name in ("GLOBAL", "INST"):
                name = str(argument).replace(" ", ".")
            elif opcode.name == "STACK_GLOBAL":
                name = ".".join(texts[-2:])
            elif isinstance(argument, str):
                texts = [*texts[-1:], argument]
            if name is not None and not _HARMLESS.fullmatch(name):
                raise _would_run(name)
    except ValueError:  # damaged, or cut off: it names nothing more
        return


def _would_run(name: str) -> FormatError:
    return FormatError(f"it would run {name[:100]!r}, and no file may run anything here")
