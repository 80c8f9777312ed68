"""HTML from templates: one Jinja2 environment, in which every text that is not a template's own is escaped.

A room keeps its templates beside its modules in `templates/`, and a template's name is its room's path and its file:
`render("present/cards.html", cards=cards)` fills `dit_core/present/templates/cards.html`. Templates include and import
one another by the same names. A line break that touches a tag or a template's brace is left out together with its
indentation, so that a template can be laid out without adding white space to the page.

What `render` returns is `Markup`: a string that stays as it is where it is filled into another template.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from jinja2 import BaseLoader, Environment, StrictUndefined, TemplateNotFound
from markupsafe import Markup

PACKAGE = Path(__file__).resolve().parent.parent
_LAYOUT = re.compile(r"(?<=[>}])\s*\n\s*|\s*\n\s*(?=[<{])")


def render(name: str, **context: object) -> Markup:
    """Fill a template and return it as HTML.

    Args:
        name: the room's path inside the package and the template's file, such as `present/cards.html`.
        context: what the template shows, by the names it uses. Strings are escaped, `Markup` is not.

    Raises:
        jinja2.TemplateNotFound: there is no such template.
        jinja2.UndefinedError: the template uses a name that is not given.
    """
    return Markup(_environment().get_template(name).render(**context))


def percent(probability: float) -> str:
    """Return a probability in words that never round up to certainty: '93 %', 'over 99 %', 'under 1 %'."""
    if probability >= 0.995:
        return "over 99 %"
    return "under 1 %" if probability < 0.005 else f"{100 * probability:.0f} %"


def probability_sentence(probability: float) -> str:
    """Return the probability that an answer is right, in words first."""
    bounds = ((0.95, "Very likely right"), (0.75, "Likely right"), (0.25, "Can't be told"), (0.05, "Likely wrong"))
    words = next((words for bound, words in bounds if probability >= bound), "Very likely wrong")
    return f"{words}: {percent(probability)} of such answers are right."


class _RoomLoader(BaseLoader):
    """Finds `room/file` at `dit_core/room/templates/file`."""

    def get_source(self, environment: Environment, template: str) -> tuple[str, str, None]:
        room, _, file = template.rpartition("/")
        path = PACKAGE / room / "templates" / file
        if ".." in Path(template).parts or not path.is_file():
            raise TemplateNotFound(template)
        return _LAYOUT.sub("", path.read_text(encoding="utf-8").strip()), str(path), None


@cache
def _environment() -> Environment:
    environment = Environment(loader=_RoomLoader(), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"percent": percent, "probability_sentence": probability_sentence}
    environment.globals["zip"] = zip
    return environment
