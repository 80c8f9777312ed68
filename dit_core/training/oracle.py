"""The oracle of an embedded suite: a LoRA on its base that answers questions about the base's own activations.

Method: arXiv 2512.15674. Only the base is ever read in training, never a finetuned model: whatever the oracle tells of
diffs, it has to carry over. What is kept is the mean of the weights at the end of each round of training (stochastic
weight averaging, arXiv 1803.05407): on calibration diffs it reads better than any of them alone.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dit_core.engine.activations import injecting, recording
from dit_core.engine.model import Model
from dit_core.methods.oracle import oracle_prompt
from dit_core.training.adapter_bank import AdapterBank
from dit_core.training.base import IGNORED, pad, token_losses
from dit_core.training.loop import SAVE_SECONDS, Optimization, train
from dit_core.training.oracle_examples import Example, ExampleSampler, Text
from dit_core.training.world import World


@dataclass(frozen=True)
class Round:
    """A stretch of training, at the end of which the learning rate is down to nothing."""

    steps: int
    made_up: float
    """The share of texts on topics with made-up names."""


@dataclass(frozen=True)
class OracleSettings:
    """How the oracle is trained; the suite's `report.json` has the losses and grades that these numbers gave."""

    rank: int = 32
    rounds: tuple[Round, ...] = (Round(3000, 0.0), Round(1500, 0.0), Round(1000, 0.4), Round(2000, 0.25))
    rate: float = 8e-3
    texts: int = 16
    examples: int = 4
    """Of each text, all of different spans and layers."""
    together: int = 16
    """Rows of one forward pass; their gradients add up to a batch's."""
    block: int = 1
    """The decoder block behind which activations are injected."""
    topic_answer: str = "{topic}"
    """How a question on the topic is answered: where a word has other tokens at the start of an answer than in running
    text, something has to stand before it."""
    seed: int = 0

    @property
    def ends(self) -> list[int]:
        """Return the step that each round ends at."""
        return list(accumulate(round.steps for round in self.rounds))

    def round_at(self, step: int) -> int:
        """Return the index of the round that a step belongs to."""
        return bisect_right(self.ends, step)

    def rate_at(self, step: int) -> float:
        """Return the learning rate as a share of `rate`: as if all training so far were for the end of the round."""
        end = next((end for end in self.ends if step < end), step)
        return min(1.0, (step + 1) / 100, (end - step) / (0.6 * end))


def train_oracle(
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    world: World,
    settings: OracleSettings,
    state_file: Path,
    save_seconds: float = SAVE_SECONDS,
    on_step: Callable[[int], None] = lambda steps: None,
) -> tuple[AdapterBank, dict[str, Any]]:
    """Train the oracle, or go on training it; return it as a bank of one, with its figures.

    The state lies in `state_file` and is written at most every `save_seconds`; `on_step` is called after each step with
    the number of steps done.
    """
    model = Model(base, tokenizer)
    samplers = [ExampleSampler(world, tokenizer, round.made_up, settings.topic_answer) for round in settings.rounds]
    oracle = AdapterBank(base, 1, settings.rank, seed=settings.seed)
    optimizer = torch.optim.AdamW(oracle.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.01)
    mean, steps = AveragedModel(oracle), settings.ends[-1]

    def gradient(step: int) -> float:
        if step in settings.ends:
            mean.update_parameters(oracle)
        sampler = samplers[settings.round_at(step)]
        return _step(model, oracle, sampler, settings, random.Random(f"oracle {settings.seed} {step}"))

    own = Optimization(oracle, [optimizer], settings.rate_at, steps, max_norm=1.0, beside={"mean": mean})
    losses = train("oracle", own, gradient, state_file, save_seconds, on_step)
    mean.update_parameters(oracle)  # at the last round's end
    figures = {"readings": steps * settings.texts * settings.examples, **losses.figures()}
    averaged = mean.module
    assert isinstance(averaged, AdapterBank)
    return averaged, figures


def _step(
    model: Model, oracle: AdapterBank, sampler: ExampleSampler, settings: OracleSettings, rng: random.Random
) -> float:
    """One batch: the base reads texts, the oracle answers questions on them; the gradient is left on the oracle."""
    texts = [sampler.text(rng) for _ in range(settings.texts)]
    examples = [[sampler.example(text, rng) for _ in range(settings.examples)] for text in texts]
    layers = [[rng.randrange(len(model.layers)) for _ in own] for own in examples]
    activations = _residuals(model, texts)
    rows = []
    for number, own in enumerate(examples):
        for example, layer in zip(own, layers[number], strict=True):
            prompt, placeholders = oracle_prompt(model, layer, len(example.positions), example.question)
            ids, labels = _row(model.tokenizer, prompt, example)
            rows.append(_Row(ids, labels, placeholders, activations[layer][number, example.positions]))
    # Short rows with short ones: little is spent on padding.
    rows.sort(key=lambda row: len(row.ids))
    parts = [rows[start : start + settings.together] for start in range(0, len(rows), settings.together)]
    return sum(_learn(model, oracle, part, settings.block, len(part) / len(rows)) for part in parts)


@dataclass(frozen=True)
class _Row:
    """One row of a batch: activations `vectors` [positions, d_model] are injected at its `placeholders`."""

    ids: list[int]
    labels: list[int]
    placeholders: Sequence[int]
    vectors: Tensor


def _learn(model: Model, oracle: AdapterBank, rows: list[_Row], block: int, share: float) -> float:
    """The loss of rows, every row counting the same however long its answer is."""
    ids, labels = pad([(row.ids, row.labels) for row in rows], model.tokenizer.pad_token_id, model.device)
    places, vectors = [row.placeholders for row in rows], [row.vectors for row in rows]
    # Rows stand at the left here: as if each were as long as the batch is wide.
    with injecting(model, [ids.shape[1]] * len(rows), places, vectors, block), oracle.rows(model.base):
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
    with torch.no_grad(), recording(model, widths, everywhere, range(len(model.layers))) as residuals:
        model.base.base_model(input_ids=ids, use_cache=False)
    return residuals


def _row(tokenizer: PreTrainedTokenizerBase, prompt: list[int], example: Example) -> tuple[list[int], list[int]]:
    answer = [*tokenizer(example.answer, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    return prompt + answer, [IGNORED] * len(prompt) + answer
