"""Sources of files: a path on this disk, or a repository on the hub and what is in it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from dit_core.errors import DitError

_SCHEME = "hf://"
_ON_HUB = re.compile(
    r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w][\w.-]*))?(?:/(?P<path>[^\\:]+))?", re.ASCII
)
# What quantized copies of a model have behind its name: -bnb-4bit, -GPTQ-Int4, -AWQ, -FP8-dynamic, -quantized.w4a16
_QUANTIZED = re.compile(
    r"(?:[-_.](?:unsloth|bnb|awq|gptq|hqq|nf4|fp8|mlx|dynamic|quantized|block|(?:int)?[2-8]-?bits?|int[2-8]|w\d{1,2}a\d{1,2}))+$",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class HubPath:
    """A repository on the hub, or a file or folder in it; without a revision the newest of its main branch."""

    repo: str
    path: str = ""
    revision: str | None = None

    def __str__(self) -> str:
        return f"{self.repo}{f'@{self.revision}' if self.revision else ''}{f'/{self.path}' if self.path else ''}"

    def __truediv__(self, inside: str) -> HubPath:
        return replace(self, path=f"{self.path}/{inside}" if self.path else inside)


Source: TypeAlias = Path | HubPath


def model_name(source: str) -> str:
    """Return the name of a model without its owner or folder, case, and what quantized copies have behind it.

    Mirrors and 4-bit copies of a base have the same: `unsloth/Qwen2.5-7B-Instruct-bnb-4bit` is `qwen2.5-7b-instruct`.
    """
    name = source.partition("@")[0].rstrip("/").rpartition("/")[2]
    return _QUANTIZED.sub("", name).casefold().removeprefix("meta-")


def parse_source(text: str | Path, folder: Path | None = None, paths: bool = True) -> Source:
    """Return what a text names: a path where something lies there or it can be nothing else, else a place on the hub.

    Args:
        text: a path, or `[hf://]owner/name[@revision][/path/inside]`.
        folder: where relative paths begin; the working folder without it.
        paths: without them this disk is never looked at, and what can't be on the hub is refused.

    Raises:
        DitError: `hf://` stands before what is no place on the hub, or a path is not wanted.
    """
    text = str(text)
    on_hub = _ON_HUB.fullmatch(text.removeprefix(_SCHEME))
    if on_hub and ".." in (on_hub["path"] or "").split("/"):
        on_hub = None
    surely_hub = text.startswith(_SCHEME) or not paths
    if surely_hub and not on_hub:
        raise DitError(f"'{text}' is no place on the hub: write owner/name, and @revision or /path after it.")
    path = (folder or Path()) / Path(text).expanduser()
    if on_hub and (surely_hub or not (path.exists() or (folder and path.parent.exists()))):
        return HubPath(on_hub["repo"], (on_hub["path"] or "").strip("/"), on_hub["revision"])
    return path
