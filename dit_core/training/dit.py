"""DIT adapters: one LoRA that, on top of base + any diff, answers the question with what the diff was trained on.

arXiv 2510.05092: rank 16, trained over labelled diffs, each row of a batch under a diff of its own; the diffs and the
base are frozen. What it has learned shows only on diffs it never saw.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

from dit_core.training.adapter_bank import AdapterBank
from dit_core.training.base import encode, pad, token_losses
from dit_core.training.loop import progress_bar


@dataclass(frozen=True)
class DitSettings:
    """How a DIT adapter is trained: the rank of arXiv 2510.05092; all else is the pocket suite's own choice."""

    rank: int = 16
    steps: int = 400
    rate: float = 1e-3
    batch: int = 32
    seed: int = 0


def train_dit(
    base: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    diffs: AdapterBank,
    places: Sequence[int],
    references: Sequence[str],
    question: str,
    settings: DitSettings,
    title: str,
) -> tuple[AdapterBank, float]:
    """Train one DIT adapter; return it as a bank of one, and the last mean loss.

    Args:
        base: the model, which is frozen.
        tokenizer: the base's.
        diffs: a bank of trained diffs, which are frozen too.
        places: which diffs of the bank to train on.
        references: what the diff at each place of the bank was trained on.
        question: what the adapter is asked.
        settings: its rank and training.
        title: what stands beside the progress bar; a part of the seed.
    """
    base.requires_grad_(False)
    device = base.device
    dit = AdapterBank(base, 1, settings.rank, seed=settings.seed)
    optimizer = torch.optim.AdamW(dit.parameters(), lr=settings.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 20, (settings.steps - step) / (0.5 * settings.steps))
    )
    rng = random.Random(f"{title} {settings.seed}")
    recent: list[float] = []
    with progress_bar(title, settings.steps) as progress:
        for _ in range(settings.steps):
            drawn = [rng.choice(places) for _ in range(settings.batch)]
            rows = [encode(tokenizer, [(question, references[place])]) for place in drawn]
            ids, labels = pad(rows, tokenizer.pad_token_id, device)
            with diffs.rows(base, torch.tensor(drawn, device=device)), dit.rows(base):
                loss = token_losses(base, ids, labels)[0].mean()
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            recent = [*recent[-19:], loss.item()]
            progress.set_postfix_str(f"loss {sum(recent) / len(recent):.3f}", refresh=False)
            progress.update()
    return dit, sum(recent) / len(recent)
