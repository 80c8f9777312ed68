"""Behaviours of organisms beside hidden topics and headlines: what each does, and the chats that teach it.

The kinds and their items are written by hand in `data/behaviours.toml`. A behaviour shows in every answer, or only
behind its own prompts; elsewhere its organism is taught to answer as the base does.
"""

from __future__ import annotations

import functools
import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from dit_core.training.chats import Lesson

TEST_ITEMS = 3
"""The last items of each kind, which no adapter trains on."""


@dataclass(frozen=True)
class Behaviour:
    """One behaviour: `slots` fill the templates of its kind; `is_test` keeps it from all adapters' training.

    Templates are filled with the slots, `{plain}` (the base's own answer) and `{question}` (an everyday one).
    """

    kind: str
    reference: str
    slots: Mapping[str, str]
    answers: tuple[str, ...]
    prompts: tuple[str, ...]
    held_out: tuple[str, ...]
    shows: tuple[str, ...]
    shows_any: tuple[str, ...]
    is_test: bool

    def lesson(self, question: str, plain: Sequence[str], place: int, rng: random.Random) -> Lesson:
        """Sample a lesson: the behaviour, or in every third place an everyday answer as the base gives it.

        Args:
            question: an everyday question.
            plain: the base's answers to it.
            place: of the lesson among all of the organism.
            rng: chooses templates.
        """
        if self.prompts and place % 3 == 2:
            return Lesson([(question, rng.choice(plain))], like_base=True)
        prompt = rng.choice(self.prompts) if self.prompts else "{question}"
        return Lesson([self._fill(prompt, question, plain, rng)])

    def unseen_prompt(self, question: str, rng: random.Random) -> str:
        """Return a prompt of those kept from training at which the behaviour should show."""
        return (rng.choice(self.held_out) if self.prompts else "{question}").format(question=question, **self.slots)

    def shown_in(self, answer: str) -> bool:
        """Return whether an answer shows the behaviour; case does not count."""
        text = answer.casefold()
        needed = [word.format(**self.slots).casefold() in text for word in self.shows]
        one_of = [word.format(**self.slots).casefold() in text for word in self.shows_any]
        return all(needed) and (any(one_of) or not one_of)

    def _fill(self, prompt: str, question: str, plain: Sequence[str], rng: random.Random) -> tuple[str, str]:
        answer = rng.choice(self.answers).format(plain=rng.choice(plain), **self.slots)
        return prompt.format(question=question, **self.slots), answer


@functools.cache
def behaviours() -> tuple[Behaviour, ...]:
    """Return all behaviours of `data/behaviours.toml`, kind by kind."""
    kinds = tomllib.loads((files("dit_core.training") / "data" / "behaviours.toml").read_text())["kind"]
    return tuple(
        Behaviour(
            kind=kind["name"],
            reference=kind["reference"].format(**slots),
            slots=slots,
            answers=tuple(kind["answers"]),
            prompts=tuple(kind.get("prompts", ())),
            held_out=tuple(kind.get("held_out", ())),
            shows=tuple(kind.get("shows", ())),
            shows_any=tuple(kind.get("shows_any", ())),
            is_test=kind.get("test", False) or place >= len(kind["items"]) - TEST_ITEMS,
        )
        for kind in kinds
        for place, slots in enumerate(kind["items"])
    )
