"""What the Scoreboard tab shows: the table, the figures and the sentences on agreement, of a board live or stored."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape

import gradio as gr

from dit_core.errors import DitError
from dit_core.present import plots
from dit_core.records import Reliability, Score, Table
from dit_core.scoreboard import SHARES, Board, asked_note, read_scaling, scaling_points
from dit_core.scoreboard.published import RANK, TRAINING_DIFFS
from dit_core.scoreboard.stored import published_points
from dit_core.session.messages import file_content
from dit_core.suite import Suite
from dit_core.trust import FILES, measured_reliability
from dit_core.ui.parts import figures
from dit_core.ui.parts.pieces import saving, sentence_figure

BY = {"number of training diffs": TRAINING_DIFFS, "rank of the diffs": RANK}
EMPTY = "Nothing measured yet: press Run."
RIGHT = ("exact", "mentions", "equals_base")  # the first of these that a method has is its share of right answers
SEEN = {
    "train": " These diffs are not held out: adapters were trained on them.",
    "calibration": " Layers were chosen on these very diffs, which flatters what is read there.",
}
MEANS = {"exact": "exactly right", "mentions": "names it", "equals_base": "as the base"}


def table(suite: Suite, board: Board | None) -> str:
    """The scoreboard as a table, a row per method, task by task; published means beside the measured ones."""
    if board is None or not board.scores:
        return f'<p class="dit-small">{EMPTY}</p>'
    rows: dict[tuple, dict[str, Score]] = {}
    for one in board.scores:
        rows.setdefault((one.task, one.method, one.adapter, one.layer), {})[one.measure] = one
    shown = [(key, own) for key, own in rows.items() if set(own) - {"lift"}]
    body = ""
    for task in dict.fromkeys(key[0] for key, _ in shown):
        body += f'<tr class="dit-task"><th colspan="5" scope="rowgroup">{escape(task)}s</th></tr>'
        body += "".join(_row(suite, own) for key, own in shown if key[0] == task)
    head = "<th>method</th><th>answers</th><th>mean grade, 1 to 5</th><th>share</th><th>published (grade)</th>"
    return f'<div class="dit-board"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _row(suite: Suite, own: dict[str, Score]) -> str:
    one = next(iter(own.values()))
    share = next((measure for measure in RIGHT if measure in own), None)
    note = asked_note(suite, one.method)
    cells = (
        escape(plots.title(one)) + (f" <small>{note}</small>" if note else ""),
        str(one.n),
        _value(own["mean_grade"]) if "mean_grade" in own else "",
        f"{_value(own[share])} <small>{MEANS[share]}</small>" if share else "",
        _published(own.get("mean_grade")),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _value(score: Score) -> str:
    factor, unit, digits = (100, " %", 0) if score.measure in SHARES else (1, "", 2)
    low, high = (f"{factor * bound:.{digits}f}" for bound in score.interval or (score.value, score.value))
    return f"<b>{factor * score.value:.{digits}f}{unit}</b> <small>{low} to {high}</small>"


def _published(score: Score | None) -> str:
    """The range of published means; which models they are of, on hover."""
    if score is None or not score.published:
        return ""
    values = [entry["value"] for entry in score.published]
    models = ", ".join(f"{entry['model']} {entry['value']:.2f}" for entry in score.published)
    shown = f"{values[0]:.2f}" if len(values) == 1 else f"{min(values):.2f} to {max(values):.2f}"
    return f'<span title="{escape(models)}">{shown}</span>'


def origin(board: Board | None) -> str:
    """Where the figures come from: a live run, or the suite's own report."""
    if board is None:
        return ""
    seen = SEEN.get(board.scores.extra.get("split", ""), "")
    if not board.measured:
        grader = board.scores.extra.get("grader")
        return f"Measured here, just now{f', graded by {grader}' if grader else ''}.{seen}"
    changed = "" if board.of_this_suite else " The suite has changed since: press Run to measure it as it is."
    return f"Stored with the suite, measured {board.measured}.{changed}{seen}"


def grades(board: Board | None, task: str) -> str:
    """How the answers to a task's diffs were graded."""
    return figures.shown(partial(plots.grade_bars, board.scores if board else (), task))


def scaling(suite: Suite, board: Board | None, by: str) -> str:
    """The suite's own scaling curve beside the published ones."""
    own = read_scaling(suite) or scaling_points(suite, board.scores if board else ())
    return figures.shown(partial(plots.scaling, [*own, *published_points()], BY[by]))


def named(board: Board | None, task: str, revealed: str) -> str:
    """Which methods named which diffs; by id only the one that was revealed."""
    own = _of(board, task)
    return figures.shown(partial(plots.who_named, own, shown=revealed)) if own else sentence_figure(EMPTY)


def correlations(board: Board | None, task: str) -> str:
    """How the errors of methods go together."""
    return figures.shown(partial(plots.correlations, board.agreement, task)) if board else sentence_figure(EMPTY)


def votes(board: Board | None, task: str) -> str:
    """What a vote of the methods gains, in sentences."""
    found = board.agreement.extra.get("votes", ()) if board else ()
    lines = "".join(f"<li>{escape(_vote(one))}</li>" for one in found if one["task"] == task)
    return f'<ul class="dit-votes">{lines}</ul>' if lines else ""


def _vote(one: dict) -> str:
    n, best, vote = one["n"], one["best_named"], one["vote_named"]
    gain = "no more than" if vote == best else f"{abs(vote - best)} {'more' if vote > best else 'fewer'} than"
    return (
        f"{len(one['methods'])} methods {one['who']}: the best one ({one['best']}) named {best} of {n} diffs; "
        f"a vote of all names {vote}, {gain} that. All were wrong together on {one['all_wrong']} of {n}."
    )


def _of(board: Board | None, task: str) -> Sequence:
    return [one for one in board.named if one.key[1] == task] if board else ()


TITLE = (
    '<h2 class="dit-heading">Can the chances be believed?<small>The chance beside an answer was fitted on calibration '
    "diffs. Here it meets test diffs, and as many controls to which no answer is right.</small></h2>"
)


def trust_section(suite: Suite, visit: gr.State) -> None:
    """Draws a figure for the answers of DIT adapters and one for the oracle's readings, with what they say in words."""
    gr.HTML(TITLE, apply_default_css=False)
    for of in FILES:
        if of == "readings" and suite.oracle is None:
            continue
        table = measured(suite, of)
        figures.figure(drawn(table), elem_id=f"dit-trust-{of}")
        gr.HTML(words(table), elem_id=f"dit-trust-{of}-words", apply_default_css=False)
        saving(partial(saved, suite, of), visit, f"trust-{of}", f"the figures of {plots.NAMES[of]}")


def measured(suite: Suite, of: str) -> Table[Reliability] | str:
    """What was measured of the suite's chances; a sentence where nothing was, or with other adapters than it has."""
    try:
        return measured_reliability(suite, of)
    except DitError as error:
        return str(error)


def drawn(table: Table[Reliability] | str) -> str:
    """The figure, or the sentence in its place."""
    return sentence_figure(table) if isinstance(table, str) else figures.shown(partial(plots.reliability, table))


def words(table: Table[Reliability] | str) -> str:
    """The figures in sentences, and each bin of the plot in one under a fold."""
    if isinstance(table, str):
        return ""
    groups = "".join(f"<li>{escape(_group(one))}</li>" for one in table)
    bins = "".join(f"<li>{escape(one)}</li>" for one in plots.in_words(table))
    return (
        f'<ul class="dit-votes">{groups}</ul><details class="dit-details"><summary>the plot in words</summary>'
        f"<ul>{bins}</ul></details>"
    )


def saved(suite: Suite, of: str, visit: object, what: str, form: str) -> tuple[str, str]:
    """File name and content of what was measured; ("", "") where nothing was."""
    table = measured(suite, of)
    return ("", "") if isinstance(table, str) else (f"{suite.name}-{what}.{form}", file_content(table, form))


def _group(one: Reliability) -> str:
    told = [f"off by {_figure(one, 'ece', 100)} % on average"]
    if one.auroc is not None and one.auroc_interval is not None:
        told.append(f"right above wrong in {_figure(one, 'auroc', 100)} % of pairs (AUROC)")
    return f"{one.of}: {', '.join(told)}; {one.n} trials of {one.diffs} diffs, {one.right} right."


def _figure(one: Reliability, name: str, factor: float) -> str:
    low, high = (f"{factor * bound:.1f}" for bound in getattr(one, f"{name}_interval"))
    return f"{factor * getattr(one, name):.1f} ({low} to {high})"
