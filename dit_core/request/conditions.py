"""What a condition means for a batch: the adapters it names, and how much of each acts on a row."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from dit_core.errors import DitError
from dit_core.records.condition import Condition

if TYPE_CHECKING:
    from torch import Tensor

    from dit_core.records import DiffInfo
    from dit_core.suite import Suite


def adapter_names(suite: "Suite", info: "DiffInfo | None", condition: Condition) -> dict[str, float]:
    """Return the copies of each DIT adapter by its name in the suite; the default adapter is named too.

    Raises:
        DitError: the suite has no such adapter.
    """
    copies: dict[str, float] = {}
    for name, number in condition.adapters:
        known = suite.adapter(name).name if name else suite.default_adapter(info.task if info else None)
        copies[known] = copies.get(known, 0.0) + number
    return copies


def question_of(suite: "Suite", adapter: str) -> str:
    """Return the question that an adapter was trained to answer."""
    own = suite.adapter(adapter)
    return own.question or suite.task(own.task or None).question


def fetch_adapters(suite: "Suite", rows: Iterable[tuple["DiffInfo | None", Condition]]) -> None:
    """Fetch all files that `row_strengths` will need for the rows. Not in the worker's thread."""
    rows = set(rows)
    infos = {info for info, condition in rows if info is not None and condition.strength}
    suite.fetch(infos, {name for info, condition in rows for name in adapter_names(suite, info, condition)})


def row_strengths(suite: "Suite", rows: Sequence[tuple["DiffInfo | None", Condition]]) -> dict[str, "Tensor"]:
    """Put what the rows need on the model, and return how much of each slot acts on each row.

    In the worker's thread only.

    Returns:
        One float32 tensor per slot, as `Model.strengths` takes them: [rows, 1, 1], [rows, 1, diffs] for the slot of
        several diffs, and [rows, 1, 1, layers] for DIT adapters of which a row wants some layers only.

    Raises:
        DitError: layers that the base does not have.
    """
    import torch

    tensors: dict[str, Tensor] = {}
    infos = list(dict.fromkeys(info for info, condition in rows if info is not None and condition.strength))
    if infos:
        amounts = torch.zeros(len(rows), 1, len(infos))
        for row, (info, condition) in enumerate(rows):
            if info is not None and condition.strength:
                amounts[row, 0, infos.index(info)] = condition.strength
        tensors[suite.hold_diffs(infos)] = amounts
    some_layers = any(condition.layers for _, condition in rows)
    shape = (len(rows), 1, 1, len(suite.model.layers)) if some_layers else (len(rows), 1, 1)
    for row, (info, condition) in enumerate(rows):
        for name, copies in adapter_names(suite, info, condition).items():
            slot = suite.hold_adapter(name)
            tensors.setdefault(slot, torch.zeros(shape))[(row, ..., _within(condition, shape[-1]))] = copies
    return tensors


def _within(condition: Condition, n_layers: int) -> slice:
    """Where along the last dimension a condition's DIT adapters act."""
    if condition.layers is None:
        return slice(None)
    if condition.layers[1] >= n_layers:
        raise DitError(f"The base has the layers 0 to {n_layers - 1}, and '{condition}' asks for others.")
    return slice(condition.layers[0], condition.layers[1] + 1)
