"""Adapter files there are, to and from one `Adapter` in memory: named low-rank factors, whole weights, or both.

Knows files and no models: the published layout (`index.csv`, `weight-diffs/*.pt`, `dit-adapter.pt`), PEFT adapter
folders, whole checkpoints, and zips of any of these. Nobody's pickle is ever loaded without `weights_only=True`, and
whatever is wrong with a file is said as a `DitError`.
"""

from dit_core.formats.adapter import Adapter, is_finite, low_rank_norm
from dit_core.formats.adapter_file import KINDS, AdapterFile, StoredAdapter, identify, open_adapter_file
from dit_core.formats.checkpoint import read_checkpoint
from dit_core.formats.files import unpack
from dit_core.formats.peft_folder import read_peft, write_peft
from dit_core.formats.published import (
    IndexRow,
    count_weight_diffs,
    read_dit_adapter,
    read_index,
    read_weight_diff,
    write_dit_adapter,
    write_index,
    write_weight_diffs,
)

__all__ = [
    "KINDS",
    "Adapter",
    "StoredAdapter",
    "AdapterFile",
    "IndexRow",
    "count_weight_diffs",
    "identify",
    "is_finite",
    "low_rank_norm",
    "open_adapter_file",
    "read_checkpoint",
    "read_dit_adapter",
    "read_index",
    "read_peft",
    "read_weight_diff",
    "unpack",
    "write_dit_adapter",
    "write_index",
    "write_peft",
    "write_weight_diffs",
]
