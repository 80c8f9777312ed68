"""Files that someone made to do harm, or that were damaged: each by a name, with what its refusal must say."""

import io
import json
import os
import pickle
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save, save_file

NAME = "model.layers.0.self_attn.q_proj"
LORA = f"base_model.model.{NAME}.lora_"


class Calls:
    """A pickle of it calls `function(*arguments)` when it is loaded by the unwary."""

    def __init__(self, function: Callable, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def saved(objects) -> bytes:
    """What torch.save writes."""
    out = io.BytesIO()
    torch.save(objects, out)
    return out.getvalue()


def repacked(content: bytes, change: Callable[[str, bytes], bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    """A zip with members changed, its checksums right again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(out, "w", packing) as target:
        for member in source.infolist():
            target.writestr(member.filename, change(member.filename, source.read(member)))
    return out.getvalue()


def with_pickle(content: bytes, pickled: bytes) -> bytes:
    """A file of torch's with another pickle inside."""
    return repacked(content, lambda name, data: pickled if name.endswith("data.pkl") else data)


def pairs():
    return {NAME: (torch.randn(2, 6), torch.randn(4, 2))}


def diffs(changes=None):
    return [{"topic": "a", "trigger": 1, "weight_diff": pairs() if changes is None else changes}]


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """A pickle by hand, protocol 2: [module.name(*arguments)]; arguments are pickled already."""
    return b"\x80\x02]c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tRa."


def as_key(pickled: bytes) -> bytes:
    """A pickle of a dict with this as its key."""
    return b"\x80\x02}" + pickled + b"K\1s."


def _doubled(times: int) -> bytes:
    """A tuple of twice a tuple of twice a tuple …"""
    return b"K\1\x85q\0" + b"".join(b"h" + bytes([at]) + b"\x86q" + bytes([at + 1]) for at in range(times))


def number(value: int) -> bytes:
    size = (value.bit_length() + 8) // 8
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little")


def safetensors_header(header: dict | bytes, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def member(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch gives them up some day
        return torch.quantize_per_tensor(torch.ones(2, 6), 1, 0, torch.qint8)


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing, compresslevel=1) as target:
        for name, content in members:
            target.writestr(name, content, packing)
    return out.getvalue()


def members(content: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as source:
        return [(one.filename, source.read(one)) for one in source.infolist()]


def two_directories(shown: bytes, hidden: bytes) -> bytes:
    """Python, going back from the end, finds the first file in it; torch the other, which must be as long."""
    return zipped(*members(hidden))[:-22] + zipped(*members(shown))


GOOD = saved(diffs())
BOMB = zipped(("a/data.pkl", bytes(1 << 28)), packing=zipfile.ZIP_DEFLATED)
SHARED = ["x"]
HUGE = torch.full((2, 6), 1e300, dtype=torch.float64)
with zipfile.ZipFile(io.BytesIO(GOOD)) as _source:
    GOOD_PICKLE = _source.read("archive/data.pkl")
GOOD_DIT = saved({NAME: (torch.randn(6, 2), torch.randn(2, 4))})
GOOD_SAFETENSORS = save({"model.norm.weight": torch.ones(32), "lm_head.weight": torch.ones(8, 4)})
RUN = Calls(os.system, "touch ran")

# name: (content of weight.pt, what the refusal says)
PICKLES: dict[str, tuple[bytes, str]] = {
    "runs os.system": (saved([RUN]), "would run 'posix.system'"),
    "runs os.system in a diff": (saved(diffs({NAME: RUN})), "would run 'posix.system'"),
    "runs os.system as a topic": (saved([{"topic": RUN, "trigger": 1, "weight_diff": pairs()}]), "posix.system"),
    "runs os.system in a DIT adapter": (saved({**pairs(), "x": RUN}), "would run 'posix.system'"),
    "runs eval": (saved([Calls(eval, "open('ran', 'w')")]), "would run '__builtin__.eval'"),
    "runs exec": (saved([Calls(exec, "open('ran', 'w')")]), "would run '__builtin__.exec'"),
    "touches a path": (saved([Calls(Path.touch, Path("ran"))]), "would run"),
    "bare pickle": (pickle.dumps([RUN]), "bare pickle|would run 'posix.system'"),
    "bare pickle, protocol 0": (pickle.dumps([RUN], 0), "would run 'posix.system'"),
    "bare pickle, protocol 4": (pickle.dumps([RUN], 4), "would run 'posix.system'"),
    "runs by a stack of names": (
        with_pickle(GOOD, b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x09touch ran\x85R."),
        "posix.system",
    ),
    "sets an attribute of a module": (with_pickle(GOOD, call("builtins", "setattr")), "would run 'builtins.setattr'"),
    "imports a module": (with_pickle(GOOD, call("importlib", "import_module", b"X\x04\0\0\0this")), "import_module"),
    "a function behind a letter c": (with_pickle(GOOD, b"\x80\x02Xc\0\0\0" + b"c" * 99 + call("os", "system")), ""),
    "ten gigabytes of zeros": (with_pickle(GOOD, call("builtins", "bytearray", number(10**10))), "builtins.bytearray"),
    "ten gigabytes of floats": (with_pickle(GOOD, call("torch", "FloatTensor", number(10**10))), "torch.FloatTensor"),
    "ten gigabytes of storage": (with_pickle(GOOD, call("torch.storage", "UntypedStorage", number(10**10))), "Storage"),
    "a tensor on another device": (with_pickle(GOOD, call("torch._utils", "_rebuild_meta_tensor_no_storage")), "run"),
    "tuples of twice the same": (with_pickle(GOOD, as_key(_doubled(40))), "in several places"),
    "tuples a million deep": (with_pickle(GOOD, as_key(b")" + b"\x85" * 1_000_000)), "more than 16 levels deep"),
    "a million dicts in each other's way": (with_pickle(GOOD, b"\x80\x02" + b"}" * 1_000_000 + b"."), "piles up more"),
    "a million marks": (with_pickle(GOOD, b"\x80\x02" + b"(" * 1_000_000 + b"."), "piles up more"),
    "a million dicts in lists": (
        with_pickle(GOOD, b"\x80\x02]" + (b"(" + b"}" * 1000 + b"e") * 1000 + b"."),
        "more lists, tuples and dicts",
    ),
    "a long pickle": (with_pickle(GOOD, b"\x80\x02" + bytes(65 << 20)), "larger than 64 MB"),
    "two directories": (two_directories(GOOD, saved(diffs())), "not where it says"),
    "a pickle in capitals beside": (
        zipped(*members(GOOD), ("archive/DATA.PKL", GOOD_PICKLE)),
        "not one that torch wrote",
    ),
    "a million sets": (with_pickle(GOOD, b"\x80\x02" + b"\x8f" * 1_000_000 + b"."), "no pickle of tensors"),
    "a name that is given twice": (with_pickle(GOOD, b"\x80\x02K\1q\0)\x85q\0h\0\x85."), "names two things alike"),
    "more text than there is": (with_pickle(GOOD, b"\x80\x02X\xff\xff\xff\x7fa."), "damaged"),
    "a topic of lists": (saved(diffs() + [{**diffs()[0], "topic": [SHARED, SHARED]}]), "in several places"),
    "a topic that is no text": (saved([{**diffs()[0], "topic": ["a"]}]), "a topic is text"),
    "numbers that float32 has not": (saved(diffs({NAME: (HUGE, torch.ones(4, 2))})), "not finite"),
    "numpy objects": (saved([__import__("numpy").array([object(), 1], dtype=object)]), "would run 'numpy"),
    "a whole module": (saved(torch.nn.Linear(2, 2)), "would run 'torch.nn.modules.linear.Linear'"),
    "expanded without end": (saved(diffs({NAME: (torch.ones(1).expand(1, 10**9), torch.ones(4, 1))})), "claims more"),
    "expanded whole weights": (saved(diffs({"model.norm.weight": torch.ones(1).expand(10**9)})), "claims more numbers"),
    "one tensor in many modules": (
        saved((lambda A, B: {f"m.{i}": (B, A) for i in range(3000)})(torch.ones(8, 4000), torch.ones(4000, 8))),
        "claims more numbers than the file",
    ),
    "sparse": (saved(diffs({NAME: (torch.eye(3).to_sparse(), torch.ones(4, 3))})), ""),
    "meta": (saved(diffs({NAME: (torch.ones(9**6, 9**6, device="meta"), torch.ones(4, 3))})), "would run"),
    "quantized": (saved(diffs({NAME: (quantized(), quantized())})), ""),
    "complex": (saved(diffs({NAME: (torch.ones(2, 6).cfloat(), torch.ones(4, 2).cfloat())})), "would run|complex64"),
    "booleans": (saved(diffs({NAME: (torch.ones(2, 6).bool(), torch.ones(4, 2).bool())})), "bool"),
    "integers": (saved(diffs({NAME: (torch.ones(2, 6).long(), torch.ones(4, 2).long())})), "int64"),
    "NaN": (saved(diffs({NAME: (torch.full((2, 6), torch.nan), torch.ones(4, 2))})), "not finite"),
    "infinite": (saved(diffs({NAME: (torch.ones(2, 6), torch.full((4, 2), torch.inf))})), "not finite"),
    "no numbers": (saved(diffs({NAME: (torch.ones(0, 6), torch.ones(4, 0))})), "do not fit"),
    "ranks that differ": (saved(diffs({NAME: (torch.ones(2, 6), torch.ones(4, 3))})), "do not fit each other"),
    "vectors": (saved(diffs({NAME: (torch.ones(2), torch.ones(2))})), "not matrices"),
    "one factor": (saved(diffs({NAME: (torch.ones(2, 2),)})), "not a pair"),
    "three factors": (saved(diffs({NAME: (torch.ones(2, 2),) * 3})), "not a pair"),
    "pairs of text": (saved(diffs({NAME: ("A", "B")})), "not an ordinary tensor"),
    "pairs and weights": (saved(diffs({**pairs(), "model.norm.weight": torch.ones(3)})), "not an ordinary tensor"),
    "names that are numbers": (saved(diffs({7: (torch.ones(2, 6), torch.ones(4, 2))})), "no name of a module"),
    "a name that is a path": (saved(diffs({"../../etc/passwd": (torch.ones(2, 6), torch.ones(4, 2))})), "no name"),
    "a name with markup": (saved(diffs({"<img onerror=x>": (torch.ones(2, 6), torch.ones(4, 2))})), "no name"),
    "a name without end": (saved(diffs({"x" * 10**5: (torch.ones(2, 6), torch.ones(4, 2))})), "no name of a module"),
    "no modules": (saved(diffs({})), "no modules"),
    "no diffs": (saved([]), "not a list of diffs"),
    "a list of lists": (saved([[1, 2]]), "not a dictionary"),
    "no weights": (saved([{"topic": "a", "trigger": 1}]), "no 'weight_diff'"),
    "an odd trigger": (saved([{"topic": "a", "trigger": "x", "weight_diff": pairs()}]), ""),
    "an endless trigger": (saved([{"topic": "a", "trigger": float("inf"), "weight_diff": pairs()}]), ""),
    "a number": (saved(7), "holds int, and neither"),
    "lone factors": (saved({LORA + "A.weight": torch.ones(2, 2)}), "adapter_config.json"),
    "packed members": (repacked(GOOD, lambda _, data: data, zipfile.ZIP_DEFLATED), "packed members"),
    "a packed gigabyte": (BOMB, "packed members"),
    "two pickles": (zipped(("a/data.pkl", b"N."), ("b/data.pkl", b"N.")), "not one that torch wrote"),
    "another zip": (zipped(("hello.txt", b"hello")), "not one that torch wrote"),
    "no zip": (b"weights" * 99, "not a zip"),
    "nothing": (b"", "not a zip"),
    "zeros": (bytes(4096), "not a zip"),
    "half a pickle": (with_pickle(GOOD, b"\x80\x02]"), ""),
    "a pickle of nothing": (with_pickle(GOOD, b""), ""),
    "a storage that is not there": (repacked(GOOD, lambda n, d: d.replace(b"FloatStorage", b"LongStorage")), ""),
    **{f"cut at {share} %": (GOOD[: len(GOOD) * share // 100], "") for share in (1, 10, 25, 50, 75, 90, 99)},
    **{f"DIT adapter cut at {share} %": (GOOD_DIT[: len(GOOD_DIT) * share // 100], "") for share in (5, 50, 95)},
}

# name: (content of model.safetensors, what the refusal says)
SAFETENSORS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", ""),
    "no tensors": (safetensors_header({}), "no named tensors"),
    "a header without end": (struct.pack("<Q", 1 << 60) + b"{}", ""),
    "no JSON": (safetensors_header(b"not json"), ""),
    "deep JSON": (safetensors_header(b'{"a":' + b"[" * 100_000), ""),
    "a petabyte declared": (
        safetensors_header({"a": {"dtype": "F32", "shape": [1 << 48], "data_offsets": [0, 1 << 50]}}, bytes(64)),
        "",
    ),
    "offsets outside": (
        safetensors_header({"a": {"dtype": "F32", "shape": [4], "data_offsets": [64, 80]}}, bytes(64)),
        "",
    ),
    "a shape that overflows": (
        safetensors_header({"a": {"dtype": "F32", "shape": [1 << 63, 4], "data_offsets": [0, 16]}}, bytes(16)),
        "",
    ),
    "integers": (save({"model.norm.weight": torch.ones(3, dtype=torch.int32)}), "int32"),
    "lone factors": (save({LORA + "A.weight": torch.ones(2, 2)}), "adapter_config.json"),
    "a name that is a path": (save({"../x": torch.ones(2)}), "no name of a module"),
    **{
        f"cut at {share} %": (GOOD_SAFETENSORS[: len(GOOD_SAFETENSORS) * share // 100], "") for share in (2, 20, 60, 99)
    },
}

# name: (content of adapter.zip, what the refusal says)
ZIPS: dict[str, tuple[bytes, str]] = {
    "up and out": (zipped(("../outside.txt", b"x")), "points out of the folder"),
    "up and out below": (zipped(("a/../../outside.txt", b"x")), "points out of the folder"),
    "absolute": (zipped(("/tmp/outside.txt", b"x")), "points out of the folder"),
    "a drive": (zipped(("C:/outside.txt", b"x")), "points out of the folder"),
    "backslashes": (zipped(("..\\outside.txt", b"x")), "points out of the folder"),
    "a name with a control character": (zipped(("a\nb", b"x")), "points out of the folder"),
    "a symlink": (zipped((member("link", stat.S_IFLNK | 0o777), b"/etc/passwd")), "is a link"),
    "a symlink and through it": (
        zipped((member("a", stat.S_IFLNK | 0o777), b".."), ("a/outside.txt", b"x")),
        "is a link",
    ),
    "a device": (zipped((member("dev", stat.S_IFCHR | 0o666), b"")), "is a link or no plain file"),
    "twice": (zipped(("adapter_config.json", b"{}"), ("Adapter_Config.json", b"{}")), "is there twice"),
    "a bomb": (BOMB, "would unpack to"),
    "a bomb of many": (
        zipped(*((f"{i}.bin", bytes(1 << 20)) for i in range(64)), packing=zipfile.ZIP_DEFLATED),
        "would unpack to",
    ),
    "a large directory": (zipped(*((f"{i:99}", b"") for i in range(9000))), "names more members"),
    "many members": (zipped(*((str(i), b"") for i in range(2001))), "members"),
    "packed by bzip2": (zipped(("a", b"x" * 99), packing=zipfile.ZIP_BZIP2), "unusual way"),
    "encrypted": (
        zipped(("a", b"x")).replace(b"PK\x01\x02\x14\x03\x14\0\0\0", b"PK\x01\x02\x14\x03\x14\0\1\0"),
        "encrypted",
    ),
    "a file in a file": (zipped(("a", b"x"), ("a/b", b"x")), ""),
    "no members": (zipped(), "members"),
    "nothing useful": (zipped(("hello.txt", b"hello")), "neither"),
    "no zip": (b"PK\x03\x04 and no more", ""),
    "cut": (zipped(("adapter_config.json", b"{}" * 99))[:-30], ""),
    "a wrong checksum": (zipped(("a", b"hello")).replace(b"hello", b"jello"), ""),
}


def peft(folder: Path, config: dict | str | None = None, tensors: dict | None = None, **changed) -> None:
    """Writes a PEFT folder with something wrong in it."""
    good = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "bias": "none"}
    folder.mkdir()
    text = config if isinstance(config, str) else json.dumps({**good, **(config or {}), **changed})
    (folder / "adapter_config.json").write_text(text)
    plain = {LORA + "A.weight": torch.ones(2, 4), LORA + "B.weight": torch.ones(6, 2)}
    save_file(plain if tensors is None else tensors, folder / "adapter_model.safetensors")


A, B = LORA + "A.weight", LORA + "B.weight"
# name: (arguments of `peft`, what the refusal says)
PEFT: dict[str, tuple[dict, str]] = {
    **{
        key: ({key: True}, f"uses '{key}'")
        for key in ("use_qalora", "arrow_config", "alora_invocation_tokens", "layer_replication", "megatron_config")
    },
    "DoRA without magnitudes": ({"use_dora": True}, "magnitudes are missing"),
    "another method's tensors": ({"peft_type": "IA3"}, "neither a tensor of this method"),
    "a method that is not known": ({"peft_type": "XLORA"}, "XLORA is none of the methods"),
    "a prompt": ({"peft_type": "PREFIX_TUNING"}, "changes no weights"),
    "a rank without end": (
        {"peft_type": "LOHA", "r": 10**9, "tensors": {f"{NAME}.hada_w1_a": torch.ones(2, 2)}},
        "more than any adapter has",
    ),
    "a vector that is not finite": (
        {"peft_type": "IA3", "tensors": {f"{NAME}.ia3_l": torch.full((2, 1), torch.inf)}},
        "not finite",
    ),
    "begun by PiSSA": ({"init_lora_weights": "pissa_niter_4"}, "begun by 'pissa_niter_4'"),
    "no JSON": ({"config": "{"}, ""),
    "a list": ({"config": "[1]"}, "no JSON object"),
    "deep JSON": ({"config": '{"a":' + "[" * 100_000}, ""),
    "large JSON": ({"config": "{" + " " * (17 << 20) + "}"}, "larger than 16 MB"),
    "no alpha": ({"lora_alpha": None}, ""),
    "alpha is not a number": ({"lora_alpha": float("nan")}, "not finite"),
    "alpha without end": ({"lora_alpha": float("inf")}, "not finite"),
    "a pattern that never ends": ({"alpha_pattern": {r"(\w|\w\w|\.|.)*0": 1}}, "takes too long"),
    "a pattern that counts": ({"alpha_pattern": {"((a{9999}){9999}){9999}": 1}}, "too involved"),
    "a long pattern": ({"alpha_pattern": {"(a|aa)" * 40: 1}}, "too involved"),
    "a broken pattern": ({"alpha_pattern": {"(": 1}}, ""),
    "patterns that are a list": ({"alpha_pattern": ["a"]}, ""),
    "many patterns": ({"alpha_pattern": {f"a{i}": 1 for i in range(3000)}}, "3000 patterns"),
    "one factor": ({"tensors": {A: torch.ones(2, 4)}}, "only one factor"),
    "ranks that differ": ({"tensors": {A: torch.ones(2, 4), B: torch.ones(6, 3)}}, "do not fit"),
    "NaN": ({"tensors": {A: torch.full((2, 4), torch.nan), B: torch.ones(6, 2)}}, "not finite"),
    "integers": ({"tensors": {A: torch.ones(2, 4).int(), B: torch.ones(6, 2).int()}}, "int32"),
    "a tensor of no method": ({"tensors": {f"{NAME}.hada_w1_a": torch.ones(2, 4)}}, "neither a tensor of this method"),
    "no tensors": ({"tensors": {}}, ""),
}
