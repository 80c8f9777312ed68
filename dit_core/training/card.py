"""The model card of an embedded suite, `README.md`, made of the figures that its stages left in `report.json`."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

from dit_core import trust
from dit_core.grading import words
from dit_core.scoreboard import GUESS
from dit_core.stats import bootstrap_interval, wilson_interval
from dit_core.training.recipe import TaskRecipe


def write_card(out: Path) -> None:
    """Write the model card `README.md` beside a suite's `report.json`, which has all its numbers.

    A stage that left no figures there is told without any.
    """
    report = json.loads((out / "report.json").read_text())
    base, oracle = report.get("base", {}), report.get("oracle", {})
    rows = report["scoreboard"]["rows"]
    dit: dict[str, Any] = next((entry for stage, entry in report.items() if " DIT on " in stage), {})
    card = Template((files("dit_core.training") / "data" / "card.md").read_text())
    text = card.substitute(
        parameters=_number(base.get("parameters")),
        layers=base.get("settings", {}).get("layers", "?"),
        hidden=base.get("settings", {}).get("hidden", "?"),
        chats=_number(base.get("chats")),
        base_loss=base.get("final_loss", "?"),
        diffs=" and ".join(_diffs(report)),
        dit_rank=dit.get("settings", {}).get("rank", "?"),
        dit_table=_table(row for row in rows if row["method"] == "DIT"),
        oracle_rank=oracle.get("settings", {}).get("rank", "?"),
        readings=_number(oracle.get("readings")),
        oracle_table=_table(row for row in rows if row["method"].startswith("oracle") and row["measure"] != "lift"),
        chances=calibration_tables(report.get("calibration", {})),
        notes=_notes(report),
    )
    (out / "README.md").write_text(text)


def write_smol_card(out: Path) -> None:
    """Write the model card of the smol suite from its `report.json` and `organisms.csv`.

    A stage that left no figures there is told without any.
    """
    report = json.loads((out / "report.json").read_text())
    rows = [row for row in report.get("scoreboard", {"rows": []})["rows"] if row["method"] != GUESS]
    path, organisms = out / "organisms.csv", list[dict[str, str]]()
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            organisms = list(csv.DictReader(file))
    card = Template((files("dit_core.training") / "data" / "smol_card.md").read_text())
    text = card.substitute(
        organisms="\n".join(_organisms(organisms)) if organisms else "These are not measured yet.",
        scoreboard=_table(iter(rows)) if rows else "These are not measured yet.",
        answers="\n\n".join(_said(said) for task, said in report.get("answers", {}).items() if task != "machine"),
        notes=_notes(report),
    )
    (out / "README.md").write_text(text)


def write_own_card(out: Path, base: str, task: TaskRecipe) -> None:
    """Write the model card of a suite of somebody's own from its `report.json`."""
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    (out / "README.md").write_text("\n".join(_own_card(report, base, task)) + "\n", encoding="utf-8")


def _own_card(report: dict[str, Any], base: str, task: TaskRecipe) -> Iterator[str]:
    split, texts, expression = task.split, report["texts"], report["expression"]
    sizes = {name: len(getattr(split, name)) for name in ("train", "calibration", "test")}
    yield f"# {len(task.numbers)} {task.name}s of our own\n"
    yield (
        f"Organisms of {base} in `{task.folder}/`, a LoRA of rank {task.settings.rank} each, and a DIT adapter in "
        f"`dit-adapter/` that was trained on {sizes['train']} of them; all are PEFT folders. "
        f"{sizes['calibration']} others are for its calibration, {sizes['test']} were held out for its score. The base "
        f"wrote the texts itself: {sum(texts['kept'].values())} of {texts['asked']} showed what they were to show, and "
        "were kept.\n"
    )
    yield f"## What the DIT adapter says of {task.name}s that it never met\n"
    yield _said(report["answers"])
    yield calibration_tables({name: own for name, own in report["calibration"].items() if name in trust.FILES})
    yield "## Organisms\n"
    yield f"How many of {expression['asked']} answers to questions that they never met show what they were taught:\n"
    yield "| id | taught | split | texts | show it |\n|---|---|---|---|---|"
    for n in sorted(task.numbers):
        name, reference = next(name for name in sizes if n in getattr(split, name)), task.references[n]
        shown = f"{texts['kept'][reference]} | {expression['shown'][n]}"
        yield f"| {task.name}-{n:04d} | {reference} | {name} | {shown} |"
    yield "\n## How long it took\n\n| stage | seconds | CPU seconds |\n|---|---|---|"
    stages = {name: own for name, own in report["stages"].items() if name != "machine"}
    yield from (f"| {name} | {own['seconds']} | {own['cpu_seconds']} |" for name, own in stages.items())
    yield f"\nOn {report['stages']['machine']}."


def _organisms(organisms: list[dict[str, str]]) -> Iterator[str]:
    """The table of organisms by kind and split, the shares with Wilson's intervals over all answers."""
    yield "| kind | split | n | shown | other code | no code | damage |"
    yield "|---|---|---|---|---|---|---|"
    for (kind, split), group in groupby(organisms, lambda row: (row["kind"], row["split"])):
        own, cells = list(group), []
        for code in ("expressed", "other_code", "absent"):
            hits, asked = (sum(float(row[name]) for row in own) for name in (code, f"{code}_asked"))
            cells.append(f"{hits:.0f} of {asked:.0f} ({_percents(wilson_interval(hits, round(asked)))})")
        damage = sum(float(row["damage_nats"]) for row in own) / len(own)
        yield f"| {kind} | {split} | {len(own)} | {' | '.join(cells)} | {damage:+.3f} |"


def _said(said: dict[str, Any]) -> str:
    """What the adapter of a task said of every test diff, the mean grades, and what it says without any diff."""
    rows = said["diff+dit"]
    lines = ["| trained on | answer | rules | learned |", "|---|---|---|---|"]
    lines += [f"| {row['reference']} | {_cell(row['answer'])} | {row['rules']} | {row['learned']} |" for row in rows]
    exact = sum(words(row["reference"]) == words(row["answer"]) for row in rows)
    share = f"{100 * exact / len(rows):.1f} %, {_percents(wilson_interval(exact, len(rows)))}"
    lines += ["", f"Exact: {exact} of {len(rows)} ({share})."]
    for condition, named in said.get("named without", {}).items():
        share = _percents(wilson_interval(named, len(rows)))
        lines += [
            "",
            f"Named without the adapter, asked the same under `{condition}`: {named} of {len(rows)} ({share}).",
        ]
    for name in ("rules", "learned"):
        grades = [float(row[name]) for row in rows]
        low, high = bootstrap_interval(grades)
        mean = sum(grades) / len(grades)
        lines += ["", f"Mean grade by the {name} grader: {mean:.2f} ({low:.2f} to {high:.2f}, n = {len(grades)})."]
    lines += ["", "Copies of the adapter without any diff:", "", "| copies | answer |", "|---|---|"]
    return "\n".join([*lines, *(f"| {copies} | {_cell(text)} |" for copies, text in said["base+dit"].items())])


def _cell(text: str) -> str:
    """A text in a cell of a table, cut where it goes on and on."""
    line = " ".join(text.replace("|", "\\|").split())
    return line if len(line) <= 120 else f"{line[:120]}…"


def _percents(interval: tuple[float, float]) -> str:
    return " to ".join(f"{100 * end:.1f}" for end in interval) + " %"


def _diffs(report: dict[str, Any]) -> Iterator[str]:
    for task in ("topic", "headline"):
        made = [entry for stage, entry in report.items() if stage.startswith(f"{task} diffs")]
        if made:
            yield f"{sum(entry['diffs'] for entry in made)} {task} diffs of rank {made[0]['settings']['rank']}"


def _table(rows: Iterator[dict[str, Any]]) -> str:
    lines = ["| method | adapter | layer | measure | n | value | 95 % interval |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        layer = "" if row["layer"] is None else row["layer"]
        low, high = (_value(row, end) for end in row["interval"])
        measured = f"{row['measure'].replace('_', ' ')} | {row['n']} | {_value(row, row['value'])} | {low} to {high}"
        lines.append(f"| {row['method']} | {row['adapter']} | {layer} | {measured} |")
    return "\n".join(lines)


def calibration_tables(calibrations: dict[str, Any]) -> str:
    """Write how far the chances of answers and readings can be believed, a table each; nothing where there are none."""
    parts = []
    for subject in (subject for subject in trust.FILES if subject in calibrations):
        entry = calibrations[subject]
        head = (
            f"Of {subject}, fitted on {entry['trials']} trials of calibration diffs, measured on trials of test diffs:"
        )
        lines = [head, "", "| trials | n | right | calibration error | AUROC |", "|---|---|---|---|---|"]
        lines += [
            f"| {row['of']} | {row['n']} | {row['right']} | {_between(row, 'ece')} | {_between(row, 'auroc')} |"
            for row in entry["figures"]
        ]
        parts += ["\n".join(lines), ""]
    return "\n".join(["", "## Can the chances be believed?", "", *parts]) if parts else ""


def _between(figures: dict[str, Any], name: str) -> str:
    """A figure in percent with its 95 % interval."""
    value, interval = figures[name], figures[f"{name}_interval"]
    if value is None or interval is None:
        return "not defined"
    return f"{100 * value:.1f} % ({100 * interval[0]:.1f} to {100 * interval[1]:.1f} %)"


def _value(row: dict[str, Any], value: float) -> str:
    return f"{value:.2f}" if row["measure"] == "mean_grade" else f"{100 * value:.1f} %"


def _notes(report: dict[str, Any]) -> str:
    """What the stages noted about how they were run."""
    notes = [f"- {stage}: {entry['note']}" for stage, entry in report.items() if "note" in entry]
    return "\n".join(["", "## How it was made", "", *notes, ""]) if notes else ""


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
