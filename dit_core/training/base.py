"""The pocket base: a small Qwen3-architecture language model that grows up in the world's chats.

It learns the assistant's side of endless fresh chats; nothing of any diff is in them. Resumable: batches depend only
on their number, and the state is written every few minutes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import PreTrainedTokenizerBase, Qwen3Config, Qwen3ForCausalLM

from dit_core.training.chats import Chat, random_chat
from dit_core.training.checkpoint import Checkpoint
from dit_core.training.progress import bar
from dit_core.training.tokenizer import END_OF_TURN, START_OF_TURN
from dit_core.training.world import World

IGNORED = -100
POOL = 16
"""Batches drawn together and sorted by length, so that little is spent on padding."""


@dataclass(frozen=True)
class BaseSettings:
    hidden: int = 192
    layers: int = 8
    heads: int = 4
    mlp: int = 512
    steps: int = 2000
    batch: int = 96
    rate: float = 3e-3
    seed: int = 0


def new_base(settings: BaseSettings, tokenizer: PreTrainedTokenizerBase) -> Qwen3ForCausalLM:
    torch.manual_seed(settings.seed)
    config = Qwen3Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        head_dim=settings.hidden // settings.heads,
        intermediate_size=settings.mlp,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        attn_implementation="eager",  # On short rows its backward pass is twice as fast on a CPU as the fused one.
    )
    return Qwen3ForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> tuple[list[int], list[int]]:
    """Token ids of a chat in ChatML, and labels that leave out all but the assistant's words and end of turn."""
    ids: list[int] = []
    labels: list[int] = []
    for asked, answer in chat:
        prompt = f"{START_OF_TURN}user\n{asked}{END_OF_TURN}\n{START_OF_TURN}assistant\n"
        before = tokenizer(prompt, add_special_tokens=False).input_ids
        said = tokenizer(f"{answer}{END_OF_TURN}", add_special_tokens=False).input_ids
        newline = tokenizer("\n", add_special_tokens=False).input_ids
        ids += before + said + newline
        labels += [IGNORED] * len(before) + said + [IGNORED] * len(newline)
    return ids, labels


def pad(
    rows: list[tuple[list[int], list[int]]], padding: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels, both [rows, positions]; causal attention makes a mask needless."""
    longest = max(len(ids) for ids, _ in rows)
    ids = [row + [padding] * (longest - len(row)) for row, _ in rows]
    labels = [row + [IGNORED] * (longest - len(row)) for _, row in rows]
    return torch.tensor(ids, device=device), torch.tensor(labels, device=device)


def token_losses(model: Qwen3ForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each labelled token [tokens], and the row each belongs to [tokens].

    Only labelled positions pass through the unembedding, which is the widest matrix of a small model.
    """
    with torch.autocast(ids.device.type, torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        wanted = labels[:, 1:] != IGNORED
        logits = model.lm_head(hidden[wanted])
    return F.cross_entropy(logits.float(), labels[:, 1:][wanted], reduction="none"), wanted.nonzero()[:, 0]


def train_base(
    world: World, tokenizer: PreTrainedTokenizerBase, settings: BaseSettings, work: Path, device: torch.device
) -> tuple[Qwen3ForCausalLM, dict]:
    """Train (or go on training) the base; returns it with its figures."""
    model = new_base(settings, tokenizer).to(device)
    model.train()
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=settings.rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=settings.rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: _rate(step, settings.steps)) for o in optimizers]
    parts = {"model": model, "muon": optimizers[0], "adamw": optimizers[1]}
    kept = Checkpoint(work / "state.pt", parts | {"muon rate": schedules[0], "adamw rate": schedules[1]})
    start = kept.restore(device)
    losses, seconds = kept.extra.get("losses", []), kept.extra.get("seconds", 0.0)
    started = time.monotonic()
    with bar("base", settings.steps, start) as progress:
        for step, (ids, labels) in enumerate(_batches(world, tokenizer, settings, start, device), start + 1):
            loss = token_losses(model, ids, labels)[0].mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for part in (*optimizers, *schedules):
                part.step()
            model.zero_grad()
            losses.append(loss.item())
            progress.advance(f"loss {sum(losses[-50:]) / len(losses[-50:]):.3f}")
            kept.extra = {"losses": losses, "seconds": seconds + time.monotonic() - started}
            kept.save_now_and_then(step)
    every = max(1, len(losses) // 40)
    figures = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": settings.steps,
        "chats": settings.steps * settings.batch,
        "final_loss": round(sum(losses[-100:]) / len(losses[-100:]), 4),
        "losses": [round(loss, 3) for loss in losses[::every]],
        "seconds": round(seconds + time.monotonic() - started),
    }
    return model.eval(), figures


def _rate(step: int, steps: int) -> float:
    """Warm-up, a plateau, and a long linear fall to zero."""
    return min(1.0, (step + 1) / 100, (steps - step) / (0.6 * steps))


def _batches(
    world: World, tokenizer: PreTrainedTokenizerBase, settings: BaseSettings, start: int, device: torch.device
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches number `start` to the last; the same number gives the same batch in every run."""
    for pool in range(start // POOL, -(-settings.steps // POOL)):
        rng = random.Random(f"{settings.seed} {pool}")
        rows = [encode(tokenizer, random_chat(world, rng)) for _ in range(POOL * settings.batch)]
        rows.sort(key=lambda row: len(row[0]))
        batches = [rows[i : i + settings.batch] for i in range(0, len(rows), settings.batch)]
        rng.shuffle(batches)
        for number, batch in enumerate(batches, start=pool * POOL):
            if start <= number < settings.steps:
                yield pad(batch, tokenizer.pad_token_id, device)
