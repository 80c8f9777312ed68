"""A suite with its weights: diffs, DIT adapters and oracle, attached to the one loaded base."""

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from dit_core.engine.worker import Worker
from dit_core.errors import DitError, OracleError
from dit_core.formats import Adapter
from dit_core.hub import Fetcher, HubPath, PackagedBase, Source, parse_source
from dit_core.project import lazy_property
from dit_core.records import DiffInfo
from dit_core.suite.base import LoadOptions, Requirements, check_requirements, fetch_base, load_base, release_memory
from dit_core.suite.contents import DIFF_GONE, SuiteContents, whole_diff
from dit_core.suite.diffs import OWN, DerivedDiff, adapter_path, any_adapter, any_diff, diff_path, source_size
from dit_core.suite.limits import current_client, current_limits, max_waiting
from dit_core.suite.spec import SuiteSpec

if TYPE_CHECKING:
    from dit_core.engine.model import Model


@dataclass
class Loaded:
    """A loaded base with its size in bytes, and the contents of its slots.

    `held` is what each slot holds now: which suite's adapters. `past_diffs` are the ids of all diffs that were in a
    slot since it was made: where a larger diff came before a smaller one, parts of its weights stay in the slot.
    """

    key: Hashable
    model: "Model"
    size: int
    held: dict[str, Hashable] = field(default_factory=dict)
    past_diffs: dict[str, set[str]] = field(default_factory=dict)


class LoadedBase:
    """The holder of this process's one loaded base."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.loaded: Loaded | None = None

    def get(self, key: Hashable, load: Callable[[], "Model"]) -> Loaded:
        """Return the base with that key; loads it first where another one or none is loaded."""
        with self._lock:
            if self.loaded is None or self.loaded.key != key:
                self.clear()
                model = load()
                size = sum(parameter.numel() * parameter.element_size() for parameter in model.base.parameters())
                self.loaded = Loaded(key, model, size)
            return self.loaded

    @property
    def key(self) -> Hashable:
        """The key of the loaded base; None where none is loaded."""
        loaded = self.loaded
        return loaded.key if loaded else None

    @property
    def size(self) -> int:
        """The bytes that unloading would give back."""
        loaded = self.loaded
        return loaded.size if loaded else 0

    def clear(self, key: Hashable | None = None) -> bool:
        """Unload the base, or only the one with that key; return whether one was unloaded."""
        with self._lock:
            if self.loaded is None or (key is not None and self.loaded.key != key):
                return False
            self.loaded = None
            release_memory()
            return True

    def forget(self, diff: str) -> None:
        """Detach each slot that held a diff, or a control made of it, at any time. Worker's thread only.

        Such a slot is made again when it is next needed.
        """
        with self._lock:
            if self.loaded is None:
                return
            for slot in [slot for slot, ids in self.loaded.past_diffs.items() if any(diff in id for id in ids)]:
                del self.loaded.past_diffs[slot]
                self.loaded.held.pop(slot, None)
                self.loaded.model.detach(slot)


NAMED_ORACLES = 4  # oracles named by requests whose fetchers are kept
_LOADED_BASE = LoadedBase()
_WORKER = Worker(client_id=current_client, max_waiting=max_waiting)


class Suite(SuiteContents):
    """A suite's description and, on demand, its weights. Made by `load_suite` and `generic_suite`.

    Attributes `name`, `title`, `folder`, `trigger_format`, `max_new_tokens`, `first_diff` (an id or `""`), `tasks` and
    `adapters` (both by name) and `oracle` (or None) are those of the description, which is `spec`.
    All suites of a process share one loaded base: the first use of another base unloads it.
    """

    def __init__(self, spec: SuiteSpec, loading: LoadOptions, reload_call: tuple[Callable, tuple]) -> None:
        super().__init__(spec)
        self.loading, self._reload_call = loading, reload_call
        self._owner = object()  # tells this suite's adapters from others' in the slots that suites of one base share
        # One fetcher per oracle that a request names, for the last few; the suite's `revisions` leave them out.
        self._derived_weights = lru_cache(maxsize=16)(lambda info: info.weights(self.load_diff, lambda: self.model))
        self._oracle_fetcher = lru_cache(maxsize=NAMED_ORACLES)(lambda _where, _limits: self.fetcher())

    def __reduce__(self) -> tuple:
        return self._reload_call  # another process loads the suite again, or has it already

    def load_diff(self, info: DiffInfo) -> Adapter:
        """Return a diff's weights; the last few are kept in memory.

        Raises:
            DitError: the diff is gone or its file can't be had.
        """
        if isinstance(info, DerivedDiff):
            return self._derived_weights(info)
        if user_diff := self._user_diffs.get(info.id):
            return user_diff.adapter
        if info.split == OWN:
            raise DitError(DIFF_GONE)
        if self.spec.diff is not None and info == self._generic_diff:
            return any_diff(self.spec.diff, self._fetcher)
        return self._indexed.weights(info)

    def load_adapter(self, name: str) -> Adapter:
        """Return a DIT adapter's weights."""
        return any_adapter(self.spec.at(self.adapter(name).file), self._fetcher)

    @property
    def worker(self) -> Worker:
        """The one thread of this process that may use `model`."""
        return _WORKER

    def requirements(self) -> Requirements:
        """Return what loading the base needs and what this machine has; fetches only the base's config."""
        return check_requirements(self.spec.base, self._fetcher, self.loading, _LOADED_BASE.size)

    def requirements_for(self, info: DiffInfo) -> Requirements:
        """Return `requirements()` with what a first question about a diff downloads in addition."""
        sources = [self._indexed.source(info)] if self._is_indexed(info) else []
        if name := self.task(info.task).adapter:
            sources.append(self.spec.at(self.adapter(name).file))
        return replace(
            self.requirements(), extra_download=sum(source_size(where, self._fetcher).missing for where in sources)
        )

    def fetch(self, infos: Iterable[DiffInfo] = (), adapters: Iterable[str] = (), oracle: bool | str = False) -> None:
        """Fetch the files of the base, and of diffs, DIT adapters and an oracle, that are not on this disk.

        Call this before handing work to the worker: a download in its thread would make everybody wait. `oracle` is
        True for the suite's own oracle, or a folder or hub id.

        Raises:
            DitError: something can't be fetched.
        """
        if _LOADED_BASE.key != self._key:
            fetch_base(self.spec.base, self._fetcher, self.loading, self.name, _LOADED_BASE.size)
        for info in set(map(whole_diff, infos)):
            if self._is_indexed(info):
                diff_path(self._indexed.source(info), self._fetcher)
        for name in set(adapters):
            adapter_path(self.spec.at(self.adapter(name).file), self._fetcher)
        if oracle and (oracle is not True or self.oracle):
            where, fetcher = self._oracle_source(None if oracle is True else oracle)
            if oracle is not True and isinstance(where, HubPath):
                current_limits().check_download(oracle, source_size(where, fetcher).missing)
            adapter_path(where, fetcher)

    def _is_indexed(self, info: DiffInfo) -> bool:
        """Return whether a diff's weights are in a file of the suite's index."""
        is_generic = self.spec.diff is not None and info == self._generic_diff
        return not (is_generic or info.split == OWN or isinstance(info, DerivedDiff))

    def oracle_revisions(self, source: str | None) -> dict[str, str]:
        """Return the commit of an oracle's hub repository, by repository; empty for the suite's own or a folder."""
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
        return where, self._oracle_fetcher(where, limits)

    @property
    def model(self) -> "Model":
        """The base with its adapter slots, loaded on first use. Worker's thread only."""
        return _LOADED_BASE.get(self._key, self._load).model

    @property
    def _held(self) -> dict[str, Hashable]:
        """What each slot of the base holds."""
        return _LOADED_BASE.get(self._key, self._load).held

    def _load(self) -> "Model":
        return load_base(self.spec.base, self._fetcher, self.loading, self.name)

    @lazy_property
    def _key(self) -> Hashable:
        """The key that tells a loaded base from another: its source, commit or newest file time, and load options."""
        base = self.spec.base
        if isinstance(base, Path):
            return str(base), max((path.stat().st_mtime_ns for path in base.glob("*")), default=0), self.loading
        if isinstance(base, PackagedBase):
            return str(base), base.weights, self.loading
        self._fetcher.folder(base, ["config.json"])  # so that the commit is known
        return str(base), self._fetcher.commit(base), self.loading

    def unload(self) -> None:
        """Free the memory of this suite's base and of the diffs that were read; the next use loads them again."""
        self._indexed.weights.cache_clear()
        self._derived_weights.cache_clear()
        self.worker.run(lambda: _LOADED_BASE.clear(self._key))

    def forget(self, id: str) -> None:
        """Remove a user's own diff and free its memory; do nothing where it is gone already."""
        super().forget(id)
        self._derived_weights.cache_clear()
        self.worker.submit(lambda: _LOADED_BASE.forget(id))

    def hold_adapter(self, name: str) -> str:
        """Attach a DIT adapter to the model where it is not yet, and return its slot. Worker's thread only."""
        return self._hold(f"dit-{name}", name, lambda slot: self.model.attach(slot, self.load_adapter(name)))

    def hold_vectors(self, name: str, layers: range) -> str:
        """Attach a DIT adapter's mean effect on these layers to the model where it is not yet, and return its slot.

        Of one copy, over the questions of its task, as `mean_effect` has it. Worker's thread only.
        """
        from dit_core.engine.activations import EFFECT_PROMPTS, mean_effect

        def attach(slot: str) -> None:
            prompts = [self.model.encode(question) for question in self.questions_of(name)[:EFFECT_PROMPTS]]
            self.model.attach_vectors(slot, [mean_effect(self.model, prompts, self.hold_adapter(name), layers)])

        return self._hold(f"vectors-{name}-{layers.start}-{layers.stop}", name, attach)

    def hold_oracle(self, source: str | None = None) -> str:
        """Attach an activation oracle to the model where it is not yet, and return its slot. Worker's thread only.

        `source` is a folder or hub id; None for the suite's own oracle.

        Raises:
            OracleError: the oracle can't be read or does not fit the base.
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
        """Attach one diff, or several side by side in one block slot, to the model, and return the slot.

        There is one slot per rank, so that changing diffs copies tensors and never touches the model's modules. All
        diffs of full weights share one slot, as each is as large as the model. Worker's thread only.
        """
        key = tuple(info.id for info in infos)
        if not all(info.rank for info in infos):
            slot = "whole"
        else:
            slot = f"diff-{infos[0].rank}" if len(infos) == 1 else "diffs"
        _LOADED_BASE.get(self._key, self._load).past_diffs.setdefault(slot, set()).update(key)
        if slot.startswith("diff-"):
            return self._hold(slot, key, lambda slot: self.model.attach(slot, self.load_diff(infos[0])))
        return self._hold(
            slot, key, lambda slot: self.model.attach_block(slot, [self.load_diff(info) for info in infos])
        )

    def _hold(self, slot: str, key: Hashable, attach: Callable[[str], None]) -> str:
        held, key = self._held, (self._owner, key)
        if held.get(slot) != key:
            held.pop(slot, None)  # even where attaching fails, the slot does not hold its old content
            attach(slot)
            held[slot] = key
        return slot
