"""Where a diff acts: the size of the change in the residual stream, by layer and token of the prompt."""

from typing import Any

import torch

from dit_core.engine.activations import parse_layers
from dit_core.methods.sampling import Diffs, Layers
from dit_core.records import Norm, Table
from dit_core.request.targets import Questions, depth_percent, target_activations, target_rows, tokenize_targets
from dit_core.suite import Suite
from dit_core.suite.offload import at_model


@at_model
def norms(
    suite: Suite,
    diff: Diffs = None,
    *,
    condition: Any = None,
    asked: Questions = None,
    seed: int = 0,
    layers: Layers = "all",
) -> Table[Norm]:
    """Return how much conditions change the residual stream, one record per diff × condition × layer × prompt token.

    Norms are Euclidean, of (condition - base) and of the base on the same tokens, the chat template's own among them.
    Arguments and DitErrors are those of `next_tokens`.
    """
    targets = target_rows(suite, diff, condition, asked, seed)

    def compute() -> tuple[Norm, ...]:
        numbers = parse_layers(suite.model, layers)
        prompts = tokenize_targets(suite, targets, seed)
        places = [range(aim.prompt_tokens) for aim in prompts]
        with_condition, without = (
            target_activations(suite, prompts, places, numbers, kind) for kind in ("with", "without")
        )
        records = []
        for aim, changed, plain in zip(prompts, with_condition, without, strict=True):
            norms = (changed - plain).norm(dim=-1).tolist()
            base_norms = plain.norm(dim=-1).clamp(min=torch.finfo(plain.dtype).tiny).tolist()
            diff_id = aim.info.id if aim.info else ""
            for layer, own, base in zip(numbers, norms, base_norms, strict=True):
                where = (diff_id, str(aim.condition), aim.asked, layer, depth_percent(suite, layer))
                records += [
                    Norm(*where, position, norm, base_norm, norm / base_norm)
                    for position, (norm, base_norm) in enumerate(zip(own, base, strict=True))
                ]
        return tuple(records)

    return suite.table("norms", suite.worker.run(compute), {"sampling": {"seed": seed}})
