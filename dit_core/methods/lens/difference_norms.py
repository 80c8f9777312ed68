"""Where a diff acts: the size of the change in the residual stream, by layer and token of the prompt."""

from typing import Any

import torch

from dit_core.engine.activations import checked_layers
from dit_core.methods.verbalize import Diffs
from dit_core.records import Norm, Table
from dit_core.request.targets import Asked, activations, aims, depth_percent, target_rows
from dit_core.suite import Suite
from dit_core.suite.offload import at_model


@at_model
def norms(
    suite: Suite,
    diff: Diffs = None,
    *,
    condition: Any = None,
    asked: Asked = None,
    seed: int = 0,
    layers: Any = "all",
) -> Table[Norm]:
    """How much conditions change the residual stream, one record per diff × condition × layer × prompt token.

    The chat template's own tokens are among them. Arguments and DitErrors are those of `next_tokens`.
    """
    targets = target_rows(suite, diff, condition, asked, seed)

    def found() -> tuple[Norm, ...]:
        numbers = checked_layers(suite.model, layers)
        read = aims(suite, targets, seed)
        places = [range(aim.prompt_tokens) for aim in read]
        with_it, without = (activations(suite, read, places, numbers, kind) for kind in ("with", "without"))
        records = []
        for aim, changed, plain in zip(read, with_it, without, strict=True):
            sizes = (changed - plain).norm(dim=-1), plain.norm(dim=-1).clamp(min=torch.finfo(plain.dtype).tiny)
            diff_id = aim.info.id if aim.info else ""
            for layer, ours, theirs in zip(numbers, *(size.tolist() for size in sizes), strict=True):
                where = (diff_id, str(aim.condition), aim.asked, layer, depth_percent(suite, layer))
                records += [
                    Norm(*where, position, norm, base_norm, norm / base_norm)
                    for position, (norm, base_norm) in enumerate(zip(ours, theirs, strict=True))
                ]
        return tuple(records)

    return suite.table("norms", suite.worker.run(found), {"sampling": {"seed": seed}})
