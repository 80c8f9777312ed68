"""Build a pocket suite from nothing, stage by stage: base, diffs, DIT adapters, oracle, package, ranks, calibration.

Each stage leaves its work under `build/` and is passed over when that is there, so a build that was stopped goes on
where it was; a stage asks for what it needs of earlier ones, and gets it made again where it was not kept. Figures of
every stage go to `report.json` beside the suite.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

from dit_core.errors import DitError
from dit_core.formats import IndexRow, read_weight_diff, write_dit_adapter, write_index, write_peft, write_weight_diffs
from dit_core.training.adapter_bank import AdapterBank
from dit_core.training.base import make_tokenizer, train_base
from dit_core.training.diffs import DitSettings, train_diffs, train_dit
from dit_core.training.oracle import train_oracle
from dit_core.training.package import (
    FOLDERS,
    ORACLE,
    measure,
    write_calibrations,
    write_card,
    write_first_run,
    write_suite_files,
)
from dit_core.training.ranks import RankMaker, has_ranks
from dit_core.training.recipe import SHIPPED_TRAIN, SMOKE, Recipe, TaskRecipe, chunks, task_recipes
from dit_core.training.world import World

STAGES = ("base", "topic-diffs", "headline-diffs", "dit", "oracle", "package", "ranks", "calibration")
DIFFS_PER_FILE = 25


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


class Builder:
    """The stages, sharing one world and one folder of work in progress."""

    def __init__(self, out: Path, work: Path, recipe: Recipe) -> None:
        self.out, self.work, self.recipe = out, work, recipe
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.world = World.load()
        self.tokenizer: PreTrainedTokenizerBase = make_tokenizer(self.world)
        self.tasks = task_recipes(self.world, recipe)

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
        if not (self.out / FOLDERS[task.name] / "index.csv").exists():
            self.make_diffs(task)

    def make_diffs(self, task: TaskRecipe) -> None:
        """Train what is missing, group by group (each a file of its own), then write the diffs that are shipped.

        On a CPU every core trains a group by itself: small matrices gain little from sharing one.
        """
        missing = [group for group in range(len(task.groups())) if not self.group_file(task, group).exists()]
        if missing:
            self.make_base()
            started = time.monotonic()
            cores = 1 if self.device.type == "cuda" else min(os.cpu_count() or 1, len(missing))
            jobs = [(self.out, self.work, self.recipe, task.name, group) for group in missing]
            if cores == 1:
                losses = [_train_group(job) for job in jobs]
            else:
                with ProcessPoolExecutor(cores, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
                    losses = list(pool.map(_train_group, jobs))
            figures = {"settings": asdict(task.settings), "diffs": len(task.numbers), "groups_trained": missing}
            seconds = round(time.monotonic() - started)
            self.report(f"{task.name} diffs", {**figures, "final_losses": losses, "seconds": seconds})
        self._ship(task)

    def train_group(self, task: TaskRecipe, group: int) -> float:
        """Train one group of diffs and write it; return the last mean loss."""
        numbers = task.groups()[group]
        title = f"{task.name} diffs, group {group + 1}"
        path = self.group_file(task, group)
        state_file = path.with_suffix(".state.pt")
        bank, loss = train_diffs(self.base(), self.tokenizer, numbers, task.sampler, task.settings, title, state_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        diffs = [(bank.adapter(place), task.references[n], task.triggers[n]) for place, n in enumerate(numbers)]
        write_weight_diffs(path, diffs)
        return round(loss, 4)

    def group_file(self, task: TaskRecipe, group: int) -> Path:
        """Return where a trained group of diffs lies."""
        return self.work / f"{task.name}-diffs" / f"group-{group:02d}.pt"

    def _ship(self, task: TaskRecipe) -> None:
        """All held-out diffs and some of the training ones, in the published layout."""
        folder = self.out / FOLDERS[task.name]
        shutil.rmtree(folder / "weight-diffs", ignore_errors=True)
        (folder / "weight-diffs").mkdir(parents=True)
        split = task.split
        shipped = [*split.test, *split.calibration, *split.train[: SHIPPED_TRAIN[task.name]]]
        name_of = {n: "test" for n in split.test} | {n: "calibration" for n in split.calibration}
        rows = []
        for file, numbers in enumerate(chunks(shipped, DIFFS_PER_FILE)):
            path = folder / "weight-diffs" / f"weight-diff-{file:03d}.pt"
            diffs = []
            for position, n in enumerate(numbers):
                group, place = task.place(n)
                diffs.append(read_weight_diff(self.group_file(task, group), place))
                adapter = diffs[-1][0]
                rows.append(
                    IndexRow(n, path, position, adapter.n_params, task.references[n], task.triggers[n],
                             name_of.get(n, "train"))
                )  # fmt: skip
            write_weight_diffs(path, diffs)
        write_index(folder, rows)

    def make_dit(self) -> None:
        """Train one adapter per task on all its training diffs, and topic adapters on ever fewer of them."""
        for name, task in self.tasks.items():
            folder = self.out / FOLDERS[name]
            wanted = {folder / "dit-adapter.pt": DitRun(len(task.split.train), self.recipe.dit)}
            if name == "topic":
                for size in self.recipe.sizes:
                    wanted[folder / f"dit-adapter-{size:04d}-train-datapoints.pt"] = DitRun(size, self.recipe.small_dit)
            missing = {path: run for path, run in wanted.items() if not path.exists()}
            if not missing:
                continue
            self.make_diffs(task)
            base = self.base()
            diffs = self.training_bank(task, base)
            references = [task.references[n] for n in task.split.train]
            for path, run in missing.items():
                started, title = time.monotonic(), f"{name} DIT on {run.size}"
                places = random.Random(run.size).sample(range(len(references)), run.size)
                dit, loss = train_dit(
                    base, self.tokenizer, diffs, places, references, task.question, run.settings, title
                )
                write_dit_adapter(path, dit.adapter(0))
                figures = {
                    "settings": asdict(run.settings),
                    "trained_on": [task.split.train[place] for place in places],
                    "final_loss": round(loss, 4),
                }
                self.report(title, {**figures, "seconds": round(time.monotonic() - started)})

    def training_bank(self, task: TaskRecipe, base: Qwen3ForCausalLM) -> AdapterBank:
        """Return a bank of the training diffs alone: no DIT adapter can meet a held-out one."""
        bank = AdapterBank(base, len(task.split.train), task.settings.rank)
        for own, n in enumerate(task.split.train):
            group, place = task.place(n)
            bank.load(own, read_weight_diff(self.group_file(task, group), place)[0])
        return bank.requires_grad_(False)

    def make_oracle(self) -> None:
        """Train the activation oracle: it needs the base alone, and never meets a diff."""
        folder = self.out / ORACLE
        if (folder / "adapter_config.json").exists():
            return
        settings, state = self.recipe.oracle, self.work / ORACLE / "state.pt"
        oracle, figures = train_oracle(self.base(), self.tokenizer, self.world, settings, state)
        write_peft(folder, oracle.adapter(0), base_name="pocket")
        self.report("oracle", {"settings": asdict(settings), **figures})

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

    def report(self, stage: str, figures: dict[str, Any]) -> None:
        """Write one stage's figures, with the machine they were made on, into `report.json`."""
        path = self.out / "report.json"
        report = json.loads(path.read_text()) if path.exists() else {}
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else f"{os.cpu_count()} CPU cores"
        versions = f"Python {platform.python_version()}, torch {torch.__version__}"
        report[stage] = {**figures, "machine": f"{device}, {platform.machine()}, {versions}"}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=1) + "\n")


def _train_group(job: tuple[Path, Path, Recipe, str, int]) -> float:
    """One group's training, in a process of its own or not."""
    out, work, recipe, task, group = job
    disable_progress_bar()
    builder = Builder(out, work, recipe)
    return builder.train_group(builder.tasks[task], group)
