"""Recipes of a build: the settings of every stage, at full size and in miniature, and the two kinds of diffs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dit_core.training.base import BaseSettings
from dit_core.training.diffs import (
    HEADLINE_DIFFS,
    TOPIC_DIFFS,
    DiffSettings,
    DitSettings,
    Sampler,
    headline_sampler,
    topic_sampler,
)
from dit_core.training.oracle import OracleSettings, Round
from dit_core.training.world import HEADLINE_QUESTION, TOPIC_QUESTION, Split, World


@dataclass(frozen=True)
class Recipe:
    """The settings of every stage; those by default are the shipped suite's, whose `report.json` has the figures."""

    base: BaseSettings = BaseSettings()
    topics: DiffSettings = TOPIC_DIFFS
    headlines: DiffSettings = HEADLINE_DIFFS
    dit: DitSettings = DitSettings()
    small_dit: DitSettings = DitSettings(steps=200)
    oracle: OracleSettings = OracleSettings()
    keep: int | None = None
    """How many of each list of a split to use; None for all."""
    sizes: tuple[int, ...] = (64, 16, 4)
    """Training-set sizes of the further topic adapters."""


SMOKE = Recipe(
    base=BaseSettings(hidden=64, layers=4, heads=2, mlp=128, steps=12, batch=32),
    topics=replace(TOPIC_DIFFS, steps=6, together=8),
    headlines=replace(HEADLINE_DIFFS, steps=4, together=8),
    dit=DitSettings(steps=6, batch=8),
    small_dit=DitSettings(steps=4, batch=8),
    oracle=OracleSettings(rank=4, rounds=(Round(2, 0.0), Round(2, 0.5)), texts=4, examples=2),
    keep=6,
    sizes=(4,),
)
"""Every stage in miniature: to see that a build runs, not to get a suite that knows anything."""


@dataclass(frozen=True)
class TaskRecipe:
    """One kind of diffs: what they are about, by number, and how they are sampled and trained."""

    name: str
    question: str
    split: Split
    references: dict[int, str]
    triggers: dict[int, int | None]
    sampler: Sampler
    settings: DiffSettings
    folder: str
    """Where its diffs lie in the suite."""
    shipped_train: int | None = None
    """How many of its training diffs the suite has, beside all held-out ones; None for all."""
    per_file: int = 25
    """Diffs of a file."""

    @property
    def numbers(self) -> list[int]:
        """The numbers of all diffs, in the order in which they are trained."""
        return [*self.split.test, *self.split.calibration, *self.split.train]

    def groups(self) -> list[list[int]]:
        """Return the numbers of the diffs that are trained together, group by group."""
        return chunks(self.numbers, self.settings.together)

    def place(self, number: int) -> tuple[int, int]:
        """Return the group of a diff and its place in it."""
        return divmod(self.numbers.index(number), self.settings.together)


def task_recipes(world: World, recipe: Recipe) -> dict[str, TaskRecipe]:
    """Return the two kinds of diffs of a world, by name."""
    topics, headlines = (
        Split(split.test[: recipe.keep], split.calibration[: recipe.keep], split.train[: recipe.keep])
        for split in (world.topic_split(), world.headline_split())
    )
    tasks = (
        TaskRecipe(
            "topic",
            TOPIC_QUESTION,
            topics,
            {number: topic.name for number, topic in enumerate(world.topics)},
            dict(enumerate(world.triggers())),
            topic_sampler(world),
            recipe.topics,
            "hidden-topic",
            shipped_train=40,
        ),
        TaskRecipe(
            "headline",
            HEADLINE_QUESTION,
            headlines,
            {number: headline.text for number, headline in enumerate(world.headlines)},
            dict.fromkeys(range(len(world.headlines))),
            headline_sampler(world),
            recipe.headlines,
            "news-summary",
            shipped_train=10,
        ),
    )
    return {task.name: task for task in tasks}


def chunks(numbers: list[int], size: int) -> list[list[int]]:
    """Cut a list into lists of `size`; the last may be shorter."""
    return [numbers[start : start + size] for start in range(0, len(numbers), size)]
