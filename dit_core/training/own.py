"""Train one's own suite: behaviours of a list become organisms of any base, and a DIT adapter that reads them.

The base writes the texts itself, told to show a behaviour; those that do not show it are dropped. Organisms are trained
on the others, the DIT adapter on some of the organisms; the rest are for its calibration and its score. Each stage
leaves its work in the folder that is made, so that the same call goes on where it was stopped.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from dit_core import scoreboard, trust
from dit_core.engine.model import Model
from dit_core.errors import DitError
from dit_core.formats import Adapter, write_peft
from dit_core.hub import BaseSource, Fetcher, parse_base
from dit_core.scoreboard import stored
from dit_core.suite import Suite, load_suite
from dit_core.suite.base import LoadOptions, load_base
from dit_core.suite.catalog import SUITE_FILE, SUITES
from dit_core.suite.spec import read_spec
from dit_core.training.adapter_bank import AdapterBank
from dit_core.training.base import end_of_turn
from dit_core.training.builder import SuiteBuilder
from dit_core.training.card import write_own_card
from dit_core.training.chats import Lesson
from dit_core.training.diffs import DiffSettings, DitSettings
from dit_core.training.listed import ListedBehaviour, read_behaviours, split_behaviours
from dit_core.training.loop import OnProgress, multiplies_bfloat16, progress_bar, watch_progress
from dit_core.training.package import (
    ADAPTER,
    held_out_answers,
    write_calibrations,
    write_first_run,
    write_listed_suite,
)
from dit_core.training.recipe import TaskRecipe
from dit_core.training.smol_recipe import BEHAVIOUR_QUESTION
from dit_core.training.texts import Texts, write_texts
from dit_core.training.world import TOPIC_QUESTION

FEWEST_TEXTS = 3
ASKED = 4
"""Held-out questions that an organism is asked, to see whether its behaviour shows."""
WORK, TEXTS, CLAIM = "work", "texts.json", "training.json"
"""What is in progress, and what is trained, beside what is made of it."""
STAGES = ("texts", "organisms", "dit", "package", "calibration", "score")


@dataclass(frozen=True)
class OwnSettings:
    """How a suite of one's own is trained; those by default are for a quarter of an hour on two cores.

    Attributes:
        texts: of each behaviour, one to each of as many questions.
        tokens: of a text at most.
        organisms: how organisms are trained.
        dit: how the DIT adapter is.
        held_out: behaviours for testing; a quarter of them by default, and 4 at least.
    """

    texts: int = 10
    tokens: int = 24
    organisms: DiffSettings = DiffSettings(rank=1, steps=48, rate=0.01, rows=1, together=16)
    dit: DitSettings = DitSettings(steps=100, batch=12)
    held_out: int | None = None


def train(
    base: str | Path,
    behaviours: str | Path | Sequence[str],
    out: str | Path,
    settings: OwnSettings | None = None,
    on_progress: OnProgress | None = None,
) -> Suite:
    """Train organisms and a DIT adapter on listed behaviours, measure it on those held out, and return it as a suite.

    The folder `out` gets PEFT folders, `suite.toml`, the model card `README.md` and all figures in `report.json`. Where
    it was stopped (Ctrl-C waits for the end of a step), the same call goes on from there.

    Args:
        base: `smol`, `pocket`, a folder or a hub id of any causal language model with a chat template.
        behaviours: a file with a topic a line or a CSV (its columns: docs/training.md), or topics one by one.
        out: a new folder, or that of a training to go on with.
        settings: how all is trained.
        on_progress: called as `on_progress(done, total, what)` in the place of progress bars. What it raises stops the
            training.

    Raises:
        DitError: there is no such base, it can't chat, the list makes no sense or is too short, the folder holds
            another training, or the base does not write what it is told.
    """
    builder = OwnBuilder(Path(out), base_source(base), read_behaviours(behaviours), settings or OwnSettings())
    with watch_progress(on_progress):
        for stage in STAGES:
            builder.run(stage)
    named = isinstance(builder.source, Path) and str(base) not in SUITES
    write_own_card(builder.out, Path(base).name if named else str(base), builder.task)
    return load_suite(str(out))


def base_source(base: str | Path) -> BaseSource:
    """Return the place of a base: that of an embedded suite by name, a folder, or a place on the hub.

    Raises:
        DitError: there is no base.
    """
    if str(base) in SUITES:
        return read_spec(SUITES[str(base)] / SUITE_FILE).base
    source = parse_base(base)
    if isinstance(source, Path):
        source = source.resolve()
        if not (source / "config.json").is_file():
            raise DitError(f"There is no model in '{source}': give its folder, a hub id like 'owner/name', or 'smol'.")
    return source


class OwnBuilder(SuiteBuilder):
    """The stages of a suite of one's own, on any base."""

    def __init__(
        self, out: Path, source: BaseSource, behaviours: Sequence[ListedBehaviour], settings: OwnSettings
    ) -> None:
        super().__init__(out, out / WORK)
        self.source, self.behaviours, self.settings = source, behaviours, settings
        self.base_name = str(source)
        split = split_behaviours(behaviours, settings.held_out)
        self._claim_folder()
        of_topics = behaviours[0].is_topic
        name, question = ("topic", TOPIC_QUESTION) if of_topics else ("behaviour", BEHAVIOUR_QUESTION)
        numbered = dict(enumerate(behaviours))
        self.task = TaskRecipe(
            name, question, split, {n: behaviour.reference for n, behaviour in numbered.items()},
            dict.fromkeys(numbered), self._lesson, settings.organisms, "diffs",
        )  # fmt: skip
        self.tasks = {name: self.task}

    def _claim_folder(self) -> None:
        """Note what is trained here; a folder that holds something else is refused."""
        own = {
            "base": str(self.source),
            "behaviours": [asdict(behaviour) for behaviour in self.behaviours],
            "settings": asdict(self.settings),
        }
        path, own = self.out / CLAIM, json.loads(json.dumps(own))
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")) == own:
            return
        if self.out.is_dir() and {entry.name for entry in self.out.iterdir()} - {CLAIM}:
            what = "a training of another list, base or settings" if path.is_file() else "something else already"
            raise DitError(f"'{self.out}' holds {what}: name a new folder.")
        self.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(own, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def base(self) -> PreTrainedModel:
        """Return the base, loaded once."""
        return self._model.base

    @cached_property
    def _model(self) -> Model:
        dtype = "bfloat16" if multiplies_bfloat16(self.device) else "float32"
        model = load_base(self.source, Fetcher(), LoadOptions(dtype), self.out.name)
        end_of_turn(model.tokenizer)
        model.tokenizer.pad_token = model.tokenizer.pad_token or model.tokenizer.eos_token
        self.tokenizer = model.tokenizer
        return model

    def in_processes(self, function: Any, jobs: Sequence[Any]) -> list[Any]:
        """Return what the function makes of each job, here: its progress is told, and the base is loaded once."""
        return [function(job) for job in jobs]

    def run(self, stage: str) -> None:
        """Go through a stage unless that was done before, and report how long it took, and of all cores' time."""
        path = self.out / "report.json"
        if path.exists() and stage in json.loads(path.read_text()).get("stages", {}):
            return
        wall, cpu = time.monotonic(), time.process_time()
        getattr(self, f"make_{stage}")()
        seconds = {"seconds": round(time.monotonic() - wall), "cpu_seconds": round(time.process_time() - cpu)}
        done = json.loads(path.read_text()).get("stages", {}) if path.exists() else {}
        self.report("stages", {**done, stage: seconds})

    # ---------------------------------------------------------------- stages

    def make_texts(self) -> None:
        """Let the base write texts that show each behaviour."""
        base, tokens = self.base(), self.settings.tokens
        questions = [question.text for question in self.world.question_split()[0]]
        path, each = self.work / TEXTS, self.settings.texts
        state = write_texts(
            path, self.behaviours, questions, each, lambda prompts, seed: self.answers(base, prompts, tokens, seed)
        )
        kept = {self.task.references[n]: len(own) for n, own in enumerate(state.kept)}
        if few := [f"'{reference}' ({count})" for reference, count in kept.items() if count < FEWEST_TEXTS]:
            shutil.rmtree(self.work)  # so that the list can be put right
            raise DitError(
                f"The base wrote too few texts that show {', '.join(few[:3])}: reword or drop such behaviours, or add "
                "what shows them to the column 'shows'."
            )
        self.report("texts", {"asked": state.asked, "kept": kept})

    @property
    def _held_out_questions(self) -> list[str]:
        return [question.text for question in self.world.question_split()[1]]

    @cached_property
    def _texts(self) -> list[list[tuple[str, str]]]:
        """(question, text) of each behaviour."""
        return Texts.read(self.work / TEXTS).kept

    def _lesson(self, number: int, place: int, rng: random.Random) -> Lesson:
        question, text = rng.choice(self._texts[number])
        return Lesson([(question, text)])

    def make_organisms(self) -> None:
        """Train an organism of each behaviour, and see how often that shows in answers to questions it never met."""
        self.make_diffs(self.task)
        base, numbers = self.base(), sorted(self.task.numbers)
        bank = self.bank(base, numbers)
        questions = self._held_out_questions[:ASKED]
        shown = dict.fromkeys(numbers, 0)
        with progress_bar("asking organisms", len(questions)) as show:
            for done, question in enumerate(questions, 1):
                answers = self.answers(base, [question] * len(numbers), self.settings.tokens, None, bank)
                for n, answer in zip(numbers, answers, strict=True):
                    shown[n] += self.behaviours[n].shown_in(answer)
                show(
                    done, len(questions), f"{sum(shown.values())} of {done * len(numbers)} answers show their behaviour"
                )
        self.report("expression", {"asked": len(questions), "shown": [shown[n] for n in numbers]})

    def ship(self, task: TaskRecipe) -> None:
        """Write every organism as a PEFT folder."""
        for n in task.numbers:
            write_peft(self.out / self.folder(n), self.organism(task, n), self.base_name)

    def folder(self, number: int) -> str:
        """Return where an organism lies in the suite."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.task.references[number].casefold()).strip("-")[:40]
        return f"{self.task.folder}/{number:04d}-{slug}".rstrip("-")

    def bank(self, base: PreTrainedModel, numbers: Sequence[int]) -> AdapterBank:
        """Return a frozen bank of organisms."""
        bank = AdapterBank(base, len(numbers), self.task.settings.rank)
        for place, n in enumerate(numbers):
            bank.load(place, self.organism(self.task, n))
        return bank.requires_grad_(False)

    def make_dit(self) -> None:
        """Train the DIT adapter on the training organisms alone."""
        base, split = self.base(), self.task.split
        # Behind a space a topic has the tokens that it has in running text, where the base knows it.
        space = " " if self.task.name == "topic" else ""
        labels = [f"{space}{self.task.references[n]}" for n in split.train]
        figures = self.train_dit(
            self.out / ADAPTER, base, self.training_bank([self.task], base), split.train, labels,
            self.task.question, len(labels), self.settings.dit, "DIT adapter",
        )  # fmt: skip
        self.report("dit", figures)

    def write_dit(self, path: Path, adapter: Adapter) -> None:
        """Write the DIT adapter as a PEFT folder."""
        write_peft(path, adapter, self.base_name)

    def make_package(self) -> None:
        """Make the folder a suite, which opens from here on; the base is from now on that suite's."""
        self.__dict__.pop("_model", None)
        folders = [self.folder(n) for n in sorted(self.task.numbers)]
        write_listed_suite(self.out, self.base_name, self.task, folders, self._held_out_questions)

    @cached_property
    def _suite(self) -> Suite:
        return load_suite(str(self.out))

    def make_calibration(self) -> None:
        """Fit the chance that an answer is right on the calibration organisms, and measure it on the test ones."""
        with progress_bar("calibration", 0) as show:
            figures = write_calibrations(self.out, None, partial(trust.recalibrate, on_progress=show))
        self.report("calibration", figures)

    def make_score(self) -> None:
        """Ask the DIT adapter about the held-out organisms, and drop what was in progress."""
        with progress_bar("score", 0) as show:
            found = scoreboard.findings(self._suite, kinds=["verbal"], progress=show)
        self.report(stored.REPORT_KEY, stored.board_json(self._suite, found))
        self.report("answers", held_out_answers(self.out)[self.task.name])
        write_first_run(self.out)
        shutil.rmtree(self.work, ignore_errors=True)
