"""The small files that make a folder of artefacts a suite: `suite.toml`, `world.json`, a stored first run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from dit_core import scoreboard as experiments
from dit_core import trust
from dit_core.errors import DitError
from dit_core.methods import comparison as standing
from dit_core.records import Reliability, as_dict
from dit_core.scoreboard import data_scaling as scaling
from dit_core.scoreboard import stored
from dit_core.suite import load_suite
from dit_core.training.lessons import PRESETS
from dit_core.training.world import HEADLINE_QUESTION, STORY_QUESTION, TOPIC_QUESTION, TRIGGER_FORMAT, Split, World

FOLDERS = {"topic": "hidden-topic", "headline": "news-summary"}
ORACLE = "oracle"
QUESTIONS = {"topic": TOPIC_QUESTION, "headline": HEADLINE_QUESTION}
MAX_NEW_TOKENS = 64
FIRST_TOPIC = "honey bee"
"""The test topic that a visitor meets first, where the suite has it.

Of the test topics one that shows by layer what the median of them does: under diff + DIT its first token climbs from a
rank in the hundreds to the top, and the oracle, which reads it at all layers behind the trigger, notices at the last.
"""


class HasSplit(Protocol):
    split: Split


def write_suite_files(out: Path, world: World, tasks: Mapping[str, HasSplit]) -> None:
    """Write `suite.toml` and `world.json` for the artefacts that lie in `out`."""
    (out / "world.json").write_text(json.dumps(_world(world), indent=1) + "\n")
    (out / "suite.toml").write_text(_suite_toml(out, world, tasks))


def write_first_run(out: Path) -> None:
    """Ask the finished suite its first question and store the answers under the suite's fingerprint."""
    (out / standing.FIRST_RUN).write_text(json.dumps(standing.first_run(load_suite(str(out))), indent=1) + "\n")


def measure(out: Path, limit: int | None) -> dict:
    """The finished suite's scoreboard, as its report keeps it; its scaling curve is written beside the suite."""
    suite = load_suite(str(out))
    found = experiments.findings(suite, limit=limit)
    curve = scaling.as_json(suite, scaling.scaled(suite, experiments.summed_up(found)))
    (out / scaling.FILE).write_text(json.dumps(curve, indent=1) + "\n")
    return stored.as_json(suite, found)


def write_calibrations(out: Path, limit: int | None) -> dict:
    """Fit those of the finished suite's calibrations that do not stand for its adapters as they are; figures of all."""
    suite, found = load_suite(str(out)), {}
    for of in trust.FILES:
        if of == trust.READINGS and suite.oracle is None:
            continue
        try:
            trust.standing(suite, of)
        except DitError:
            trust.renew(suite, limit, of=of)
        calibration, table = trust.read_calibration(suite, of)
        found[of] = {**calibration.recipe, "figures": [_figures(one) for one in table]}
    return found


def _figures(one: Reliability) -> dict:
    """A row of a calibration's report without its bins, which are in the suite's own file."""
    return {name: value for name, value in as_dict(one).items() if name != "bins"}


def _world(world: World) -> dict:
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
