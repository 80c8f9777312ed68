"""An audit as one HTML file: no script, style or font comes from elsewhere, and plotly's script stands in it once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from dit_core.auditing.record import Audit, Chapter, MethodAnswer
from dit_core.grading import grade
from dit_core.methods import Method, TextRows
from dit_core.present import plots
from dit_core.present.html import render
from dit_core.records import Reading, Verbalization
from dit_core.records.scores import SILENT_DIFF, SILENT_DIT, SILENT_TRIGGER
from dit_core.scoreboard.method_rows import surest

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

HERE = Path(__file__).parent
SILENT_METHODS = {"diff+dit": SILENT_DIT, "diff": SILENT_DIFF, "diff+right": SILENT_TRIGGER}


def report_html(audit: Audit, reveal: bool = False) -> str:
    """Write the report of an audit.

    With `reveal` it says what the diff was trained on, its trigger, and grades; without, nothing in it does.
    """
    answers = [*audit.answers, *_oracle_answers(audit), *_method_answers(audit)]
    style, script = (Markup((HERE / f"report.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    page = render(
        "auditing/report.html",
        audit=audit,
        reveal=reveal,
        changes=_changes(audit),
        answers=[(answer, grade(audit.suite, audit.info, answer.text) if reveal else None) for answer in answers],
        chances=[(_drawn(partial(plots.reliability, table)), plots.in_words(table)) for table in audit.chances],
        everyday=_rows(audit.everyday, "question"),
        readings=_rows(audit.readings, "layer"),
        figures=_figures(audit, reveal),
        chapters=[_chapter(chapter) for chapter in audit.chapters],
        code=f'{audit.code}\nopen("report.html", "w", encoding="utf-8").write({_call(reveal)})',
        style=style,
        script=script,
        plotly=Markup(get_plotlyjs()),
    )
    return f"{page}\n"


def _call(reveal: bool) -> str:
    return f"report_html(audit{', reveal=True' if reveal else ''})"


def _changes(audit: Audit) -> str:
    changes = audit.changes.records if audit.changes else ()
    layers = {change.layer for change in changes if change.layer is not None}
    ranks = sorted({change.rank for change in changes if change.rank})
    how = f"of rank {', '.join(map(str, ranks))}" if ranks else "as whole weights"
    parameters = sum(change.parameters for change in changes)
    return f"{len(changes)} modules in {len(layers)} layers are changed, {how}: {parameters:,} parameters."


def _oracle_answers(audit: Audit) -> list[MethodAnswer]:
    """The oracle's answer under each condition, at the layer that was chosen for it."""
    return [
        MethodAnswer(f"{SILENT_METHODS[reading.condition]}, layer {reading.layer}", reading.question, reading.text)
        for reading in audit.readings or ()
        if reading.condition in SILENT_METHODS and reading.layer == audit.layers.get(SILENT_METHODS[reading.condition])
    ]


def _method_answers(audit: Audit) -> list[MethodAnswer]:
    """The answer that each further method is surest of."""
    return [
        MethodAnswer(chapter.method.title, "", surest(chapter.method.answers(chapter.table), audit.info.id))
        for chapter in audit.chapters
        if chapter.method.gives_answers
    ]


@dataclass(frozen=True)
class _Rows:
    """Texts as a table: a column per condition, a row per question or layer."""

    conditions: list[str]
    rows: list[tuple[Any, list[str]]]


def _rows(records: Iterable[Verbalization] | Iterable[Reading] | None, by: str) -> _Rows:
    texts = {(getattr(record, by), record.condition): record.text for record in records or ()}
    conditions = list(dict.fromkeys(condition for _, condition in texts))
    keys = dict.fromkeys(key for key, _ in texts)
    return _Rows(conditions, [(key, [texts.get((key, own), "") for own in conditions]) for key in keys])


def _chapter(chapter: Chapter) -> tuple[Method[Any, Any], TextRows, _Drawn | None]:
    """Return a method, its table as text, and its figure where it has one."""
    draw = getattr(plots, chapter.method.figure) if chapter.method.figure else None
    figure = _drawn(partial(draw, chapter.table)) if draw else None
    return chapter.method, chapter.method.text_rows(chapter.table), figure


@dataclass(frozen=True)
class _Drawn:
    """A figure in both themes as JSON that no text in it can end; the page's script draws it."""

    height: int
    json: Markup


def _figures(audit: Audit, reveal: bool) -> dict[str, _Drawn | list[_Drawn] | None]:
    last = max((token.position for token in audit.lens or ()), default=None)  # which knows most of the texts
    lens = partial(plots.lens_tokens, audit.lens, position=last) if audit.lens is not None else None
    return {
        "changes": _drawn(partial(plots.changed_modules, audit.changes)) if audit.changes is not None else None,
        "readings": _reading_figures(audit, reveal),
        "lens": _drawn(lens) if lens else None,
    }


def _reading_figures(audit: Audit, reveal: bool) -> list[_Drawn]:
    if audit.readings is None:
        return []
    known = reveal and any(reading.log_prob_reference is not None for reading in audit.readings)
    measures = ["confidence", *(["log_prob_reference"] if known else [])]
    return [_drawn(partial(plots.by_layer, audit.readings, measure)) for measure in measures]


def _drawn(draw: Callable[..., Figure]) -> _Drawn:
    """A figure in both themes; `<` is written in another way, so that no text in it ends the script element."""
    light, dark = draw(dark=False), draw(dark=True)
    both = f'{{"light": {plots.as_json(light)}, "dark": {plots.as_json(dark)}}}'
    return _Drawn(light.layout.height, Markup(both.replace("<", "\\u003c")))
