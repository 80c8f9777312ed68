"""The model card of a suite that was built here: what each part is, what it was trained on, figures and limits.

All numbers are those of `report.json`; a stage that left no figures there is told without any.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from string import Template

from dit_core import trust


def write_card(out: Path) -> None:
    """Write `README.md` beside a suite's `report.json`."""
    report = json.loads((out / "report.json").read_text())
    base, oracle = report.get("base", {}), report.get("oracle", {})
    rows = report["scoreboard"]["rows"]
    dit = next((entry for stage, entry in report.items() if " DIT on " in stage), {})
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
        chances=_chances(report.get("calibration", {})),
        notes=_notes(report),
    )
    (out / "README.md").write_text(text)


def _diffs(report: dict) -> Iterator[str]:
    for task in ("topic", "headline"):
        if made := report.get(f"{task} diffs"):
            yield f"{made['diffs']} {task} diffs of rank {made['settings']['rank']}"


def _table(rows: Iterator[dict]) -> str:
    lines = ["| method | adapter | layer | measure | n | value | 95 % interval |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        layer = "" if row["layer"] is None else row["layer"]
        low, high = (_value(row, end) for end in row["interval"])
        measured = f"{row['measure'].replace('_', ' ')} | {row['n']} | {_value(row, row['value'])} | {low} to {high}"
        lines.append(f"| {row['method']} | {row['adapter']} | {layer} | {measured} |")
    return "\n".join(lines)


def _chances(calibrations: dict) -> str:
    """How far the chances of answers and readings can be believed, each in a table."""
    parts = []
    for of in (one for one in trust.FILES if one in calibrations):
        entry = calibrations[of]
        head = f"Of {of}, fitted on {entry['trials']} trials of calibration diffs, measured on trials of test diffs:"
        lines = [head, "", "| trials | n | right | calibration error | AUROC |", "|---|---|---|---|---|"]
        lines += [
            f"| {one['of']} | {one['n']} | {one['right']} | {_between(one, 'ece')} | {_between(one, 'auroc')} |"
            for one in entry["figures"]
        ]
        parts += ["\n".join(lines), ""]
    return "\n".join(["", "## Can the chances be believed?", "", *parts]) if parts else ""


def _between(figures: dict, name: str) -> str:
    """A figure in percent with its 95 % interval."""
    value, interval = figures[name], figures[f"{name}_interval"]
    if value is None or interval is None:
        return "not defined"
    return f"{100 * value:.1f} % ({100 * interval[0]:.1f} to {100 * interval[1]:.1f} %)"


def _value(row: dict, value: float) -> str:
    return f"{value:.2f}" if row["measure"] == "mean_grade" else f"{100 * value:.1f} %"


def _notes(report: dict) -> str:
    """What the stages noted about how they were run."""
    notes = [f"- {stage}: {entry['note']}" for stage, entry in report.items() if "note" in entry]
    return "\n".join(["", "## How it was made", "", *notes, ""]) if notes else ""


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
