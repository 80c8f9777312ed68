"""Which base a finetune was made on, and a suite of it: told by the base's name, by its weights, or by shapes alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dit_core.engine.compatibility import likely_base, linear_shapes
from dit_core.errors import DitError
from dit_core.formats import StoredAdapter
from dit_core.formats.checkpoint import read_fingerprint, same_weights
from dit_core.hub import BaseSource, HubPath, PackagedBase, parse_base
from dit_core.hub.sources import model_name
from dit_core.suite.catalog import SUITES, generic_suite, listings, load_suite
from dit_core.suite.limits import current_limits
from dit_core.suite.suite import Suite

if TYPE_CHECKING:
    from torch import Tensor

SAY_BASE = "say which base it was made on: --base, or base= in Python, takes a folder, a hub id or package:NAME"
_MAX_TOKENIZER = 64 << 20  # bytes: the largest have half as many
_OTHER_TOKENS = 0.01  # of a tokenizer: renamed special tokens are fewer


@dataclass(frozen=True)
class Fit:
    """A suite of the base that a finetune was made on, and a sentence on how that is known."""

    suite: Suite
    why: str


def find_fit(stored: StoredAdapter, base: str | None = None) -> Fit:
    """Return a suite of the base that a finetune was made on: of the catalogue, else a generic one of that base alone.

    A base is known by its name; else, where it is on this disk, by its weights, as copies, mirrors and quantized
    versions have other names; and where it is not, by the finetune's shapes. Nothing is fetched.

    Args:
        stored: the finetune, and the base that its files name.
        base: the base that the user names in place of that.

    Raises:
        DitError: nothing names a base, or the one that is named is not to be found.
    """
    named, known = (base or stored.base).strip(), list(_catalogued())
    for name, own in known:
        if named and _is_called(own, named, name):
            return Fit(load_suite(name), f"Its base is {named!r}, for which there is the suite '{name}'.")
    source = _parsed(named, raises=bool(base))
    if source is not None and (weights := _fingerprint(source)):
        for name, own in known:
            if same_weights(weights, _fingerprint(own) or {}):
                why = f"Its base {named!r} has the weights of {own}, for which there is the suite '{name}'."
                return Fit(load_suite(name), why)
        return Fit(generic_suite(named), f"Its base is {named!r}; no suite here is of these weights.")
    likely = likely_base(linear_shapes(stored.adapter))
    if not base:
        for name, own in known:
            if likely and _is_of(likely, own, name) and not _is_another(source, own):
                unseen = f"Its files name the base {named!r}, which is not here to compare. " if named else ""
                return Fit(load_suite(name), f"{unseen}Its shapes are those of {likely}: the suite '{name}' is of it.")
    if isinstance(source, HubPath | PackagedBase):
        return Fit(generic_suite(named), f"Its base is {named!r}; no suite here is of it.")
    shapes = f" Its shapes are those of {likely}." if likely else ""
    if base:
        raise DitError(f"There is no base at '{base}': give the folder of a model, a hub id, or package:NAME.")
    if named:
        raise DitError(f"Its files name the base {named!r}, which is not here.{shapes} If it has moved, {SAY_BASE}.")
    raise DitError(f"Its files name no base, and no suite here fits its shapes.{shapes} Please {SAY_BASE}.")


def base_note(suite: Suite, named: str) -> str:
    """Return a sentence on the base that a diff's files name, where that is not the suite's by name.

    A base of another name is compared by a fingerprint of its weights where it is on this disk: a copy, a mirror and
    a 4-bit version of the same base have the same. A public server looks at no place that a stranger names.
    """
    if not named or _is_called(suite.spec.base, named, suite.name):
        return ""
    source = _parsed(named) if current_limits().paths else None
    weights = (_fingerprint(source) if source is not None else None) or {}
    same = same_weights(weights, _fingerprint(suite.spec.base) or {})
    if same is None and _model_of(suite.spec.base) == model_name(named):
        return f"Its files name the base {named!r}, by its name and shapes a copy of this suite's."
    if same is None:
        return f"Its files name the base {named!r}, which can't be compared here: by its shapes it fits this suite's."
    if same:
        return f"Its files name the base {named!r}, whose weights are those of this suite's."
    return (
        f"Its files name the base {named!r}, whose weights differ from this suite's: what it says here may mean "
        f"nothing. Open it on its own base, with `generic_suite({named!r}, …)`."
    )


def check_tokenizer(finetune: Path, suite: Suite) -> None:
    """Check a finetune's own tokenizer, where its folder has one, against that of the suite's base.

    Raises:
        DitError: it gives other numbers to the tokens, so that it was finetuned from another base.
    """
    own, base = _tokens(finetune), _on_this_disk(suite.spec.base)
    known = _tokens(base) if own and base else {}
    other = [number for number, token in own.items() if known.get(number, token) != token]
    if len(other) > _OTHER_TOKENS * len(own):
        raise DitError(
            f"Its tokenizer and that of the base '{suite.spec.base}' differ in {len(other):,} of {len(own):,} tokens, "
            f"so it was made on another one: {SAY_BASE}."
        )


def _catalogued() -> Iterator[tuple[str, BaseSource]]:
    """Name and base of every suite that can be opened, those with a DIT adapter first."""
    for listing in sorted(listings(), key=lambda listing: not listing.adapters):
        embedded = listing.name in SUITES
        yield listing.name, load_suite(listing.name).spec.base if embedded else parse_base(f"hf://{listing.base}")


def _is_called(base: BaseSource, named: str, suite: str) -> bool:
    names = {str(base), suite, *([base.original] if isinstance(base, PackagedBase) else [])}
    return named.removeprefix("hf://").casefold() in {name.casefold() for name in names}


def _is_of(likely: str, base: BaseSource, suite: str) -> bool:
    """Whether a suite's base is the known one of that name: its own begins with it, as 'gemma-3-1b-it' does."""
    return f"the {suite} base" == likely or _model_of(base).startswith(likely.casefold())


def _is_another(named: BaseSource | None, base: BaseSource) -> bool:
    """Whether a place on the hub is of another model by its name: a base has the shape of what was trained on it."""
    return isinstance(named, HubPath) and _model_of(base) not in ("", model_name(named.repo))


def _model_of(base: BaseSource) -> str:
    """A base's `model_name`; "" for a folder, which may be called anything."""
    return "" if isinstance(base, Path) else model_name(base.original if isinstance(base, PackagedBase) else base.repo)


def _parsed(named: str, raises: bool = False) -> BaseSource | None:
    try:
        return parse_base(named) if named else None
    except DitError:
        if raises:
            raise
        return None


def _on_this_disk(base: BaseSource) -> Path | None:
    """The folder of a base that is a path here or was fetched before; nothing is fetched."""
    if isinstance(base, Path):
        return base if base.is_dir() else None
    if isinstance(base, PackagedBase):
        return base.folder if base.is_here else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    with suppress(HFValidationError):
        config = try_to_load_from_cache(base.repo, (base / "config.json").path, revision=base.revision)
        return Path(config).parent if isinstance(config, str) else None
    return None


def _fingerprint(base: BaseSource) -> Mapping[str, Tensor] | None:
    """The fingerprint of a base that is on this disk; None where it is not, or no checkpoint, or damaged."""
    folder = _on_this_disk(base)
    with suppress(DitError):
        return read_fingerprint(folder) if folder else None
    return None


def _tokens(folder: Path) -> dict[int, str]:
    """The tokens of a folder's tokenizer by number; none where it has no such file, or one that can't be read."""
    path = folder / "tokenizer.json"
    if not path.is_file() or path.stat().st_size > _MAX_TOKENIZER:
        return {}
    with suppress(OSError, ValueError, TypeError, LookupError, AttributeError):
        content = json.loads(path.read_text(encoding="utf-8"))
        words = content["model"]["vocab"]
        pairs = words.items() if isinstance(words, dict) else ((word[0], at) for at, word in enumerate(words))
        return {number: token for token, number in pairs} | {
            added["id"]: added["content"] for added in content.get("added_tokens") or ()
        }
    return {}
