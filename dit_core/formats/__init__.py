"""Adapter files there are, to and from one `Adapter` in memory: named low-rank factors.

Knows files and no models: the published layout (`index.csv`, `weight-diffs/*.pt`, `dit-adapter.pt`)
and PEFT adapter folders. Nobody's pickle is ever loaded without `weights_only=True`, and whatever is
wrong with a file is said as a `DitError`.
"""

from dit_core.formats.adapter import Adapter
from dit_core.formats.peft_folder import read_peft, write_peft
from dit_core.formats.published import (
    IndexRow,
    read_dit_adapter,
    read_index,
    read_weight_diff,
    write_dit_adapter,
    write_index,
    write_weight_diffs,
)

__all__ = [
    "Adapter",
    "IndexRow",
    "read_dit_adapter",
    "read_index",
    "read_peft",
    "read_weight_diff",
    "write_dit_adapter",
    "write_index",
    "write_peft",
    "write_weight_diffs",
]
