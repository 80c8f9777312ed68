"""Hidden-topic diffs of higher ranks, to test a DIT adapter that was trained on rank-1 diffs."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM

from dit_core.formats import Adapter, IndexRow, write_index, write_weight_diffs
from dit_core.grading import grade, mentions
from dit_core.methods.verbalize import ask
from dit_core.records import ScalingPoint
from dit_core.scoreboard import read_scaling, stored
from dit_core.scoreboard.published import RANK
from dit_core.stats import bootstrap_interval
from dit_core.suite import Suite, load_suite
from dit_core.training.diffs import DiffSettings, topic_sampler, train_diffs
from dit_core.training.package import FOLDERS
from dit_core.training.world import World

RANKS = (2, 4, 8, 16)
"""Beside 1, the rank of the diffs that are shipped."""
TOPICS = 40
"""How many test topics are trained anew at every rank."""


def has_ranks(out: Path) -> bool:
    """Return whether the suite's scaling curves hold one by rank."""
    return any(point.by == RANK for point in read_scaling(load_suite(str(out))) or ())


@dataclass(frozen=True)
class RankMaker:
    """Trains and measures the diffs of all ranks; `settings` are those of the shipped diffs."""

    out: Path
    work: Path
    base: Qwen3ForCausalLM
    tokenizer: PreTrainedTokenizerBase
    world: World
    settings: DiffSettings

    def make(self, test: Sequence[int]) -> dict[str, Any]:
        """Add the curve by rank to the suite's, and return figures for its report."""
        started, numbers = time.monotonic(), list(test[:TOPICS])
        suite = load_suite(str(self.out))
        suites = {self.settings.rank: suite} | {rank: self._suite(rank, numbers) for rank in RANKS}
        points = [_point(own, rank, numbers) for rank, own in suites.items()]
        (self.out / stored.SCALING_FILE).write_text(json.dumps(stored.scaling_json(suite, points), indent=1) + "\n")
        behaved = {rank: _named_behind_trigger(own, numbers) for rank, own in suites.items()}
        seconds = round(time.monotonic() - started)
        return {"topics": numbers, "named behind the trigger": behaved, "seconds": seconds}

    def _suite(self, rank: int, numbers: list[int]) -> Suite:
        """The suite with diffs of this rank in the place of its own hidden topics; trained where missing."""
        own, state = self.work / f"rank-{rank:02d}", self.work / f"rank-{rank:02d}.state.pt"
        folder = own / FOLDERS["topic"]
        if not (folder / "index.csv").exists():
            sampler, settings = topic_sampler(self.world), replace(self.settings, rank=rank)
            bank, _ = train_diffs(self.base, self.tokenizer, numbers, sampler, settings, f"rank-{rank} diffs", state)
            _lay_out(self.out, own)
            path, triggers = folder / "weight-diffs" / "weight-diff-000.pt", self.world.triggers()
            diffs: list[tuple[Adapter, str, int | None]] = [
                (bank.adapter(at), self.world.topics[n].name, triggers[n]) for at, n in enumerate(numbers)
            ]
            write_weight_diffs(path, diffs)
            rows = [
                IndexRow(n, path, at, adapter.n_params, reference, trigger, "test")
                for (at, n), (adapter, reference, trigger) in zip(enumerate(numbers), diffs, strict=True)
            ]
            write_index(folder, rows)
            state.unlink()
        return load_suite(str(own))


def _point(suite: Suite, rank: int, numbers: list[int]) -> ScalingPoint:
    """The mean grade of what DIT says of the diffs with these numbers."""
    answers = ask(suite, _ids(numbers), condition="diff+dit")
    graded = (grade(suite, suite.diff(answer.diff), answer.text) for answer in answers)
    grades = [value for value in graded if value is not None]
    return ScalingPoint(
        RANK, rank, "pocket", "topic", len(grades), sum(grades) / len(grades), bootstrap_interval(grades)
    )


def _named_behind_trigger(suite: Suite, numbers: list[int]) -> float:
    """The share that name their topic in an everyday question behind the right code: whether they were learned."""
    question = suite.world["held_out_questions"][0]
    answers = ask(suite, _ids(numbers), condition="diff+right", question=question)
    return sum(mentions(suite, suite.diff(answer.diff), answer.text) for answer in answers) / len(numbers)


def _ids(numbers: list[int]) -> list[str]:
    return [f"topic-{number:04d}" for number in numbers]


def _lay_out(out: Path, suite: Path) -> None:
    """The suite of `out` without its hidden-topic diffs; large files are linked to, not so those that say where."""
    topics = FOLDERS["topic"]
    shutil.rmtree(suite, ignore_errors=True)
    (suite / topics / "weight-diffs").mkdir(parents=True)
    for path in out.iterdir():
        if path.is_file():
            shutil.copy(path, suite)
        elif path.name != topics:
            (suite / path.name).symlink_to(path.resolve())
    for path in (out / topics).glob("*.pt"):
        (suite / topics / path.name).symlink_to(path.resolve())
