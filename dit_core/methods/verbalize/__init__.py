"""Asking: what a diff says under conditions, from the open question to Diff Interpretation Tuning (arXiv 2510.05092).

`ask` waits for the answers, `stream` gives them token by token.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dit_core.methods.protocol import Method, Need, SampledOptions, Targets, TextRows, option
from dit_core.project import lazy_exports
from dit_core.records import Answer, Table, Verbalization

if TYPE_CHECKING:
    from dit_core.methods.verbalize.answers import ask as ask
    from dit_core.methods.verbalize.answers import stream as stream
    from dit_core.suite import Suite

__getattr__, __dir__ = lazy_exports(__name__, {"ask": "answers", "stream": "answers"})


@dataclass(frozen=True)
class AskOptions(SampledOptions):
    """How answers are sampled."""

    top_p: float = option(1.0, "Sample among the likeliest tokens that together have this probability.", label="top-p")
    system: str = option("", "The system prompt of all conditions.", label="system prompt")
    turns: tuple[str, ...] = option(
        (), "What was said before: a text of the user, one of the assistant, and so on.", flag="--turn"
    )
    prefill: str = option("", "How the answer begins; the model goes on from there.", label="start of the answer")
    raw: bool = option(False, "Read the question as it is, without the base's chat template.", label="raw text")


class Ask(Method[AskOptions, Verbalization]):
    """The declaration of asking."""

    name = "ask"
    title = "Verbalization"
    summary = (
        "Ask diffs under conditions: every combination is answered, all in one batch. Without a diff, ask the base."
    )
    source = "arXiv 2510.05092"
    needs = frozenset[Need]()
    cost = "one generation per condition and question, in one batch"
    options = AskOptions
    kind = "verbalizations"
    record = Verbalization
    asked = "question"
    measured = False  # the scoreboard and the report have several rows of what a diff says

    def run(self, suite: Suite, targets: Targets, options: AskOptions) -> Generator[Table[Verbalization], None, None]:
        from dit_core.methods.verbalize.answers import stream

        return stream(suite, targets.diffs or None, condition=targets.pairs() or None, **vars(options))

    def answers(self, table: Table[Verbalization]) -> Sequence[Answer]:
        return [Answer(answer.diff, answer.text, None, answer.condition, answer.question) for answer in table]

    def text_rows(self, table: Table[Verbalization], reveal: bool = False) -> TextRows:
        rows = [[answer.diff, answer.condition, answer.question, answer.text] for answer in table]
        return TextRows(table.suite, ["diff", "condition", "question", "text"], rows)


METHODS = (Ask(),)
