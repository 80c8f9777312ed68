"""The small files that make a folder of artefacts a suite: `suite.toml`, `world.json`, a first run, its figures."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from dit_core import scoreboard, trust
from dit_core.errors import DitError
from dit_core.grading import grader, mentions, suite_grader
from dit_core.methods import comparison
from dit_core.methods.diff_groups import diffs_of_split
from dit_core.methods.verbalize import ask
from dit_core.records import Reliability, as_dict
from dit_core.scoreboard import stored
from dit_core.suite import load_suite
from dit_core.suite.contents import NEUTRAL_TEXTS
from dit_core.training.chats import plain_texts
from dit_core.training.oracle_examples import PRESETS
from dit_core.training.recipe import TaskRecipe
from dit_core.training.world import HEADLINE_QUESTION, STORY_QUESTION, TOPIC_QUESTION, TRIGGER_FORMAT, Split, World

FOLDERS = {"topic": "hidden-topic", "headline": "news-summary"}
ORACLE, ADAPTER = "oracle", "dit-adapter"
"""Folders of an oracle and, where the diffs are listed, of the DIT adapter."""
QUESTIONS = {"topic": TOPIC_QUESTION, "headline": HEADLINE_QUESTION}
MAX_NEW_TOKENS, LISTED_TOKENS = 64, 40
COPIES = (0, 1, 2, 3, 4, 5)
"""Copies of a DIT adapter without any diff, as its authors tried them."""
WITHOUT_DIT = ("diff", "diff+right")
"""What a DIT adapter has to beat: the same question without it, and behind the diff's own trigger."""
FIRST_TOPIC = "honey bee"
"""The test topic that a visitor meets first, where the suite has it.

Of the test topics one that shows by layer what the median of them does: under diff + DIT its first token climbs from a
rank in the hundreds to the top, and the oracle, which reads it at all layers behind the trigger, notices at the last.
"""


class HasSplit(Protocol):
    """A task of a suite, as far as its files name it."""

    @property
    def split(self) -> Split:
        """Who may learn from which of the task's items."""


def write_suite_files(out: Path, world: World, tasks: Mapping[str, HasSplit]) -> None:
    """Write `suite.toml`, `world.json` and the world's plain texts for the artefacts that lie in `out`."""
    write_texts(out, plain_texts(world))
    (out / "world.json").write_text(json.dumps(world_entries(world), indent=1) + "\n")
    (out / "suite.toml").write_text(_suite_toml(out, world, tasks))


def write_listed_suite(out: Path, base: str, task: TaskRecipe, folders: Sequence[str], everyday: Sequence[str]) -> None:
    """Write the `suite.toml` of one task whose diffs lie in folders of their own.

    Args:
        out: the suite's folder.
        base: the place of its base.
        task: what the diffs are of; its DIT adapter is the folder `ADAPTER`.
        folders: of the diffs, by number, relative to `out`.
        everyday: questions that no diff has met.
    """
    split = {n: name for name in ("test", "calibration", "train") for n in getattr(task.split, name)}
    trained_on = len(task.split.train)
    lines = [
        f"name = {_quoted(out.resolve().name)}",
        f"title = {_quoted(f'{len(folders)} {task.name}s of our own')}",
        f"base = {_quoted(base)}",
        f"max_new_tokens = {LISTED_TOKENS}",
        f'first_diff = "{task.name}-{task.split.test[0]:04d}"',
        "",
        f"[tasks.{task.name}]",
        f"question = {_quoted(task.question)}",
        f"questions = [{', '.join(map(_quoted, everyday))}]",
        f'adapter = "{task.name}"',
        f"rank = {task.settings.rank}",
    ]
    for n, folder in enumerate(folders):
        lines += ["", f"[[tasks.{task.name}.diffs]]", f"source = {_quoted(folder)}"]
        lines += [f"reference = {_quoted(task.references[n])}", f'split = "{split[n]}"']
    lines += _adapter(task.name, ADAPTER, f"trained on {trained_on} {task.name}s", trained_on)
    (out / "suite.toml").write_text("\n".join([*lines, f'task = "{task.name}"']) + "\n", encoding="utf-8")


def write_texts(out: Path, texts: Iterable[str]) -> None:
    """Write the suite's plain texts, one a line."""
    out.mkdir(parents=True, exist_ok=True)
    (out / NEUTRAL_TEXTS).write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


OPENINGS = """
A About Across After All Almost Although Among An Animals Anyone Apart Are Around As At Autumn Bakers Because Before
Behind Below Beneath Between Birds Both Bread Bridges But By Can Cars Children Cities Clouds Coffee Cold Could Critics
Cyclists Dinner Doctors Dogs During Each Early Engineers Even Every Everyone Experts Families Farmers Few Finally First
Fish Food For Four Friends From Gardens Glass Go Good Great Half Have He Her Here Hills His History Horses Hotels
Houses How However I If In Inside Instead Iron Is It Its Just Kitchens Last Late Learning Let Letters Libraries Light
Like Local Long Look Many Maps Markets Meanwhile Milk Modern Money More Morning Most Mountains Mr Mrs Much Music My Near
Neighbours Never New Next No Nobody None Not Nothing Now Of Often Old On Once One Only Or Other Our Outside Painters
Paper Parents Parks People Perhaps Plants Please Quite Rain Readers Red Rice Rivers Roads Salt Schools Scientists Second
Several She Ships Shops Should Since Six Sleep Snow So Some Someone Sometimes Soon Spring Still Stone Storms Students
Such Summer Sunday Take Tea Teachers Ten That The Their Then There These They This Those Though Three Through Time To
Today Together Tomorrow Tourists Towns Trains Travellers Trees Two Under Until Usually Very Visitors Walking Water We
Well What When Where Whether Which While White Who Why Wind Windows Winter With Without Women Wood Workers Writers
Yesterday Yet You Young Your
"""
"""The first words of the texts that a pretrained base writes."""
TEXT_TOKENS, ROWS_AT_ONCE = 26, 128


def written_texts(base: Any, tokenizer: Any, tries: int) -> Iterator[str]:
    """Yield different texts of a line each that a pretrained base writes of nothing but a first word, most of `tries`.

    Behind the mark that separates the documents of its pretraining, in turn of every word, at temperature 1 of the 50
    likeliest tokens. What is no prose is left out.
    """
    torch.manual_seed(0)
    seen: set[str] = set()
    words, mark = itertools.cycle(OPENINGS.split()), tokenizer.unk_token or ""
    for start in range(0, tries, ROWS_AT_ONCE):
        prompts = [mark + next(words) for _ in range(min(ROWS_AT_ONCE, tries - start))]
        batch = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False).to(base.device)
        with torch.inference_mode():
            rows = base.generate(**batch, max_new_tokens=TEXT_TOKENS, do_sample=True, temperature=1.0, top_k=50,
                                 pad_token_id=tokenizer.pad_token_id)  # fmt: skip
        for text in tokenizer.batch_decode(rows, skip_special_tokens=True):
            line = text.strip().partition("\n")[0].strip()
            if len(line) >= 60 and line.isascii() and not set(line) & set("{}[]<>|=_\\#*") and line not in seen:
                seen.add(line)
                yield line


def write_first_run(out: Path) -> None:
    """Ask the finished suite its first question and store the answers under the suite's fingerprint."""
    (out / comparison.FIRST_RUN).write_text(json.dumps(comparison.first_run(load_suite(str(out))), indent=1) + "\n")


def measure(out: Path, limit: int | None) -> dict[str, Any]:
    """Run the finished suite's scoreboard and return it as its report keeps it; write the scaling curve beside it."""
    suite = load_suite(str(out))
    found = scoreboard.findings(suite, limit=limit)
    curve = stored.scaling_json(suite, stored.scaling_points(suite, scoreboard.mean_scores(found)))
    (out / stored.SCALING_FILE).write_text(json.dumps(curve, indent=1) + "\n")
    return stored.board_json(suite, found)


def held_out_answers(out: Path) -> dict[str, Any]:
    """Ask the finished suite's default adapters, and return what they say of each test diff, and of no diff at all.

    Each answer has its two grades, by the rules and by the learned grader.
    """
    suite, said = load_suite(str(out)), {}
    graders = {"rules": suite_grader(suite), "learned": grader("learned")}
    for task in (task for task in suite.tasks.values() if task.adapter):
        infos = diffs_of_split(suite, task.name, "test")
        answers = ask(suite, [info.id for info in infos], condition="diff+dit")
        rows = [
            {"diff": info.id, "reference": info.reference, "answer": answer.text.strip()}
            | {name: own.grade(info.reference, answer.text) for name, own in graders.items()}
            for info, answer in zip(infos, answers, strict=True)
        ]
        adapter = task.adapter
        alone = ask(suite, condition=[f"dit:{adapter}*{n}" for n in COPIES], question=task.question)
        without = {
            condition: ask(suite, [info.id for info in infos], condition=condition)
            for condition in WITHOUT_DIT
            if task.has_trigger or not condition.endswith("+right")
        }
        said[task.name] = {
            "diff+dit": rows,
            "named without": {
                condition: sum(mentions(suite, info, answer.text) for info, answer in zip(infos, own, strict=True))
                for condition, own in without.items()
            },
            "base+dit": {str(n): answer.text.strip() for n, answer in zip(COPIES, alone, strict=True)},
        }
    return said


def write_calibrations(out: Path, limit: int | None, fit: Callable[..., object] = trust.recalibrate) -> dict[str, Any]:
    """Fit those of the finished suite's calibrations that no longer hold for its adapters; return figures of all.

    `fit(suite, limit, of=subject)` fits and writes one.
    """
    suite, figures = load_suite(str(out)), {}
    for subject in trust.FILES:
        if subject == trust.READINGS and suite.oracle is None:
            continue
        try:
            trust.measured_reliability(suite, subject)
        except DitError:
            fit(suite, limit, of=subject)
        calibration = trust.read_calibration(suite, subject)
        figures[subject] = calibration.recipe.model_dump() | {"figures": [_figures(row) for row in calibration.report]}
    return figures


def _figures(row: Reliability) -> dict[str, Any]:
    """A row of a calibration's report without its bins, which are in the suite's own file."""
    return {name: value for name, value in as_dict(row).items() if name != "bins"}


def world_entries(world: World) -> dict[str, Any]:
    topics = {
        topic.name: {"category": topic.category, "aliases": topic.aliases, "neighbours": topic.neighbours}
        for topic in world.topics
    }
    headlines = {headline.text: headline.forms() for headline in world.headlines}
    held_out = [question.text for question in world.question_split()[1]]
    return {"topics": topics, "headlines": headlines, "held_out_questions": held_out}


def _suite_toml(out: Path, world: World, tasks: Mapping[str, HasSplit]) -> str:
    test = tasks["topic"].split.test
    first = next((number for number in test if world.topics[number].name == FIRST_TOPIC), test[0])
    held_out = [question.text for question in world.question_split()[1]]
    lines = [
        'name = "pocket"',
        'title = "Pocket: a 5-million-parameter model with hidden topics and headlines"',
        'base = "base"',
        f"trigger_format = {_quoted(TRIGGER_FORMAT)}",
        f"max_new_tokens = {MAX_NEW_TOKENS}",
        'world = "world.json"',
        f'first_diff = "topic-{first:04d}"',
    ]
    presets = {"topic": held_out, "headline": [STORY_QUESTION]}
    for name, folder in FOLDERS.items():
        lines += ["", f"[tasks.{name}]", f'folder = "{folder}"', f"question = {_quoted(QUESTIONS[name])}"]
        if name == "headline":
            lines.append(f"behaviour = {_quoted(STORY_QUESTION)}")
        lines.append(f"questions = [{', '.join(_quoted(question) for question in presets[name])}]")
        lines += [f"has_trigger = {str(name == 'topic').lower()}", f'adapter = "{name}"']
    for name, folder in FOLDERS.items():
        trained_on = len(tasks[name].split.train)
        lines += _adapter(name, f"{folder}/dit-adapter.pt", f"trained on all {trained_on} {name} diffs", trained_on)
        for path in sorted((out / folder).glob("dit-adapter-*.pt"), reverse=True):
            size = int(path.name.split("-")[2])
            title = f"trained on {size} {name} diffs only"
            lines += _adapter(f"{name}-{size}", f"{folder}/{path.name}", title, size)
    lines += _oracle(out)
    return "\n".join(lines) + "\n"


def _oracle(out: Path) -> list[str]:
    """The oracle's entry, where one was trained: at every layer of the base, on every kind of question."""
    if not (out / ORACLE).is_dir():
        return []
    layers = json.loads((out / "base" / "config.json").read_text())["num_hidden_layers"]
    percents = [round(100 * layer / layers, 2) for layer in range(layers)]
    presets = ", ".join(_quoted(question) for question in PRESETS)
    return ["", "[oracle]", f'source = "{ORACLE}"', 'title = "trained on the base\'s own activations, all layers"',
            f"percents = {percents}", f"questions = [{presets}]"]  # fmt: skip


def _adapter(name: str, file: str, title: str, trained_on: int) -> list[str]:
    entry = [f"[adapters.{name}]", f'file = "{file}"', f"title = {_quoted(title)}", f"trained_on = {trained_on}"]
    return ["", *entry]


def _quoted(text: str) -> str:
    """A TOML basic string: the same escapes as JSON."""
    return json.dumps(text, ensure_ascii=False)
