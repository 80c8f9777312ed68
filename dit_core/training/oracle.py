"""The pocket oracle: a LoRA on the pocket base that answers questions about the base's own activations.

Method: arXiv 2512.15674. Only the base is ever read in training, never a finetuned model: whatever the oracle tells of
diffs, it has to carry over. What is kept is the mean of the weights at the end of each round of training (stochastic
weight averaging, arXiv 1803.05407): on calibration diffs it reads better than any of them alone.
"""

from __future__ import annotations

import random
import time
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

from dit_core.engine.activations import injecting, recording
from dit_core.engine.model import Model
from dit_core.methods.oracle import oracle_prompt
from dit_core.training.bank import Bank
from dit_core.training.base import IGNORED, pad, token_losses
from dit_core.training.checkpoint import Checkpoint
from dit_core.training.lessons import Lesson, Teacher, Text
from dit_core.training.progress import bar
from dit_core.training.world import World

TOGETHER = 16
"""Rows of one forward pass; their gradients add up to a batch's."""


@dataclass(frozen=True)
class Round:
    """A stretch of training, at the end of which the learning rate is down to nothing."""

    steps: int
    made_up: float
    """The share of texts on topics with made-up names."""


@dataclass(frozen=True)
class OracleSettings:
    rank: int = 32
    rounds: tuple[Round, ...] = (Round(3000, 0.0), Round(1500, 0.0), Round(1000, 0.4), Round(2000, 0.25))
    rate: float = 8e-3
    texts: int = 16
    lessons: int = 4
    """Of each text, all of different spans and layers."""
    block: int = 1
    seed: int = 0

    @property
    def ends(self) -> list[int]:
        """The step that each round ends at."""
        return list(accumulate(one.steps for one in self.rounds))

    def round_at(self, step: int) -> int:
        """Which round a step belongs to."""
        return bisect_right(self.ends, step)

    def rate_at(self, step: int) -> float:
        """The learning rate as a share of `rate`: as if all training so far were for the end of the round."""
        end = next((end for end in self.ends if step < end), step)
        return min(1.0, (step + 1) / 100, (end - step) / (0.6 * end))


def train_oracle(
    base: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    world: World,
    settings: OracleSettings,
    state_file: Path,
) -> tuple[Bank, dict]:
    """Train (or go on training) the oracle; returns it with its figures."""
    model = Model(base, tokenizer)
    teachers = [Teacher(world, tokenizer, one.made_up) for one in settings.rounds]
    oracle = Bank(base, 1, settings.rank, seed=settings.seed)
    optimizer = torch.optim.AdamW(oracle.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, settings.rate_at)
    mean, steps = AveragedModel(oracle), settings.ends[-1]
    kept = Checkpoint(state_file, {"oracle": oracle, "mean": mean, "adamw": optimizer, "rate": schedule})
    start = kept.restore(base.device)
    losses, seconds = kept.extra.get("losses", []), kept.extra.get("seconds", 0.0)
    started = time.monotonic()
    with bar("oracle", steps, start) as progress:
        for step in range(start, steps):
            teacher = teachers[settings.round_at(step)]
            loss = _step(model, oracle, teacher, settings, random.Random(f"oracle {settings.seed} {step}"))
            torch.nn.utils.clip_grad_norm_(oracle.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if step + 1 in settings.ends:
                mean.update_parameters(oracle)
            losses.append(loss)
            progress.advance(f"loss {sum(losses[-50:]) / len(losses[-50:]):.3f}")
            kept.extra = {"losses": losses, "seconds": seconds + time.monotonic() - started}
            kept.save_now_and_then(step + 1)
    kept.save(steps)
    every = max(1, len(losses) // 40)
    figures = {
        "readings": steps * settings.texts * settings.lessons,
        "final_loss": round(sum(losses[-100:]) / len(losses[-100:]), 4),
        "losses": [round(loss, 3) for loss in losses[::every]],
        "seconds": round(seconds + time.monotonic() - started),
    }
    return mean.module, figures


def _step(model: Model, oracle: Bank, teacher: Teacher, settings: OracleSettings, rng: random.Random) -> float:
    """One batch: the base reads texts, the oracle answers questions on them; the gradient is left on the oracle."""
    texts = [teacher.text(rng) for _ in range(settings.texts)]
    lessons = [[teacher.lesson(text, rng) for _ in range(settings.lessons)] for text in texts]
    layers = [[rng.randrange(len(model.layers)) for _ in own] for own in lessons]
    taken = _residuals(model, texts)
    rows = []
    for at, own in enumerate(lessons):
        for lesson, layer in zip(own, layers[at], strict=True):
            ids, run = oracle_prompt(model, layer, len(lesson.positions), lesson.question)
            rows.append((*_row(model.tokenizer, ids, lesson), run, taken[layer][at, lesson.positions]))
    # Short rows with short ones: little is spent on padding.
    rows.sort(key=lambda row: len(row[0]))
    parts = [rows[start : start + TOGETHER] for start in range(0, len(rows), TOGETHER)]
    return sum(_learn(model, oracle, part, settings.block, len(part) / len(rows)) for part in parts)


def _learn(model: Model, oracle: Bank, rows: list[tuple], block: int, share: float) -> float:
    """The loss of rows (ids, labels, placeholders, vectors), every row counting the same however long its answer is."""
    ids, labels = pad([row[:2] for row in rows], model.tokenizer.pad_token_id, model.device)
    places, vectors = [row[2] for row in rows], [row[3] for row in rows]
    # Rows stand at the left here: as if each were as long as the batch is wide.
    with injecting(model, [ids.shape[1]] * len(rows), places, vectors, block), oracle.rows(model.base, None):
        losses, owners = token_losses(model.base, ids, labels)
    weights = torch.bincount(owners, minlength=len(rows)).float().reciprocal()[owners] * share / len(rows)
    loss = (losses * weights).sum()
    loss.backward()
    return loss.item()


def _residuals(model: Model, texts: list[Text]) -> dict[int, Tensor]:
    """The base's residual stream of every text, by layer: [texts, positions, d_model]."""
    ids, _ = pad([(text.ids, []) for text in texts], model.tokenizer.pad_token_id, model.device)
    widths = [ids.shape[1]] * len(texts)
    everywhere = [range(ids.shape[1])] * len(texts)
    with torch.no_grad(), recording(model, widths, everywhere, range(len(model.layers))) as taken:
        model.base.model(input_ids=ids, use_cache=False)
    return taken


def _row(tokenizer: PreTrainedTokenizerBase, prompt: list[int], lesson: Lesson) -> tuple[list[int], list[int]]:
    said = [*tokenizer(lesson.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    return prompt + said, [IGNORED] * len(prompt) + said
