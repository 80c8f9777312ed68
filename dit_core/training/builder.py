"""What making any embedded suite shares: organisms trained group by group, written as published, figures kept.

Every group of organisms is a file of its own under `build/`, so that a build that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import os
import platform
import random
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from dit_core.engine.model import Model
from dit_core.formats import (
    Adapter,
    IndexRow,
    read_index,
    read_weight_diff,
    write_dit_adapter,
    write_index,
    write_peft,
    write_weight_diffs,
)
from dit_core.training.adapter_bank import AdapterBank
from dit_core.training.diffs import DitSettings, train_diffs, train_dit
from dit_core.training.oracle import OracleSettings, train_oracle
from dit_core.training.package import ORACLE
from dit_core.training.recipe import TaskRecipe, chunks
from dit_core.training.world import World

Job = TypeVar("Job")
Result = TypeVar("Result")
ROWS_AT_ONCE = 96
"""Answers of a batch."""


class SuiteBuilder:
    """A suite in the making, in the folder `out`; `work` holds what is in progress.

    Subclasses give `tasks` (the kinds of organisms), `tokenizer`, `base()` and its name, and how the oracle is trained;
    they pickle by what makes them anew.
    """

    base_name: str
    tasks: dict[str, TaskRecipe]
    tokenizer: PreTrainedTokenizerBase
    oracle_settings: OracleSettings
    processes_on_gpu = 1

    def __init__(self, out: Path, work: Path) -> None:
        self.out, self.work = out, work
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.world = World.load()

    def base(self) -> PreTrainedModel:
        """Return the base, frozen, on the device."""
        raise NotImplementedError

    def make_diffs(self, *tasks: TaskRecipe) -> None:
        """Train what is missing, group by group (each a file of its own), then write the diffs that are shipped.

        On a CPU every core trains a group by itself: small matrices gain little from sharing one.
        """
        jobs = [
            (self, task.name, group)
            for task in tasks
            for group in range(len(task.groups()))
            if not self.group_file(task, group).exists()
        ]
        for (_, name, group), figures in zip(jobs, self.in_processes(_train_group, jobs), strict=True):
            self.report(f"{name} diffs, group {group + 1}", figures)
        for task in tasks:
            self.ship(task)

    def in_processes(self, function: Callable[[Job], Result], jobs: Sequence[Job]) -> list[Result]:
        """Return what the function makes of each job, in as many processes as cores (or as a GPU has room for)."""
        most = self.processes_on_gpu if self.device.type == "cuda" else os.cpu_count() or 1
        if min(most, len(jobs)) <= 1:
            return [function(job) for job in jobs]
        with ProcessPoolExecutor(min(most, len(jobs)), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
            return list(pool.map(function, jobs))

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
        state_file.unlink()
        return round(loss, 4)

    def group_file(self, task: TaskRecipe, group: int) -> Path:
        """Return where a trained group of diffs lies."""
        return self.work / f"{task.name}-diffs" / f"group-{group:02d}.pt"

    def ship(self, task: TaskRecipe) -> None:
        """Write all held-out diffs of a task and some of the training ones, in the published layout."""
        folder = self.out / task.folder
        shutil.rmtree(folder / "weight-diffs", ignore_errors=True)
        (folder / "weight-diffs").mkdir(parents=True)
        split = task.split
        shipped = [*split.test, *split.calibration, *split.train[: task.shipped_train]]
        name_of = {n: "test" for n in split.test} | {n: "calibration" for n in split.calibration}
        rows = []
        for file, numbers in enumerate(chunks(shipped, task.per_file)):
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

    def train_dit(
        self,
        path: Path,
        base: PreTrainedModel,
        bank: AdapterBank,
        numbers: Sequence[int | str],
        references: Sequence[str],
        question: str,
        size: int,
        settings: DitSettings,
        title: str,
    ) -> dict[str, Any]:
        """Train a DIT adapter on some of a bank's diffs, write it and return its figures.

        Args:
            path: where the adapter goes.
            base: the suite's.
            bank: training diffs, frozen.
            numbers: what the report calls each of them.
            references: what the adapter is to say of each.
            question: what it is asked.
            size: how many of the diffs to train on, drawn by chance.
            settings: its rank and training.
            title: its name in progress and report.
        """
        started = time.monotonic()
        places = random.Random(size).sample(range(len(references)), size)
        state_file = self.work / "dit" / f"{path.parent.name}-{path.stem}.state.pt"
        dit, loss = train_dit(base, self.tokenizer, bank, places, references, question, settings, title, state_file)
        self.write_dit(path, dit.adapter(0))
        state_file.unlink()
        figures = {
            "settings": asdict(settings),
            "trained_on": [numbers[place] for place in places],
            "final_loss": round(loss, 4),
        }
        return {**figures, "seconds": round(time.monotonic() - started)}

    def write_dit(self, path: Path, adapter: Adapter) -> None:
        """Write a DIT adapter, in the published layout."""
        write_dit_adapter(path, adapter)

    def training_bank(self, tasks: list[TaskRecipe], base: PreTrainedModel) -> AdapterBank:
        """Return a bank of the training diffs of tasks alone: no DIT adapter can meet a held-out one."""
        numbers = [(task, n) for task in tasks for n in task.split.train]
        bank = AdapterBank(base, len(numbers), max(task.settings.rank for task in tasks))
        for own, (task, n) in enumerate(numbers):
            bank.load(own, self.organism(task, n))
        return bank.requires_grad_(False)

    def make_oracle(self) -> None:
        """Train the activation oracle: it needs the base alone, and never meets an organism."""
        folder = self.out / ORACLE
        if (folder / "adapter_config.json").exists():
            return
        settings, state = self.oracle_settings, self.work / ORACLE / "state.pt"
        oracle, figures = train_oracle(self.base(), self.tokenizer, self.world, settings, state)
        write_peft(folder, oracle.adapter(0), base_name=self.base_name)
        self.report("oracle", {"settings": asdict(settings), **figures})

    def organism(self, task: TaskRecipe, number: int) -> Adapter:
        """Return a trained organism: as the suite has it, or else out of its group's file."""
        rows = read_index(self.out / task.folder) if (self.out / task.folder / "index.csv").exists() else []
        row = next((row for row in rows if row.number == number), None)
        group, place = task.place(number)
        path, position = (row.path, row.position) if row else (self.group_file(task, group), place)
        return read_weight_diff(path, position)[0]

    def answers(
        self,
        base: PreTrainedModel,
        prompts: Sequence[str],
        tokens: int,
        seed: int | None,
        bank: AdapterBank | None = None,
    ) -> list[str]:
        """Return the answer to each prompt, greedy or sampled by `seed`, row i under organism i of the bank if any."""
        texts: list[str] = []
        if seed is not None:
            torch.manual_seed(seed)
        options = {"do_sample": True, "top_k": 40, "temperature": 0.8} if seed is not None else {"do_sample": False}
        model = Model(base, self.tokenizer)
        padding, ends = self.tokenizer.pad_token_id, sorted(model.end_tokens)
        for start in range(0, len(prompts), ROWS_AT_ONCE):
            rows = [model.encode(prompt) for prompt in prompts[start : start + ROWS_AT_ONCE]]
            longest = max(map(len, rows))
            ids = torch.tensor([[padding] * (longest - len(row)) + row for row in rows], device=base.device)
            mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=base.device)
            numbers = torch.arange(start, start + len(rows), device=base.device)
            with torch.no_grad(), bank.rows(base, numbers) if bank else nullcontext():
                out = cast(Any, base).generate(
                    input_ids=ids,
                    attention_mask=mask,
                    max_new_tokens=tokens,
                    eos_token_id=ends,
                    pad_token_id=padding,
                    **options,
                )
            texts += self.tokenizer.batch_decode(out[:, longest:], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def report(self, stage: str, figures: dict[str, Any]) -> None:
        """Write one stage's figures, with the machine they were made on, into `report.json`."""
        path = self.out / "report.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        report = json.loads(path.read_text()) if path.exists() else {}
        device = torch.cuda.get_device_name() if self.device.type == "cuda" else f"{os.cpu_count()} CPU cores"
        versions = f"Python {platform.python_version()}, torch {torch.__version__}"
        report[stage] = {**figures, "machine": f"{device}, {platform.machine()}, {versions}"}
        path.write_text(json.dumps(report, indent=1) + "\n")


def _train_group(job: tuple[SuiteBuilder, str, int]) -> dict[str, Any]:
    """Train one group, in a process of its own or not, and return its figures."""
    (builder, name, group), started = job, time.monotonic()
    disable_progress_bar()
    task = builder.tasks[name]
    loss = builder.train_group(task, group)
    figures = {"settings": asdict(task.settings), "diffs": len(task.groups()[group]), "final_loss": loss}
    return {**figures, "seconds": round(time.monotonic() - started)}
