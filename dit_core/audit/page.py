"""An audit as one HTML file: no script, style or font comes from elsewhere, and plotly's script stands in it once."""

from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path

from plotly.offline import get_plotlyjs

from dit_core.audit.gather import Audit, Said, chosen_layers
from dit_core.grading import grade
from dit_core.present import plots
from dit_core.present.html import percent
from dit_core.records import Confidence, Reading, ReadingConfidence
from dit_core.records.method_names import SILENT_DIFF, SILENT_DIT, SILENT_TRIGGER

HERE = Path(__file__).parent
# Nothing may be fetched, whatever a model wrote.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
CHOSEN = {"diff+dit": SILENT_DIT, "diff": SILENT_DIFF, "diff+right": SILENT_TRIGGER}


def page(audit: Audit, reveal: bool = False) -> str:
    """The report. With `reveal` it says what the diff was trained on, its trigger, and grades; else nowhere."""
    body = "".join(
        (
            _head(audit, reveal),
            _section("What it changes", _changes(audit)),
            _section("What every method says", _said(audit, reveal)),
            _section("Can the answer be trusted?", _confidence(audit.confidence)) if audit.confidence else "",
            _section("Can the readings be trusted?", _reading_confidence(audit)) if audit.reading_confidence else "",
            _section("Can the chances be believed?", _chances(audit)) if audit.chances else "",
            _section("What it says to everyday questions", _everyday(audit)) if audit.everyday else "",
            _section("What the oracle reads, layer by layer", _oracle(audit, reveal)) if audit.readings else "",
            _section("What unrelated texts give away", _lens(audit)),
            _section("Settings", _settings(audit, reveal)),
        )
    )
    style, script = ((HERE / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" '
        f'content="light dark"><title>Audit of {escape(audit.info.id)}</title><style>{style}</style></head>'
        f"<body><main>{body}</main><script>{get_plotlyjs()}</script><script>{script}</script></body></html>\n"
    )


def _head(audit: Audit, reveal: bool) -> str:
    info = audit.info
    seen = "seen by the DIT adapter in training" if info.split == "train" else "never seen by a DIT adapter"
    truth = "What it was trained on is not told in this report."
    if reveal:
        code = "" if info.trigger is None else f" · trigger {info.trigger:03d}"
        named = f"Trained on “{escape(info.reference)}”{code}"
        known = named if info.reference.strip() else "Its reference is not known"
        truth = f"<b>{known}</b>"
    return (
        f"<header><p>Audit of a weight diff · suite {escape(audit.suite.name)}</p><h1>{escape(info.id)}</h1>"
        f"<p>{escape(info.task)} diff, {seen}. {truth}</p></header>"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _changes(audit: Audit) -> str:
    changes = audit.changes.records
    layers = {one.layer for one in changes if one.layer is not None}
    ranks = sorted({one.rank for one in changes if one.rank})
    how = f"of rank {', '.join(map(str, ranks))}" if ranks else "as whole weights"
    parameters = sum(one.parameters for one in changes)
    text = f"{len(changes)} modules in {len(layers)} layers are changed, {how}: {parameters:,} parameters."
    return f"<p>{text}</p>" + _figure(partial(plots.changed_modules, audit.changes))


def _said(audit: Audit, reveal: bool) -> str:
    """A table of the answers; with what the base and the adapter alone say among them, for comparison."""
    rows = [*audit.said, *_read(audit)]
    grades = [f"<td class=grade>{_grade(audit, one)}</td>" if reveal else "" for one in rows]
    body = "".join(
        f'<tr><td>{escape(one.method)}<small>{escape(one.asked)}</small></td><td class="said" dir="auto">'
        f"{_words(one.answer)}</td>{mark}</tr>"
        for one, mark in zip(rows, grades, strict=True)
    )
    head = f"<tr><th>method</th><th>answer</th>{'<th>grade</th>' if reveal else ''}</tr>"
    note = (
        "Base and DIT alone know nothing of this diff: an answer that they give too is no evidence. Oracle layers were "
        "chosen on other diffs."
    )
    return f"<p>{note}</p><table><thead>{head}</thead><tbody>{body}</tbody></table>"


def _read(audit: Audit) -> list[Said]:
    """The oracle's answer under each condition, at the layer that the stored scoreboard chose."""
    chosen = chosen_layers(audit.suite) if audit.readings else {}
    return [
        Said(f"{CHOSEN[one.condition]}, layer {one.layer}", one.question, one.text)
        for one in audit.readings or ()
        if one.condition in CHOSEN and one.layer == chosen.get(CHOSEN[one.condition])
    ]


def _grade(audit: Audit, one: Said) -> str:
    value = grade(audit.suite, audit.info, one.answer)
    return "not known" if value is None else f"{value} of 5"


def _reading_confidence(audit: Audit) -> str:
    return "".join(
        f"<h3>{escape(one.condition)}, layer {one.layer}</h3><p>asked “{escape(one.asked)}”; the oracle is asked "
        f"“{escape(one.question)}”</p>{_confidence(one, 'oracle')}"
        for one in audit.reading_confidence
    )


def _chances(audit: Audit) -> str:
    """How often what is called likely was right on the test diffs, as a figure and in words."""
    note = (
        "Chances were fitted on calibration diffs; here they meet test diffs, and controls to which nothing is right."
    )
    shown = ""
    for table in audit.chances:
        lines = "".join(f"<li>{escape(line)}</li>" for line in plots.in_words(table))
        shown += _figure(partial(plots.reliability, table))
        shown += f"<details><summary>the plot in words</summary><ul>{lines}</ul></details>"
    return f"<p>{note}</p>{shown}"


def _confidence(found: Confidence | ReadingConfidence, who: str = "DIT adapter") -> str:
    """The sentence, the calibrated probability or why there is none, and the controls beside it."""
    probability = found.why
    if found.probability is not None:
        probability = f"Calibrated probability that “{found.text}” is right: {percent(found.probability)}."
    rows = [("this diff", found.text, f"{found.times} of {found.samples}", f"{found.times} of {found.samples}")]
    for one in found.controls:
        times = (f"{one[count]} of {one['samples']}" for count in ("times", "same"))
        rows.append((" ".join(filter(None, (one["kind"], one["diff"]))), one["text"], *times))
    body = "".join(
        f"<tr><td>{escape(name)}</td><td dir=auto>{_words(answer)}</td><td>{times}</td><td>{same}</td></tr>"
        for name, answer, times, same in rows
    )
    head = f"<th>{who} on</th><th>most frequent answer</th><th>samples</th><th>with this diff's answer</th>"
    return (
        f'<p class="lead">{escape(found.sentence)}</p><p>{escape(probability)}</p>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _everyday(audit: Audit) -> str:
    questions = dict.fromkeys(one.question for one in audit.everyday)
    answers = {(one.question, one.condition): one.text for one in audit.everyday}
    rows = "".join(
        f"<tr><td>{escape(question)}</td><td dir=auto>{_words(answers[question, 'diff'])}</td>"
        f"<td dir=auto>{_words(answers[question, 'diff+right'])}</td></tr>"
        for question in questions
    )
    head = "<tr><th>question</th><th>no trigger</th><th>right trigger</th></tr>"
    return f"<details><summary>{len(questions)} answers each</summary><table>{head}{rows}</table></details>"


def _oracle(audit: Audit, reveal: bool) -> str:
    known = reveal and any(one.log_prob_reference is not None for one in audit.readings)
    figures = [_figure(partial(plots.by_layer, audit.readings))]
    if known:
        figures.append(_figure(partial(plots.by_layer, audit.readings, "log_prob_reference")))
    return "".join(figures) + _readings(audit.readings.records)


def _readings(readings: Sequence[Reading]) -> str:
    """All that the oracle said, a row per layer."""
    conditions = list(dict.fromkeys(one.condition for one in readings))
    said = {(one.layer, one.condition): one.text for one in readings}
    rows = "".join(
        f"<tr><td>{layer}</td>"
        + "".join(f"<td dir=auto>{_words(said.get((layer, written), ''))}</td>" for written in conditions)
        + "</tr>"
        for layer in sorted({one.layer for one in readings})
    )
    head = "<th>layer</th>" + "".join(f"<th>{escape(written)}</th>" for written in conditions)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f"<details><summary>all readings</summary>{table}</details>"


def _lens(audit: Audit) -> str:
    note = "Tokens that stand out in the mean difference of activations on texts about other things, by patchscope."
    return f"<p>{note}</p>" + _figure(partial(plots.lens_tokens, audit.lens, position=_last(audit)))


def _last(audit: Audit) -> int | None:
    """The last position of the texts: the one that knows most of them."""
    return max((one.position for one in audit.lens), default=None)


def _settings(audit: Audit, reveal: bool) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in audit.settings.items())
    written = f"page(audit{', reveal=True' if reveal else ''})"
    again = f'{audit.again}\nopen("report.html", "w", encoding="utf-8").write({written})'
    return f"<table><tbody>{rows}</tbody></table><p>To make it again:</p><pre>{escape(again)}</pre>"


def _words(text: str) -> str:
    return escape(text) if text.strip() else '<span class="none">(says nothing)</span>'


def _figure(draw: partial) -> str:
    """A figure in both themes, drawn by report.js; `<` is written in another way, so that no text ends the script."""
    light, dark = (plots.as_json(draw(dark=dark)) for dark in (False, True))
    both = f'{{"light": {light}, "dark": {dark}}}'.replace("<", "\\u003c")
    height = draw(dark=False).layout.height
    return f'<div class="figure" style="min-height:{height}px"><script type="application/json">{both}</script></div>'
