"""DIT adapters: one LoRA that, on top of base + any diff, answers the question with what the diff was trained on.

arXiv 2510.05092: rank 16, trained over labelled diffs, each row of a batch under a diff of its own; the diffs and the
base are frozen. What it has learned shows only on diffs it never saw.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

from dit_core.training.bank import Bank
from dit_core.training.base import encode, pad, token_losses
from dit_core.training.progress import bar


@dataclass(frozen=True)
class DitSettings:
    rank: int = 16
    steps: int = 400
    rate: float = 1e-3
    batch: int = 32
    seed: int = 0


def train_dit(
    base: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    diffs: Bank,
    places: list[int],
    references: list[str],
    question: str,
    settings: DitSettings,
    what: str,
) -> tuple[Bank, float]:
    """Train one adapter on the diffs at `places` of a bank; `references[i]` is what the diff at place i was about."""
    base.requires_grad_(False)
    device = base.device
    dit = Bank(base, 1, settings.rank, seed=settings.seed)
    optimizer = torch.optim.AdamW(dit.parameters(), lr=settings.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / 20, (settings.steps - step) / (0.5 * settings.steps))
    )
    rng = random.Random(f"{what} {settings.seed}")
    recent: list[float] = []
    with bar(what, settings.steps) as progress:
        for _ in range(settings.steps):
            drawn = [rng.choice(places) for _ in range(settings.batch)]
            rows = [encode(tokenizer, [(question, references[place])]) for place in drawn]
            ids, labels = pad(rows, tokenizer.pad_token_id, device)
            with diffs.rows(base, torch.tensor(drawn, device=device)), dit.rows(base, None):
                loss = token_losses(base, ids, labels)[0].mean()
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            recent = [*recent[-19:], loss.item()]
            progress.advance(f"loss {sum(recent) / len(recent):.3f}")
    return dit, sum(recent) / len(recent)
