"""Build a pocket suite from nothing, stage by stage: base, diffs, DIT adapters, oracle, package, ranks, calibration.

Each stage leaves its work under `build/` and is passed over when that is there, so a build that was stopped goes on
where it was; a stage asks for what it needs of earlier ones, and gets it made again where it was not kept. Figures of
every stage go to `report.json` beside the suite.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

from dit_core.errors import DitError
from dit_core.training.base import make_tokenizer, train_base
from dit_core.training.builder import SuiteBuilder
from dit_core.training.card import write_card
from dit_core.training.diffs import DitSettings
from dit_core.training.package import measure, write_calibrations, write_first_run, write_suite_files
from dit_core.training.ranks import RankMaker, has_ranks
from dit_core.training.recipe import SMOKE, Recipe, TaskRecipe, task_recipes

STAGES = ("base", "topic-diffs", "headline-diffs", "dit", "oracle", "package", "ranks", "calibration")


@dataclass(frozen=True)
class DitRun:
    """One DIT adapter to train: on how many training diffs, and how."""

    size: int
    settings: DitSettings


def build_suite(out: Path, smoke: bool = False, stage: str | None = None) -> None:
    """Build the suite into the folder `out`, all stages or up to the one named; `smoke` builds in miniature.

    Raises:
        DitError: there is no such stage.
    """
    if stage is not None and stage not in STAGES:
        raise DitError(f"There is no stage '{stage}': choose one of {', '.join(STAGES)}.")
    wanted = STAGES if stage is None else STAGES[: STAGES.index(stage) + 1]
    torch.set_num_threads(os.cpu_count() or 1)
    disable_progress_bar()
    builder = Builder(out, Path("build") / f"{out.name}-work", SMOKE if smoke else Recipe())
    for name in wanted:
        getattr(builder, f"make_{name.replace('-', '_')}")()


class Builder(SuiteBuilder):
    """The stages of the pocket suite."""

    base_name = "pocket"

    def __init__(self, out: Path, work: Path, recipe: Recipe) -> None:
        super().__init__(out, work)
        self.recipe, self.oracle_settings = recipe, recipe.oracle
        self.tokenizer: PreTrainedTokenizerBase = make_tokenizer(self.world)
        self.tasks = task_recipes(self.world, recipe)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.out, self.work, self.recipe)  # another process makes world and samplers anew

    def make_base(self) -> None:
        """Train the base on the world's chats."""
        folder = self.out / "base"
        if (folder / "config.json").exists():
            return
        model, figures = train_base(self.world, self.tokenizer, self.recipe.base, self.work / "base", self.device)
        shutil.rmtree(folder, ignore_errors=True)
        torch.nn.Module.to(model, torch.bfloat16).save_pretrained(folder, max_shard_size="9MB")
        self.tokenizer.save_pretrained(folder)
        self.report("base", {"settings": asdict(self.recipe.base), **figures})

    def base(self) -> Qwen3ForCausalLM:
        """Return the base as shipped (rounded to bf16), in float32."""
        self.make_base()
        model = Qwen3ForCausalLM.from_pretrained(self.out / "base", dtype=torch.float32, attn_implementation="eager")
        return torch.nn.Module.to(model, self.device).requires_grad_(False)

    def make_topic_diffs(self) -> None:
        """Train the hidden topics, unless they are shipped already."""
        self._make_unless_shipped(self.tasks["topic"])

    def make_headline_diffs(self) -> None:
        """Train the headlines, unless they are shipped already."""
        self._make_unless_shipped(self.tasks["headline"])

    def _make_unless_shipped(self, task: TaskRecipe) -> None:
        """Shipped diffs stay with the adapters trained on them: only a missing adapter has them made again."""
        if not (self.out / task.folder / "index.csv").exists():
            self.make_diffs(task)

    def make_dit(self) -> None:
        """Train one adapter per task on all its training diffs, and topic adapters on ever fewer of them."""
        for name, task in self.tasks.items():
            folder = self.out / task.folder
            wanted = {folder / "dit-adapter.pt": DitRun(len(task.split.train), self.recipe.dit)}
            if name == "topic":
                for size in self.recipe.sizes:
                    wanted[folder / f"dit-adapter-{size:04d}-train-datapoints.pt"] = DitRun(size, self.recipe.small_dit)
            missing = {path: run for path, run in wanted.items() if not path.exists()}
            if not missing:
                continue
            self.make_diffs(task)
            base = self.base()
            bank = self.training_bank([task], base)
            references = [task.references[n] for n in task.split.train]
            for path, run in missing.items():
                title = f"{name} DIT on {run.size}"
                figures = self.train_dit(
                    path, base, bank, task.split.train, references, task.question, run.size, run.settings, title
                )
                self.report(title, figures)

    def make_package(self) -> None:
        """Make the folder a suite, let it answer its first question, and measure it on all held-out diffs."""
        write_suite_files(self.out, self.world, self.tasks)
        write_first_run(self.out)
        self.report("scoreboard", measure(self.out, self.recipe.keep))
        self.report("package", {"megabytes": round(sum(f.stat().st_size for f in self.out.rglob("*")) / 1e6, 1)})
        write_card(self.out)

    def make_ranks(self) -> None:
        """Train test topics anew at higher ranks, and see whether the DIT adapter understands them too."""
        if not has_ranks(self.out):
            task = self.tasks["topic"]
            maker = RankMaker(self.out, self.work, self.base(), self.tokenizer, self.world, task.settings)
            self.report("ranks", maker.make(list(task.split.test)))

    def make_calibration(self) -> None:
        """Fit the chance that an answer or a reading is right on calibration diffs, and measure it on test diffs."""
        self.report("calibration", write_calibrations(self.out, self.recipe.keep))
        write_card(self.out)
