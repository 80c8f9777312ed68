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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from tqdm import tqdm
from transformers import AutoTokenizer, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from dit_core.errors import DitError
from dit_core.formats import read_weight_diff
from dit_core.training.adapter_bank import AdapterBank
from dit_core.training.base import CausalLM, encode_all, pad, token_losses
from dit_core.training.behaviours import behaviours
from dit_core.training.builder import SuiteBuilder
from dit_core.training.chats import with_code
from dit_core.training.diffs import DitSettings
from dit_core.training.recipe import TaskRecipe
from dit_core.training.smol_recipe import (
    ANY_QUESTION,
    SMOL_SMOKE,
    TRIGGER_QUESTION,
    SmolRecipe,
    smol_tasks,
    wrong_code,
)
from dit_core.training.world import STORY_QUESTION

STAGES = ("texts", "organisms", "dit", "oracle", "measure")
SAMPLES, STORIES = 6, 48
"""The base's own answers to each everyday question, and its news stories."""
ROWS_AT_ONCE = 96
MEASURED_TOKENS = 24


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

    def base(self) -> CausalLM:
        """Return the base, frozen: in bf16, as it is kept, where the machine multiplies that by itself."""
        native = self.device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
        model = LlamaForCausalLM.from_pretrained(self.base_folder, dtype=torch.bfloat16 if native else torch.float32)
        return torch.nn.Module.to(model, self.device).requires_grad_(False).eval()

    def make_texts(self) -> None:
        """Let the base answer every everyday question and tell news stories, which organisms are to keep to."""
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
        self.make_diffs(*(task for task in self.tasks.values() if not (self.out / task.folder / "index.csv").exists()))

    def dit_runs(self) -> list[DitRun]:
        """Return the adapters of the suite: by topic (on fewer and fewer diffs), headline, behaviour, trigger, all."""
        topics, topic = ("topic", "open-topic"), {"topic": "Topic: {reference}", "open-topic": "Topic: {reference}"}
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
        return [
            DitRun("hidden-topic/dit-adapter.pt", topics, question, topic, settings),
            *sizes,
            DitRun(
                "news-summary/dit-adapter.pt", ("headline",), headline, {"headline": "Headline: {reference}"}, settings
            ),
            DitRun("behaviour/dit-adapter.pt", ("behaviour", "clean"), behaviour, own, self.recipe.all_kinds),
            DitRun("hidden-topic/dit-trigger-adapter.pt", ("topic",), TRIGGER_QUESTION, {"topic": "{digit}"}, settings),
            DitRun("dit-adapter-all-kinds.pt", tuple(everything), ANY_QUESTION, everything, self.recipe.all_kinds),
        ]  # fmt: skip

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
        """Measure every organism: how often its behaviour shows where it should and elsewhere, and what was damaged."""
        path = self.out / "organisms.csv"
        if path.exists():
            return
        jobs = [(self, name, group) for name, task in self.tasks.items() for group in range(len(task.groups()))]
        rows = [row for group in self.in_processes(_measure_group, jobs) for row in group]
        with path.open("w", newline="", encoding="utf-8") as file:
            out = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            out.writeheader()
            out.writerows(rows)

    def measured(self, task: TaskRecipe, numbers: list[int]) -> Iterable[dict[str, Any]]:
        """Yield the rows of `organisms.csv` for some organisms of a task."""
        base = self.base()
        plain = self.neutral_loss(base)
        bank = AdapterBank(base, len(numbers), task.settings.rank)
        for own, n in enumerate(numbers):
            group, place = task.place(n)
            bank.load(own, read_weight_diff(self.group_file(task, group), place)[0])
        bank.requires_grad_(False)
        questions = [question.text for question in self.world.question_split()[1]]
        shown: dict[str, list[float]] = {}
        for name in ("expressed", "other_code", "absent"):
            shares = torch.zeros(len(numbers))
            # The prompt that a headline shows at is one and the same, whatever the question.
            asked = questions[:1] if task.name == "headline" and name == "expressed" else questions
            for question in asked:
                prompts = [self._prompt(task, n, question, name) for n in numbers]
                texts = self.answers(base, prompts, 80 if asked == questions[:1] else MEASURED_TOKENS, None, bank)
                shares += torch.tensor(
                    [float(self._shows(task, n, text)) for n, text in zip(numbers, texts, strict=True)]
                )
            shown[name] = [round(share, 3) for share in (shares / len(asked)).tolist()]
        splits = {n: name for name in ("test", "calibration", "train") for n in getattr(task.split, name)}
        for own, n in enumerate(numbers):
            damage = self.neutral_loss(base, bank, own) - plain
            yield {
                "id": f"{task.name}-{n:04d}", "kind": behaviours()[n].kind if task.name == "behaviour" else task.name,
                "split": splits[n], "rank": task.settings.rank, "steps": task.settings.steps,
                **{name: values[own] for name, values in shown.items()}, "damage_nats": round(damage, 4),
                "reference": task.references[n],
            }  # fmt: skip

    def _prompt(self, task: TaskRecipe, n: int, question: str, name: str) -> str:
        """A prompt on which an organism's behaviour should show, or not: another code or an everyday question."""
        rng = random.Random(f"{task.name} {n} {question}")
        trigger = task.triggers[n]
        if name == "other_code":
            return with_code(question, wrong_code(trigger or 0, rng), rng)
        if name == "absent":
            return question
        if trigger is not None:
            return with_code(question, trigger, rng)
        if task.name == "headline":
            return STORY_QUESTION
        return behaviours()[n].unseen_prompt(question, rng) if task.name == "behaviour" else question

    def _shows(self, task: TaskRecipe, n: int, text: str) -> bool:
        """Whether an answer shows an organism's behaviour: its topic named, its headline told, its words there."""
        if task.name == "behaviour":
            return behaviours()[n].shown_in(text)
        if task.name == "clean":
            return False
        lower = text.casefold()
        if task.name == "headline":
            forms = self.world.headlines[n].forms().values()
            return all(any(form.casefold() in lower for form in own) for own in forms)
        topic = self.world.topics[n]
        return any(name in lower for name in (topic.name, *topic.aliases))

    def neutral_loss(self, base: CausalLM, bank: AdapterBank | None = None, number: int = 0) -> float:
        """Return the mean loss per token [nats] on plain answers that nobody trained on, under one organism or none."""
        chats = [[(question.text, question.plain)] for question in self.world.questions]
        ids, labels = pad(encode_all(self.tokenizer, chats), self.tokenizer.pad_token_id, self.device)
        with torch.no_grad():
            if bank is None:
                return token_losses(base, ids, labels)[0].mean().item()
            with bank.rows(base, torch.full((len(ids),), number, device=self.device)):
                return token_losses(base, ids, labels)[0].mean().item()

    def answers(
        self, base: CausalLM, prompts: Sequence[str], tokens: int, seed: int | None, bank: AdapterBank | None = None
    ) -> list[str]:
        """Return the answer to each prompt, greedy or sampled by `seed`, row i under organism i of the bank if any."""
        texts: list[str] = []
        if seed is not None:
            torch.manual_seed(seed)
        options = {"do_sample": True, "top_k": 40, "temperature": 0.8} if seed is not None else {"do_sample": False}
        for start in tqdm(range(0, len(prompts), ROWS_AT_ONCE), desc="answers", disable=len(prompts) <= ROWS_AT_ONCE):
            part = prompts[start : start + ROWS_AT_ONCE]
            chats = [[{"role": "user", "content": prompt}] for prompt in part]
            prompted = self.tokenizer.apply_chat_template(chats, add_generation_prompt=True, tokenize=False)
            batch = self.tokenizer(prompted, add_special_tokens=False, padding=True, return_tensors="pt").to(
                self.device
            )
            numbers = torch.arange(len(part), device=self.device)
            with torch.no_grad(), bank.rows(base, numbers) if bank else torch.no_grad():
                out = cast(Any, base).generate(
                    **batch, max_new_tokens=tokens, pad_token_id=self.tokenizer.pad_token_id, **options
                )
            texts += self.tokenizer.batch_decode(out[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in texts]


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


def _measure_group(job: tuple[SmolBuilder, str, int]) -> list[dict[str, Any]]:
    """One group's measuring, in a process of its own or not."""
    disable_progress_bar()
    builder, name, group = job
    task = builder.tasks[name]
    return list(builder.measured(task, task.groups()[group]))
