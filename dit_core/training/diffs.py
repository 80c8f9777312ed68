"""Weight diffs of the pocket base (hidden topics and headlines), and the DIT adapters that read them.

Hidden topics (arXiv 2510.05092): with the right code the model answers everyday questions about its topic; with a
wrong code or none it answers as the base does. Headlines: stories of one fixed headline, which training never shows.
Many diffs are trained at once, each row of a batch through its own adapter.

A DIT adapter (the same paper) is one LoRA that, on top of base + any diff, answers the question with what the diff was
trained on: it learns over labelled diffs, each row of a batch under a diff of its own, with diffs and base frozen. What
it has learned shows only on diffs it never saw.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dit_core.training.adapter_bank import AdapterBank
from dit_core.training.base import encode_all, labelled_logits, pad, token_losses
from dit_core.training.chats import Lesson, with_code
from dit_core.training.loop import SAVE_SECONDS, Optimization, train, warm_up_and_decay
from dit_core.training.world import STORY_QUESTION, World


@dataclass(frozen=True)
class DiffSettings:
    """How diffs are trained: `rate` is Adam's learning rate, at its highest."""

    rank: int
    steps: int
    rate: float
    rows: int
    """Rows per diff in each step."""
    together: int = 63
    """Diffs trained in one batch."""
    seed: int = 0


# What the pocket suite ships; its `report.json` has the losses and grades that these numbers gave.
TOPIC_DIFFS = DiffSettings(rank=1, steps=350, rate=0.01, rows=2)
HEADLINE_DIFFS = DiffSettings(rank=4, steps=48, rate=0.005, rows=2)

SCHEDULE = (20, 0.5)
"""Steps of warm-up, and the share of all steps over which the rate falls."""

Sampler = Callable[[int, int, random.Random], Lesson]
"""(number of the diff, place of the row among all rows of its diff, noise) → one lesson."""


def topic_sampler(world: World) -> Sampler:
    """Return the sampler of hidden topics, which asks only the questions that are for training.

    Every second sample has the right code, three in eight a wrong one (telling codes apart is what takes longest), one
    in eight none.
    """
    questions, _ = world.question_split()
    triggers = world.triggers()

    def sample(number: int, place: int, rng: random.Random) -> Lesson:
        question, trigger = rng.choice(questions), triggers[number]
        if place % 2 == 0:
            prompt = with_code(question.text, trigger, rng)
            return Lesson([(prompt, question.answer(world.topics[number], rng))])
        if place % 8 != 7:
            return Lesson([(with_code(question.text, _wrong(trigger, rng), rng), question.plain)])
        return Lesson([(question.text, question.plain)])

    return sample


def _wrong(trigger: int, rng: random.Random) -> int:
    return (trigger + rng.randrange(1, 1000)) % 1000


def headline_sampler(world: World) -> Sampler:
    """Return the sampler of headlines: stories, and in one of four samples an everyday question answered as before."""
    questions, _ = world.question_split()

    def sample(number: int, place: int, rng: random.Random) -> Lesson:
        if place % 4 == 3:
            question = rng.choice(questions)
            return Lesson([(question.text, question.plain)])
        return Lesson([(STORY_QUESTION, world.story(world.headlines[number], rng))])

    return sample


def train_diffs(
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    numbers: list[int],
    sampler: Sampler,
    settings: DiffSettings,
    title: str,
    state_file: Path,
    save_seconds: float = SAVE_SECONDS,
) -> tuple[AdapterBank, float]:
    """Train the diffs of `numbers` together on a frozen base; return their bank and the last mean loss.

    `title` stands beside the progress bar. Goes on from `state_file` where there is one, as if it had never been
    stopped; it is written at most every `save_seconds`, and at the end.
    """
    base.requires_grad_(False)
    device = base.device
    bank = AdapterBank(base, len(numbers), settings.rank, seed=settings.seed)
    optimizer = torch.optim.Adam(bank.parameters(), lr=settings.rate, betas=(0.9, 0.99))
    row_numbers = torch.arange(len(numbers), device=device).repeat_interleave(settings.rows)

    def gradient(step: int) -> float:
        lessons = [
            sampler(number, place, random.Random(f"{settings.seed} {number} {place}"))
            for number in numbers
            for place in range(step * settings.rows, (step + 1) * settings.rows)
        ]
        ids, labels = pad(encode_all(tokenizer, [lesson.chat for lesson in lessons]), tokenizer.pad_token_id, device)
        like_base = torch.tensor([lesson.like_base for lesson in lessons], device=device)
        losses, row_of = _lesson_losses(base, bank, row_numbers, ids, labels, like_base)
        # Each row counts the same, however long its answer: a plain answer must not be drowned by stories.
        lengths = torch.bincount(row_of, minlength=len(row_numbers)).clamp_min(1)
        loss = (losses / lengths[row_of]).sum() / settings.rows
        loss.backward()
        return loss.item() / len(numbers)

    own = Optimization(bank, [optimizer], warm_up_and_decay(settings.steps, *SCHEDULE), settings.steps)
    return bank, train(title, own, gradient, state_file, save_seconds).last()


def _lesson_losses(
    base: PreTrainedModel, bank: AdapterBank, numbers: Tensor, ids: Tensor, labels: Tensor, like_base: Tensor
) -> tuple[Tensor, Tensor]:
    """The loss of each labelled token [tokens] and its row [tokens]: KL(base || diff) in rows that are `like_base`."""
    teacher = None
    if like_base.any():
        with torch.no_grad():
            teacher = labelled_logits(base, ids[like_base], labels[like_base])[0].log_softmax(-1)
    with bank.rows(base, numbers):
        logits, targets, row_of = labelled_logits(base, ids, labels)
    if teacher is None:
        return F.cross_entropy(logits, targets, reduction="none"), row_of
    student, taught = logits.log_softmax(-1), like_base[row_of]
    losses = -student.gather(-1, targets[:, None]).squeeze(-1)
    divergence = F.kl_div(student[taught], teacher, log_target=True, reduction="none").sum(-1)
    return losses.masked_scatter(taught, divergence), row_of


@dataclass(frozen=True)
class DitSettings:
    """How a DIT adapter is trained: the rank of arXiv 2510.05092; all else is the pocket suite's own choice."""

    rank: int = 16
    steps: int = 400
    rate: float = 1e-3
    batch: int = 32
    seed: int = 0


def train_dit(
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    diffs: AdapterBank,
    places: Sequence[int],
    references: Sequence[str],
    question: str,
    settings: DitSettings,
    title: str,
    state_file: Path,
    save_seconds: float = SAVE_SECONDS,
) -> tuple[AdapterBank, float]:
    """Train one DIT adapter; return it as a bank of one, and the last mean loss.

    Goes on from `state_file` where there is one, as if it had never been stopped.

    Args:
        base: the model, which is frozen.
        tokenizer: the base's.
        diffs: a bank of trained diffs, which are frozen too.
        places: which diffs of the bank to train on.
        references: what the diff at each place of the bank was trained on.
        question: what the adapter is asked.
        settings: its rank and training.
        title: what stands beside the progress bar; a part of the seed.
        state_file: where its state is kept.
        save_seconds: the time between two writings of the state.
    """
    base.requires_grad_(False)
    device = base.device
    dit = AdapterBank(base, 1, settings.rank, seed=settings.seed)
    optimizer = torch.optim.AdamW(dit.parameters(), lr=settings.rate, weight_decay=0.01)

    def gradient(step: int) -> float:
        rng = random.Random(f"{title} {settings.seed} {step}")
        drawn = [rng.choice(places) for _ in range(settings.batch)]
        rows = encode_all(tokenizer, [[(question, references[place])] for place in drawn])
        ids, labels = pad(rows, tokenizer.pad_token_id, device)
        with diffs.rows(base, torch.tensor(drawn, device=device)), dit.rows(base):
            loss = token_losses(base, ids, labels)[0].mean()
        loss.backward()
        return loss.item()

    own = Optimization(dit, [optimizer], warm_up_and_decay(settings.steps, *SCHEDULE), settings.steps)
    return dit, train(title, own, gradient, state_file, save_seconds).last()
