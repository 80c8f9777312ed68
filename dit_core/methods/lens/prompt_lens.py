"""What happens at a prompt's tokens, layer by layer: the rank of what comes next, and the size of a diff's change."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from dit_core.engine.activations import parse_layers
from dit_core.errors import DitError, checked_integer
from dit_core.methods.sampling import Diffs, Layers
from dit_core.records import NextToken, Norm, Table
from dit_core.request.conditions import acting_diffs, row_strengths
from dit_core.request.targets import (
    Questions,
    TargetTokens,
    depth_percent,
    target_activations,
    target_rows,
    tokenize_targets,
)
from dit_core.suite import Suite
from dit_core.suite.offload import at_model


@at_model
def next_tokens(
    suite: Suite,
    diff: Diffs = None,
    *,
    condition: Any = None,
    asked: Questions = None,
    seed: int = 0,
    layers: Layers = "all",
    answer_tokens: int = 1,
    reference: bool = False,
) -> Table[NextToken]:
    """Return the rank and probability, at every layer, of the token with which a condition's answer begins.

    Read at the prompt's last token by logit lens (final norm and unembedding of a layer's output), all conditions and
    layers in one forward pass. The answer is the greedy one; where it is empty, its token is the one that ends the
    turn.

    Args:
        suite: what `load_suite` gave.
        diff: ids or references; none reads the base (and DIT adapters) alone.
        condition: conditions in their written form, or `Condition`s; by default `diff`, or `base` without a diff.
        asked: the question, or questions by diff id; by default that of the diff's task.
        seed: of the digits around triggers; 0 by default.
        layers: `all` (the default), numbers, or text like `0,3-5` or `25%,50%`.
        answer_tokens: how many of the answer's tokens to follow, each at the position before it; 1 by default.
        reference: whether to follow the first token of the diff's reference too, which tells what was hidden.

    Returns:
        One record per diff × condition × layer × token followed.

    Raises:
        DitError: what was asked makes no sense for this base, or a file is missing or damaged.
    """
    targets = target_rows(suite, diff, condition, asked, seed)
    count = checked_integer(answer_tokens, "The number of answer tokens", 1, 1000)
    if reference and diff is None:
        raise DitError("The reference's token belongs to a diff: choose a diff, or leave the reference out.")

    def compute() -> tuple[NextToken, ...]:
        numbers = parse_layers(suite.model, layers)
        # The token behind the last one read needs no generating: it is the likeliest at the last layer.
        answered = tokenize_targets(suite, targets, seed, count - 1)
        last = len(suite.model.layers) - 1
        places = [range(aim.prompt_tokens - 1, len(aim.ids)) for aim in answered]
        hidden = target_activations(suite, answered, places, sorted({*numbers, last}))
        return tuple(
            record
            for aim, positions, own in zip(answered, places, hidden, strict=True)
            for record in next_token_records(suite, aim, positions, own, numbers, reference)
        )

    return suite.table("next_tokens", suite.worker.run(compute), {"sampling": {"seed": seed}})


def _acting_behind_blocks(suite: Suite, aim: TargetTokens) -> AbstractContextManager[object]:
    """Return a context in which whole weights change norm and unembedding too, as in the model itself."""
    if all(info.rank for info in acting_diffs(suite, aim.info, aim.condition)):
        return nullcontext()
    return suite.model.strengths(row_strengths(suite, [(aim.info, aim.condition)]))


def next_token_records(
    suite: Suite, aim: TargetTokens, positions: Sequence[int], hidden: Tensor, layers: Sequence[int], reference: bool
) -> Iterator[NextToken]:
    """Yield the records of one target. Worker's thread only.

    `hidden` is [layers, positions, d_model], the last layer behind those of `layers` where that is not among them.
    """
    model, acting = suite.model, _acting_behind_blocks(suite, aim)
    with acting:
        answer = [*aim.ids[aim.prompt_tokens :], int(model.unembed(hidden[-1, -1]).argmax())]
    followed = [("answer", answer)]
    if reference and aim.info and aim.info.reference:
        first = model.tokenizer.encode(aim.info.reference, add_special_tokens=False)[0]
        followed.append(("reference", [first] * len(positions)))
    diff = aim.info.id if aim.info else ""
    for layer, own in zip(layers, hidden, strict=False):
        with acting:
            logits = model.unembed(own).cpu()
        probabilities = logits.softmax(-1)
        for what, tokens in followed:
            for at, (token, piece) in enumerate(zip(tokens, model.pieces(tokens), strict=True)):
                yield NextToken(
                    diff=diff,
                    condition=str(aim.condition),
                    asked=aim.asked,
                    layer=layer,
                    depth_percent=depth_percent(suite, layer),
                    position=positions[at],
                    what=what,
                    token=piece,
                    rank=int((logits[at] > logits[at, token]).sum()),
                    probability=float(probabilities[at, token]),
                )


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
