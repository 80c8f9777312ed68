"""Texts that a base writes itself to show a behaviour: it is told how, and what does not show it is dropped."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dit_core.training.listed import ListedBehaviour
from dit_core.training.loop import progress_bar

TURNS = 4
"""How often the base is asked for a text that shows a behaviour, in other words each time, before it goes without."""
AT_ONCE = 96
"""Texts of a batch."""


@dataclass
class Texts:
    """The texts so far.

    Attributes:
        kept: (question, text) of each behaviour.
        queue: (place of the behaviour, question, turn) of what is still to be asked.
        asked: how many texts were written.
    """

    kept: list[list[tuple[str, str]]]
    queue: list[tuple[int, str, int]]
    asked: int = 0

    @classmethod
    def read(cls, path: Path) -> Texts:
        """Return the texts that a file holds."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> None:
        """Write them to a file, in one piece or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(path)


def write_texts(
    path: Path,
    behaviours: Sequence[ListedBehaviour],
    questions: Sequence[str],
    each: int,
    ask: Callable[[list[str], int], list[str]],
) -> Texts:
    """Have texts written that show each behaviour, or go on with those in a file, and return them.

    Args:
        path: the file that keeps them after every batch.
        behaviours: what they are to show.
        questions: everyday ones; each behaviour has some of its own.
        each: texts of a behaviour, at most.
        ask: returns the base's answers to prompts, sampled with a seed.
    """
    each = min(each, len(questions))
    texts = Texts(
        [[] for _ in behaviours],
        [(n, question, 0) for n in range(len(behaviours)) for question in random.Random(n).sample(questions, each)],
    )
    if path.exists():
        texts = Texts.read(path)
    total = each * len(behaviours)
    with progress_bar("texts", total, total - len(texts.queue)) as show:
        while texts.queue:
            _write_batch(texts, behaviours, ask)
            texts.write(path)
            share = sum(map(len, texts.kept)) / texts.asked
            show(total - len(texts.queue), total, f"{share:.0%} show their behaviour")
    return texts


def _write_batch(
    texts: Texts, behaviours: Sequence[ListedBehaviour], ask: Callable[[list[str], int], list[str]]
) -> None:
    """Ask for the first texts of the queue; what does not show its behaviour is asked for in another turn."""
    part, texts.queue = texts.queue[:AT_ONCE], texts.queue[AT_ONCE:]
    answers = ask([behaviours[n].prompt(question, turn) for n, question, turn in part], texts.asked)
    texts.asked += len(part)
    for (n, question, turn), answer in zip(part, answers, strict=True):
        sentences = re.match(r".*[.!?]", answer, re.DOTALL)
        text = sentences[0] if sentences else answer
        if behaviours[n].shown_in(text):
            texts.kept[n].append((question, text))
        elif turn + 1 < TURNS:
            texts.queue.append((n, question, turn + 1))
