"""The Scoreboard tab: a board, live or stored, as a table, figures and sentences."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import gradio as gr

from dit_core.errors import DitError
from dit_core.present import plots
from dit_core.present.html import render
from dit_core.records import Reliability, Score, Table
from dit_core.scoreboard import SHARES, Board, asked_note, published_figures, read_scaling, scaling_points
from dit_core.scoreboard.published import RANK, TRAINING_DIFFS
from dit_core.scoreboard.stored import published_points
from dit_core.session.tab import file_content
from dit_core.suite import Suite
from dit_core.trust import FILES, measured_reliability
from dit_core.ui import pieces
from dit_core.ui.pieces import saving, sentence_figure

BY = {"number of training diffs": TRAINING_DIFFS, "rank of the diffs": RANK}
EMPTY = "Nothing measured yet: press Run."
RIGHT = ("exact", "mentions", "equals_base")  # the first of these that a method has is its share of right answers
SEEN = {
    "train": " These diffs are not held out: adapters were trained on them.",
    "calibration": " Layers were chosen on these very diffs, which flatters what is read there.",
}
MEANS = {"exact": "exactly right", "mentions": "names it", "equals_base": "as the base"}


def table(suite: Suite, board: Board | None) -> str:
    """Return the scoreboard as a table, a row per method, task by task, with published means beside."""
    if board is None or not board.scores:
        return f'<p class="dit-small">{EMPTY}</p>{_published_alone(suite)}'
    methods: dict[tuple, dict[str, Score]] = {}
    for score in board.scores:
        methods.setdefault((score.task, score.method, score.adapter, score.layer), {})[score.measure] = score
    tasks: dict[str, list[dict[str, Any]]] = {}
    for (task, *_), scores in methods.items():
        if set(scores) - {"lift"}:
            tasks.setdefault(task, []).append(_row(suite, scores))
    return render("ui/tabs/scoreboard/table.html", tasks=tasks)


def _published_alone(suite: Suite) -> str:
    """Return a published suite's own figures as the table, before anything is measured; "" for another suite."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    for (method, task, adapter), entries in published_figures(suite.name).items():
        if task in suite.tasks and suite.spec.file is None:
            row: dict[str, Any] = dict.fromkeys(("note", "answers", "grade", "share", "share_means"), "")
            row |= {"title": f"{method} {adapter}".strip(), "published": _published_range(entries)}
            tasks.setdefault(task, []).append(row)
    return render("ui/tabs/scoreboard/table.html", tasks=tasks) if tasks else ""


def _row(suite: Suite, scores: dict[str, Score]) -> dict[str, Any]:
    first = next(iter(scores.values()))
    share = next((measure for measure in RIGHT if measure in scores), None)
    return {
        "title": plots.title(first),
        "note": asked_note(suite, first.method),
        "answers": first.n,
        "grade": _figure(scores["mean_grade"]) if "mean_grade" in scores else None,
        "share": _figure(scores[share]) if share else None,
        "share_means": MEANS[share] if share else "",
        "published": _published_range(scores["mean_grade"].published if "mean_grade" in scores else []),
    }


def _figure(score: Score) -> dict[str, str]:
    factor, unit, digits = (100, " %", 0) if score.measure in SHARES else (1, "", 2)
    low, high = (f"{factor * bound:.{digits}f}" for bound in score.interval or (score.value, score.value))
    return {"value": f"{factor * score.value:.{digits}f}{unit}", "interval": f"{low} to {high}"}


def _published_range(entries: Sequence[dict[str, Any]]) -> dict[str, str] | None:
    """Return the range of published means, and which models they are of; None where there are none."""
    if not entries:
        return None
    values = [entry["value"] for entry in entries]
    return {
        "range": f"{values[0]:.2f}" if len(values) == 1 else f"{min(values):.2f} to {max(values):.2f}",
        "models": ", ".join(f"{entry['model']} {entry['value']:.2f}" for entry in entries),
    }


def origin(board: Board | None) -> str:
    """Return where the figures come from: a live run, or the suite's own report."""
    if board is None:
        return ""
    seen = SEEN.get(board.scores.extra.get("split", ""), "")
    if not board.measured:
        grader = board.scores.extra.get("grader")
        return f"Measured here, just now{f', graded by {grader}' if grader else ''}.{seen}"
    changed = "" if board.of_this_suite else " The suite has changed since: press Run to measure it as it is."
    return f"Stored with the suite, measured {board.measured}.{changed}{seen}"


def grades(board: Board | None, task: str) -> str:
    """Return the figure of how the answers about a task's diffs were graded."""
    return pieces.figure_value(partial(plots.grade_bars, board.scores if board else (), task))


def scaling(suite: Suite, board: Board | None, by: str) -> str:
    """Return the figure of the suite's own scaling curve beside the published ones."""
    own = read_scaling(suite) or scaling_points(suite, board.scores if board else ())
    return pieces.figure_value(partial(plots.scaling, [*own, *published_points()], BY[by]))


def named(board: Board | None, task: str, revealed: str) -> str:
    """Return the figure of which methods named which diffs; by id only the one that was revealed."""
    own = _of(board, task)
    return pieces.figure_value(partial(plots.who_named, own, shown=revealed)) if own else sentence_figure(EMPTY)


def correlations(board: Board | None, task: str) -> str:
    """Return the figure of how the errors of methods go together."""
    return pieces.figure_value(partial(plots.correlations, board.agreement, task)) if board else sentence_figure(EMPTY)


def votes(board: Board | None, task: str) -> str:
    """Return what a vote of the methods gains, in sentences."""
    votes = board.agreement.extra.get("votes", ()) if board else ()
    sentences = [_vote(vote) for vote in votes if vote["task"] == task]
    return render("ui/tabs/scoreboard/sentences.html", sentences=sentences)


def _vote(row: dict) -> str:
    n, best, vote = row["n"], row["best_named"], row["vote_named"]
    gain = "no more than" if vote == best else f"{abs(vote - best)} {'more' if vote > best else 'fewer'} than"
    return (
        f"{len(row['methods'])} methods {row['who']}: the best one ({row['best']}) named {best} of {n} diffs; "
        f"a vote of all names {vote}, {gain} that. All were wrong together on {row['all_wrong']} of {n}."
    )


def _of(board: Board | None, task: str) -> Sequence:
    return [named for named in board.named if named.key[1] == task] if board else ()


TITLE = (
    '<h2 class="dit-heading">Can the chances be believed?<small>The chance beside an answer was fitted on calibration '
    "diffs. Here it meets test diffs, and as many controls to which no answer is right.</small></h2>"
)


def trust_section(suite: Suite, visit: gr.State) -> None:
    """Draw how reliable the probabilities of answers and of readings are: a figure and sentences for each."""
    gr.HTML(TITLE, apply_default_css=False)
    for of in FILES:
        if of == "readings" and suite.oracle is None:
            continue
        table = reliability_table(suite, of)
        pieces.figure(reliability_figure(table), elem_id=f"dit-trust-{of}")
        gr.HTML(reliability_html(table), elem_id=f"dit-trust-{of}-words", apply_default_css=False)
        saving(partial(reliability_file, suite, of), visit, f"trust-{of}", f"the figures of {plots.NAMES[of]}")


def reliability_table(suite: Suite, of: str) -> Table[Reliability] | str:
    """Return how reliable the suite's probabilities were; a sentence where that is not measured."""
    try:
        return measured_reliability(suite, of)
    except DitError as error:
        return str(error)


def reliability_figure(table: Table[Reliability] | str) -> str:
    """Return the figure of a reliability table, or the sentence in its place."""
    return sentence_figure(table) if isinstance(table, str) else pieces.figure_value(partial(plots.reliability, table))


def reliability_html(table: Table[Reliability] | str) -> str:
    """Return the figures in sentences, and each bin of the plot in one under a fold."""
    if isinstance(table, str):
        return ""
    sentences = [_reliability_sentence(record) for record in table]
    return render("ui/tabs/scoreboard/sentences.html", sentences=sentences, plot=plots.in_words(table))


def reliability_file(suite: Suite, of: str, visit: object, what: str, form: str) -> tuple[str, str]:
    """Return file name and content of a reliability table; ("", "") where there is none."""
    table = reliability_table(suite, of)
    return ("", "") if isinstance(table, str) else (f"{suite.name}-{what}.{form}", file_content(table, form))


def _reliability_sentence(record: Reliability) -> str:
    parts = [f"off by {_percent(record, 'ece')} % on average"]
    if record.auroc is not None and record.auroc_interval is not None:
        parts.append(f"right above wrong in {_percent(record, 'auroc')} % of pairs (AUROC)")
    return f"{record.of}: {', '.join(parts)}; {record.n} trials of {record.diffs} diffs, {record.right} right."


def _percent(record: Reliability, name: str) -> str:
    low, high = (f"{100 * bound:.1f}" for bound in getattr(record, f"{name}_interval"))
    return f"{100 * getattr(record, name):.1f} ({low} to {high})"
