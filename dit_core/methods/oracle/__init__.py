"""Activation oracles: a LoRA that answers questions about activations put into its own residual stream.

`read` takes conditions of a diff, reads what their residual stream holds at every layer asked for, and lets the oracle
say in words what is in it. All conditions are one batch of the target, all readings few batches of the oracle.
Method: arXiv 2512.15674 (Activation Oracles), its prompt and its norm-matched injection.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dit_core.methods.protocol import Method, Need, SampledOptions, Targets, TextRows, option
from dit_core.project import lazy_exports
from dit_core.records import Answer, Reading, Table

if TYPE_CHECKING:
    from dit_core.methods.oracle.likelihood import lifts as lifts
    from dit_core.methods.oracle.likelihood import log_probs as log_probs
    from dit_core.methods.oracle.reading import read as read
    from dit_core.methods.oracle.reading import stream as stream
    from dit_core.methods.oracle.reading import targets as targets
    from dit_core.methods.oracle.request import oracle_prompt as oracle_prompt
    from dit_core.suite import Suite

_EXPORTS = {"lifts": "likelihood", "log_probs": "likelihood", "oracle_prompt": "request"}
__getattr__, __dir__ = lazy_exports(__name__, _EXPORTS | dict.fromkeys(("read", "stream", "targets"), "reading"))


AT_ONCE = 50  # readings of a batch: what somebody who stops it loses at most


@dataclass(frozen=True)
class OracleOptions(SampledOptions):
    """What the oracle reads, and how its answers are sampled."""

    layers: str = option("all", "'all', or numbers like 0,3-5 or 25%,50%.")
    span: str = option("last:10", "Tokens to read: prompt, last:10, 7, 3:9, answer, answer:3, each:prompt.")
    question: tuple[str, ...] = option((), "To the oracle; its first preset by default.", label="the oracle is asked")
    kind: str = option("with", "Activations.", choices=("with", "without", "difference"))
    max_new_tokens: int = option(10, "Of the oracle's answer.", minimum=1)
    answer_tokens: int | None = option(None, "Of the condition's answer, where it is read.", minimum=1)
    oracle: str | None = option(None, "A PEFT LoRA's folder or hub id; else the suite's own.", local=True)
    block: int | None = option(None, "Decoder block to inject at; by default the oracle's.", local=True)
    coefficient: float = option(1.0, "How strongly, as a share of what is there.")
    placeholders: int | None = option(None, "In the prompt; by default one per token.", minimum=1)


class Oracle(Method[OracleOptions, Reading]):
    """The declaration of reading through an activation oracle."""

    name = "oracle"
    title = "Activation oracle"
    summary = "Read the layers of diffs under conditions through an activation oracle."
    source = "arXiv 2512.15674"
    needs = frozenset({Need.ORACLE})
    cost = "a forward pass per condition, then a short generation per condition and layer"
    options = OracleOptions
    kind = "readings"
    record = Reading
    figure = "by_layer"
    asked = "asked"
    measured = False  # the scoreboard and the report have several rows of readings

    def run(self, suite: Suite, targets: Targets, options: OracleOptions) -> Generator[Table[Reading], None, None]:
        from dit_core.methods.oracle.reading import stream

        own = vars(options) | {"question": options.question or None}
        return stream(suite, targets.diffs or None, at_once=AT_ONCE, condition=targets.pairs() or None, **own)

    def unmet(self, suite: Suite, options: OracleOptions) -> tuple[Need, ...]:
        return () if options.oracle else super().unmet(suite, options)

    def progress(self, table: Table[Reading]) -> tuple[float, float]:
        return len(table), table.extra.get("n_readings", 0)

    def answers(self, table: Table[Reading]) -> Sequence[Answer]:
        return [
            Answer(reading.diff, reading.text, reading.confidence, reading.condition, reading.question)
            for reading in table
        ]

    def text_rows(self, table: Table[Reading], reveal: bool = False) -> TextRows:
        trained = ", ".join(map(str, table.extra.get("trained_layers", ["unknown"])))
        title = f"{table.suite}, oracle {table.extra.get('oracle', '')}, trained at layers {trained}"
        columns = ["layer", "depth", "diff", "condition", "tokens", "question", "text", "confidence"]
        columns += ["grade", "log p (ref.)"] if reveal else []
        return TextRows(title, columns, [_text_row(reading, reveal) for reading in table])


def _text_row(reading: Reading, reveal: bool) -> list[str | int | None]:
    first, last = reading.positions[0], reading.positions[-1]
    tokens = str(first) if first == last else f"{first}-{last}"
    place: list[str | int | None] = [reading.layer, f"{reading.depth_percent:g} %"]
    row = [*place, reading.diff, reading.condition, tokens, reading.question, reading.text]
    log_prob = reading.log_prob_reference
    truth = [reading.grade, None if log_prob is None else f"{log_prob:.2f}"] if reveal else []
    return [*row, f"{100 * reading.confidence:.0f} %", *truth]


METHODS = (Oracle(),)
