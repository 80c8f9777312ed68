"""A suite with its weights: diffs, DIT adapters and oracle, held on the one loaded base."""

import gc
import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from dit_core.engine.worker import Worker
from dit_core.errors import DitError, OracleError
from dit_core.formats import Adapter
from dit_core.hub import Fetcher, HubPath, Source, parse_source
from dit_core.records import DiffInfo
from dit_core.suite.base import LoadOptions, Requirements, check_requirements, fetch_base, load_base
from dit_core.suite.contents import DIFF_GONE, SuiteContents
from dit_core.suite.diffs import OWN, DerivedDiff, adapter_path, any_adapter, any_diff, size
from dit_core.suite.lazy import lazy_property
from dit_core.suite.limits import current_client, current_limits, max_waiting
from dit_core.suite.spec import SuiteSpec

if TYPE_CHECKING:
    from dit_core.engine.model import Model


@dataclass
class Loaded:
    """The base that is loaded, its bytes, and what its slots hold: by slot, which suite's and which adapters.

    `lain` are the diffs that have lain in a slot since it was made: of one that is larger than the next, parts stay.
    """

    key: Hashable
    model: "Model"
    size: int
    held: dict[str, Hashable] = field(default_factory=dict)
    lain: dict[str, set[str]] = field(default_factory=dict)


class LoadedBase:
    """The place for one loaded base in this process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.loaded: Loaded | None = None

    def get(self, key: Hashable, load: Callable[[], "Model"]) -> Loaded:
        """What is loaded under that key; loads it, after unloading what was there before, where it is another."""
        with self._lock:
            if self.loaded is None or self.loaded.key != key:
                self.clear()
                model = load()
                size = sum(one.numel() * one.element_size() for one in model.base.parameters())
                self.loaded = Loaded(key, model, size)
            return self.loaded

    @property
    def key(self) -> Hashable:
        """What is loaded; None for nothing."""
        loaded = self.loaded
        return loaded.key if loaded else None

    @property
    def size(self) -> int:
        """How many bytes unloading would give back."""
        loaded = self.loaded
        return loaded.size if loaded else 0

    def clear(self, key: Hashable | None = None) -> bool:
        """Unloads what is loaded, or that alone which has the key; tells whether there was anything to unload."""
        with self._lock:
            if self.loaded is None or (key is not None and self.loaded.key != key):
                return False
            self.loaded = None
            release_memory()
            return True

    def forget(self, diff: str) -> None:
        """Takes off the model each slot in which a diff, or a control made of it, has lain. Worker's thread only.

        Such a slot is made anew when it is next needed.
        """
        with self._lock:
            if self.loaded is None:
                return
            for slot in [slot for slot, ids in self.loaded.lain.items() if any(diff in id for id in ids)]:
                del self.loaded.lain[slot]
                self.loaded.held.pop(slot, None)
                self.loaded.model.detach(slot)


def release_memory() -> None:
    """Gives what is no longer used back to the system: Python keeps it in cycles, torch and libc in stores."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        import ctypes

        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # another libc than glibc
        pass


NAMED = 4  # oracles that requests name, whose files stay where a stranger's are fetched to
_LOADED_BASE = LoadedBase()
_WORKER = Worker(client_id=current_client, max_waiting=max_waiting)


class Suite(SuiteContents):
    """A suite's description and, on demand, its weights. Made by `load_suite` and `generic_suite`.

    Attributes `name`, `title`, `folder`, `trigger_format`, `max_new_tokens`, `first_diff` (an id or `""`), `tasks` and
    `adapters` (both by name) and `oracle` (or None) are as the description says.
    Of all suites in a process one base is loaded at a time: the first use of another unloads it.
    """

    def __init__(self, about: SuiteSpec, loading: LoadOptions, again: tuple[Callable, tuple]) -> None:
        super().__init__(about)
        self.loading, self._again = loading, again
        self._own = object()  # marks what this suite put into slots that suites of the same base share
        # By oracle that a request names, for the last ones: not this suite's, so not in its `revisions`.
        self._named = lru_cache(maxsize=NAMED)(lambda _where, _limits: self.fetcher())

    def __reduce__(self) -> tuple:
        return self._again  # in another process: the suite that is loaded there

    def load_diff(self, info: DiffInfo) -> Adapter:
        """A diff's weights; the last few stay in memory."""
        if isinstance(info, DerivedDiff):
            return info.weights(self.load_diff)
        if own := self._user_diffs.get(info.id):
            return own.adapter
        if info.split == OWN:
            raise DitError(DIFF_GONE)
        if self.spec.diff is not None and info == self._generic_diff:
            return any_diff(self.spec.diff, self._fetcher)
        return self._indexed.weights(info)

    def load_adapter(self, name: str) -> Adapter:
        """A DIT adapter's weights."""
        return any_adapter(self.spec.at(self.adapter(name).file), self._fetcher)

    @property
    def worker(self) -> Worker:
        """The one thread of this process that may use a `model`."""
        return _WORKER

    def requirements(self) -> Requirements:
        """What loading the base takes, and what there is of it; fetches the base's config alone."""
        return check_requirements(self.spec.base, self._fetcher, self.loading, _LOADED_BASE.size)

    def requirements_for(self, info: DiffInfo) -> Requirements:
        """As `needs`, with what a first question about a diff downloads beside the base."""
        places = [self._indexed.source(info)] if self._is_indexed(info) else []
        if name := self.task(info.task).adapter:
            places.append(self.spec.at(self.adapter(name).file))
        return replace(self.requirements(), extra_download=sum(size(where, self._fetcher).missing for where in places))

    def fetch(self, infos: Iterable[DiffInfo] = (), adapters: Iterable[str] = (), oracle: bool | str = False) -> None:
        """Sees that the files of the base, and of diffs, DIT adapters and an oracle, are on this disk.

        To be called before work is handed to the worker, in whose thread a download would hold up everybody. `oracle`
        is True for the suite's own, or a folder or hub id. Raises DitError: why something can't be had.
        """
        if _LOADED_BASE.key != self._key:
            fetch_base(self.spec.base, self._fetcher, self.loading, self.name, _LOADED_BASE.size)
        for info in {info.of if isinstance(info, DerivedDiff) else info for info in infos}:
            if self._is_indexed(info):
                self._fetcher.file(self._indexed.source(info))
        for name in set(adapters):
            adapter_path(self.spec.at(self.adapter(name).file), self._fetcher)
        if oracle and (oracle is not True or self.oracle):
            where, fetcher = self._oracle_source(None if oracle is True else oracle)
            if oracle is not True and isinstance(where, HubPath):
                current_limits().check_download(oracle, size(where, fetcher).missing)
            adapter_path(where, fetcher)

    def _is_indexed(self, info: DiffInfo) -> bool:
        """Whether a diff's weights are in a file of the suite's index."""
        lone = self.spec.diff is not None and info == self._generic_diff
        return not (lone or info.split == OWN or isinstance(info, DerivedDiff))

    def oracle_revisions(self, source: str | None) -> dict[str, str]:
        """The commit of a named oracle's hub repository; empty for the suite's own, and for a folder."""
        if source is None:
            return {}
        where, fetcher = self._oracle_source(source)
        if not isinstance(where, HubPath):
            return {}
        commit = fetcher.commit(where)
        return {where.repo: commit} if commit else {}

    def _oracle_source(self, source: str | None) -> tuple[Source, Fetcher]:
        if source is None:
            return parse_source(self._own_oracle), self._fetcher
        limits = current_limits()
        where = parse_source(source, paths=limits.paths)
        return where, self._named(where, limits)

    @property
    def _own_oracle(self) -> str:
        """Where the suite's own oracle is; DitError where it has none."""
        if self.oracle is None:
            raise DitError(
                f"The suite '{self.name}' has no activation oracle: name one made for its base, by folder or hub id."
            )
        return self.oracle.source

    @property
    def model(self) -> "Model":
        """The base with its adapter slots, loaded on first use. Only to be used inside the worker's thread."""
        return _LOADED_BASE.get(self._key, self._load).model

    @property
    def _held(self) -> dict[str, Hashable]:
        """What the slots of the base hold."""
        return _LOADED_BASE.get(self._key, self._load).held

    def _load(self) -> "Model":
        return load_base(self.spec.base, self._fetcher, self.loading, self.name)

    @lazy_property
    def _key(self) -> Hashable:
        """What tells a loaded base from another: its place, its commit or its files' age, and how it is loaded."""
        base = self.spec.base
        if isinstance(base, Path):
            return str(base), max((path.stat().st_mtime_ns for path in base.glob("*")), default=0), self.loading
        self._fetcher.folder(base, ["config.json"])  # which tells the commit
        return str(base), self._fetcher.commit(base), self.loading

    def unload(self) -> None:
        """Gives back the memory of this suite's base and of the diffs that were read; the next use loads them anew."""
        self._indexed.weights.cache_clear()
        self.worker.run(lambda: _LOADED_BASE.clear(self._key))

    def forget(self, id: str) -> None:
        """Drops a diff that was brought, and gives its memory back; nothing happens where it is gone already."""
        super().forget(id)
        self.worker.submit(lambda: _LOADED_BASE.forget(id))

    def hold_adapter(self, name: str) -> str:
        """Sees that a DIT adapter is on the model; returns its slot. Worker's thread only."""
        return self._hold(f"dit-{name}", name, lambda slot: self.model.attach(slot, self.load_adapter(name)))

    def hold_oracle(self, source: str | None = None) -> str:
        """Sees that an activation oracle is on the model: the suite's own, or a folder's or hub id's; returns its slot.

        Worker's thread only.
        """
        (where, fetcher), source = self._oracle_source(source), source or self._own_oracle

        def attach(slot: str) -> None:
            try:
                adapter = any_adapter(where, fetcher)
            except DitError as error:
                raise OracleError(str(error)) from error
            try:
                self.model.attach(slot, adapter)
            except DitError as error:
                raise OracleError(
                    f"The oracle '{source}' was made for another base than this suite's: {error}"
                ) from error

        return self._hold("oracle", source, attach)

    def hold_diffs(self, infos: Sequence[DiffInfo]) -> str:
        """Sees that one diff, or several side by side in one block slot, are on the model; returns the slot.

        Slots are kept per rank, so that changing diffs copies tensors and never touches the model's modules. All that
        have whole weights share one, as each holds a model's size. Worker's thread only.
        """
        key = tuple(info.id for info in infos)
        if not all(info.rank for info in infos):
            slot = "whole"
        else:
            slot = f"diff-{infos[0].rank}" if len(infos) == 1 else "diffs"
        _LOADED_BASE.get(self._key, self._load).lain.setdefault(slot, set()).update(key)
        if slot.startswith("diff-"):
            return self._hold(slot, key, lambda slot: self.model.attach(slot, self.load_diff(infos[0])))
        return self._hold(
            slot, key, lambda slot: self.model.attach_block(slot, [self.load_diff(info) for info in infos])
        )

    def _hold(self, slot: str, key: Hashable, attach: Callable[[str], None]) -> str:
        held, key = self._held, (self._own, key)
        if held.get(slot) != key:
            held.pop(slot, None)  # whatever happens below, the slot no longer holds what it held
            attach(slot)
            held[slot] = key
        return slot
