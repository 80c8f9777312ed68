"""The one base that is loaded at a time, and what its adapter slots hold.

Suites of the same base share it, with the adapters that are attached to it; another base unloads the one before.
"""

import gc
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
            give_back_memory()
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


def give_back_memory() -> None:
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
