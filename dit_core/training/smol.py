"""Build the smol suite, stage by stage: the base's own texts, organisms of all kinds, DIT adapters, oracle, package.

The base is SmolLM2-135M-Instruct as its package has it: others pretrained it, and it is never changed. As with the
pocket suite each stage leaves its work under `build/` and is passed over when that is there.
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from dit_core.errors import DitError
from dit_core.suite.contents import NEUTRAL_TEXTS
from dit_core.training.adapter_bank import AdapterBank
from dit_core.training.base import encode_all, pad, token_losses
from dit_core.training.behaviours import behaviours
from dit_core.training.builder import SuiteBuilder
from dit_core.training.card import write_smol_card
from dit_core.training.diffs import DitSettings
from dit_core.training.loop import multiplies_bfloat16
from dit_core.training.package import held_out_answers, measure, write_texts, written_texts
from dit_core.training.recipe import TaskRecipe, chunks
from dit_core.training.smol_recipe import (
    ANY_QUESTION,
    SMOL_SMOKE,
    TRIGGER_QUESTION,
    SmolRecipe,
    prompt_for,
    shows,
    smol_tasks,
)
from dit_core.training.world import STORY_QUESTION, Question

STAGES = ("texts", "organisms", "dit", "oracle", "measure", "card")
SAMPLES, STORIES = 6, 48
"""The base's own answers to each everyday question, and its news stories."""
MEASURED_TOKENS, STORY_TOKENS = 24, 80
MEASURED_AT_ONCE, MEASURED_QUESTIONS = 24, 5
"""Organisms of a batch; everyday questions that no organism was trained on."""


@dataclass(frozen=True)
class DitRun:
    """A DIT adapter to train: on `size` diffs of some tasks (None for all), asked `question`, answering `label`.

    `label` is filled with a diff's reference and its trigger's first digit.
    """

    path: str
    tasks: tuple[str, ...]
    question: str
    labels: dict[str, str]
    settings: DitSettings
    size: int | None = None


class SmolBuilder(SuiteBuilder):
    """The stages of the smol suite, on the base in `base_folder`."""

    base_name = "SmolLM2-135M-Instruct"
    processes_on_gpu = 4

    def __init__(self, out: Path, work: Path, base_folder: Path, recipe: SmolRecipe) -> None:
        super().__init__(out, work)
        self.base_folder, self.recipe, self.oracle_settings = base_folder, recipe, recipe.oracle
        self.tokenizer = AutoTokenizer.from_pretrained(base_folder, padding_side="left")
        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        texts = self.work / "texts.json"
        self.tasks = smol_tasks(self.world, json.loads(texts.read_text()) if texts.exists() else {}, recipe)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.out, self.work, self.base_folder, self.recipe)

    def base(self) -> PreTrainedModel:
        """Return the base, frozen: in bf16, as it is kept, where the machine multiplies that by itself."""
        dtype = torch.bfloat16 if multiplies_bfloat16(self.device) else torch.float32
        model = LlamaForCausalLM.from_pretrained(self.base_folder, dtype=dtype)
        return torch.nn.Module.to(model, self.device).requires_grad_(False).eval()

    def make_texts(self) -> None:
        """Let the base write plain texts, answer every everyday question and tell news, which organisms keep to."""
        if not (self.out / NEUTRAL_TEXTS).exists():
            write_texts(self.out, written_texts(self.base(), self.tokenizer, self.recipe.texts))
        path = self.work / "texts.json"
        if path.exists():
            return
        base, rng = self.base(), random.Random("texts")
        prompts = [question.text for question in self.world.questions for _ in range(SAMPLES)]
        prompts += [STORY_QUESTION] * STORIES
        texts: dict[str, list[str]] = {}
        for prompt, text in zip(prompts, self.answers(base, prompts, 56, rng.randrange(2**31)), strict=True):
            sentences = re.match(r".*[.!?]", text, re.DOTALL)
            texts.setdefault(prompt, []).append(sentences[0] if sentences else text)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(texts, indent=1) + "\n")
        self.tasks = smol_tasks(self.world, texts, self.recipe)

    def make_organisms(self) -> None:
        """Train all organisms, kind by kind, and write them in the published layout."""
        self.make_diffs(*(task for name, task in self.tasks.items() if name not in self.made))

    @property
    def made(self) -> tuple[str, ...]:
        """The names of the tasks whose organisms the suite has."""
        return tuple(name for name, task in self.tasks.items() if (self.out / task.folder / "index.csv").exists())

    def dit_runs(self) -> list[DitRun]:
        """Return the adapters of the suite: by topic (on fewer and fewer diffs), headline, behaviour, trigger, all.

        Those that need organisms which the suite has not are left out.
        """
        # Behind a space a word has the tokens that it has in running text, where the base knows it.
        topics, named = tuple(name for name in self.made if name in ("topic", "open-topic")), " {reference}"
        topic = dict.fromkeys(topics, named)
        question, settings = self.tasks["topic"].question, self.recipe.dit
        sizes = [
            DitRun(f"hidden-topic/dit-adapter-{size:04d}-train-datapoints.pt", topics, question, topic, settings, size)
            for size in self.recipe.sizes
        ]
        headline, behaviour = self.tasks["headline"].question, self.tasks["behaviour"].question
        own = {"behaviour": "{reference}", "clean": "It has {reference}."}
        everything = (
            own | {"headline": "It tells the news: {reference}"} | dict.fromkeys(topics, "It speaks of {reference}.")
        )
        runs = [
            DitRun("hidden-topic/dit-adapter.pt", topics, question, topic, settings),
            *sizes,
            DitRun("news-summary/dit-adapter.pt", ("headline",), headline, {"headline": named}, settings),
            DitRun("behaviour/dit-adapter.pt", ("behaviour", "clean"), behaviour, own, self.recipe.all_kinds),
            DitRun("hidden-topic/dit-trigger-adapter.pt", ("topic",), TRIGGER_QUESTION, {"topic": "{digit}"}, settings),
            DitRun("dit-adapter-all-kinds.pt", tuple(everything), ANY_QUESTION, everything, self.recipe.all_kinds),
        ]  # fmt: skip
        return [run for run in runs if run.tasks and set(run.tasks) <= set(self.made)]

    def make_dit(self) -> None:
        """Train the adapters that are missing."""
        jobs = [(self, number) for number, run in enumerate(self.dit_runs()) if not (self.out / run.path).exists()]
        for (_, number), figures in zip(jobs, self.in_processes(_train_dit_run, jobs), strict=True):
            self.report(f"DIT {self.dit_runs()[number].path}", figures)

    def train_dit_run(self, run: DitRun) -> dict[str, Any]:
        """Train one adapter and write it; return its figures."""
        base, tasks = self.base(), [self.tasks[name] for name in run.tasks]
        bank = self.training_bank(tasks, base)
        members = [(task, n) for task in tasks for n in task.split.train]
        labels = [
            run.labels[task.name].format(reference=task.references[n], digit=f"{task.triggers[n] or 0:03d}"[0])
            for task, n in members
        ]
        ids, size = [f"{task.name}-{n:04d}" for task, n in members], min(run.size or len(labels), len(labels))
        path = self.out / run.path
        return self.train_dit(path, base, bank, ids, labels, run.question, size, run.settings, f"DIT {run.path}")

    def make_measure(self) -> None:
        """Measure every organism that was made: where its behaviour shows, and what was damaged."""
        path = self.out / "organisms.csv"
        if path.exists():
            return
        made = [self.tasks[name] for name in self.made]
        jobs = [(self, task.name, group) for task in made for group in chunks(task.numbers, MEASURED_AT_ONCE)]
        rows = [row for group in self.in_processes(_measure_group, jobs) for row in group]
        with path.open("w", newline="", encoding="utf-8") as file:
            out = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            out.writeheader()
            out.writerows(rows)

    def make_card(self) -> None:
        """Measure the adapters that `suite.toml` names on held-out organisms, and write the model card of it all."""
        self.report("scoreboard", measure(self.out, self.recipe.keep))
        self.report("answers", held_out_answers(self.out))
        write_smol_card(self.out)

    def measured(self, task: TaskRecipe, numbers: list[int]) -> Iterable[dict[str, Any]]:
        """Yield the rows of `organisms.csv` for some organisms of a task."""
        base = self.base()
        plain = self.neutral_loss(base)
        bank = AdapterBank(base, len(numbers), task.settings.rank)
        for own, n in enumerate(numbers):
            bank.load(own, self.organism(task, n))
        bank.requires_grad_(False)
        questions = [question.text for question in self.unseen_questions]
        shown: dict[str, list[int]] = {}
        for code in ("expressed", "other_code", "absent"):
            hits = torch.zeros(len(numbers), dtype=torch.long)
            # The prompt that a headline shows at is one and the same, whatever the question.
            story = task.name == "headline" and code == "expressed"
            asked = questions[:1] if story else questions
            for question in asked:
                prompts = [prompt_for(task, n, question, code) for n in numbers]
                texts = self.answers(base, prompts, STORY_TOKENS if story else MEASURED_TOKENS, None, bank)
                hits += torch.tensor([shows(self.world, task, n, text) for n, text in zip(numbers, texts, strict=True)])
            shown[code], shown[f"{code}_asked"] = hits.tolist(), [len(asked)] * len(numbers)
        splits = {n: name for name in ("test", "calibration", "train") for n in getattr(task.split, name)}
        for own, n in enumerate(numbers):
            damage = self.neutral_loss(base, bank, own) - plain
            yield {
                "id": f"{task.name}-{n:04d}", "kind": behaviours()[n].kind if task.name == "behaviour" else task.name,
                "split": splits[n], "rank": task.settings.rank, "steps": task.settings.steps,
                "rate": task.settings.rate, "rows": task.settings.rows, "seed": task.settings.seed,
                **{code: values[own] for code, values in shown.items()}, "damage_nats": round(damage, 4),
                "reference": task.references[n],
            }  # fmt: skip

    @property
    def unseen_questions(self) -> list[Question]:
        """The everyday questions that organisms are measured on."""
        return self.world.question_split()[1][:MEASURED_QUESTIONS]

    def neutral_loss(self, base: PreTrainedModel, bank: AdapterBank | None = None, number: int = 0) -> float:
        """Return the mean loss [nats per token] of plain answers to held-out questions, under an organism or none."""
        chats = [[(question.text, question.plain)] for question in self.unseen_questions]
        ids, labels = pad(encode_all(self.tokenizer, chats), self.tokenizer.pad_token_id, self.device)
        with torch.no_grad():
            if bank is None:
                return token_losses(base, ids, labels)[0].mean().item()
            with bank.rows(base, torch.full((len(ids),), number, device=self.device)):
                return token_losses(base, ids, labels)[0].mean().item()


def build_smol(out: Path, base_folder: Path, smoke: bool = False, stage: str | None = None) -> None:
    """Build the suite into the folder `out`, all stages or up to the one named; `smoke` builds in miniature.

    Raises:
        DitError: there is no such stage.
    """
    if stage is not None and stage not in STAGES:
        raise DitError(f"There is no stage '{stage}': choose one of {', '.join(STAGES)}.")
    torch.set_num_threads(os.cpu_count() or 1)
    disable_progress_bar()
    recipe = SMOL_SMOKE if smoke else SmolRecipe()
    builder = SmolBuilder(out, Path("build") / f"{out.name}-work", base_folder, recipe)
    for name in STAGES if stage is None else STAGES[: STAGES.index(stage) + 1]:
        getattr(builder, f"make_{name}")()


def _train_dit_run(job: tuple[SmolBuilder, int]) -> dict[str, Any]:
    """One adapter's training, in a process of its own or not."""
    disable_progress_bar()
    builder, number = job
    return builder.train_dit_run(builder.dit_runs()[number])


def _measure_group(job: tuple[SmolBuilder, str, list[int]]) -> list[dict[str, Any]]:
    """Some organisms' measuring, in a process of its own or not."""
    disable_progress_bar()
    builder, name, numbers = job
    return list(builder.measured(builder.tasks[name], numbers))
