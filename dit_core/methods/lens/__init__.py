"""Lens: what a diff does to the residual stream, seen without an oracle.

Its mean change of unrelated texts as words (`difference_lens`), how these changes resemble each other
(`similarities`), what the base writes when one is added to it (`steer`); and, for conditions of the comparison, how the
next token climbs through the layers (`next_tokens`) and where a diff acts (`norms`). The first three follow the
Activation Difference Lens (arXiv 2510.13900) in small: few texts, all layers. `stream_adl` is that lens as published.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dit_core.methods.protocol import Method, Need, SampledOptions, Targets, TextRows, option
from dit_core.project import lazy_exports
from dit_core.records import AdlFinding, Answer, LensToken, NextToken, Norm, SteeredText, Table

if TYPE_CHECKING:
    from dit_core.methods.lens.difference import similarities as similarities
    from dit_core.methods.lens.prompt_lens import next_tokens as next_tokens
    from dit_core.methods.lens.prompt_lens import norms as norms
    from dit_core.methods.lens.published import stream_adl as stream_adl
    from dit_core.methods.lens.steering import steer as steer
    from dit_core.methods.lens.tokens import difference_lens as difference_lens
    from dit_core.methods.lens.tokens import patchscope as patchscope
    from dit_core.suite import Suite

_EXPORTS = {"similarities": "difference", "norms": "prompt_lens", "next_tokens": "prompt_lens", "steer": "steering"}
_EXPORTS |= {"stream_adl": "published"}
__getattr__, __dir__ = lazy_exports(__name__, _EXPORTS | dict.fromkeys(("difference_lens", "patchscope"), "tokens"))

LAYERS = "'all', or numbers like 0,3-5 or 25%,50%."
TEXT_POSITIONS = "Tokens to read at the start of each unrelated text."


@dataclass(frozen=True)
class LensOptions:
    """Which words the activation difference lens shows."""

    layers: str = option("all", LAYERS)
    positions: int = option(5, TEXT_POSITIONS, minimum=1, maximum=100)
    top: int = option(5, "Tokens to show per layer, position and method.", minimum=1)
    methods: tuple[str, ...] = option((), "Which; else both.", flag="--method", choices=("logit lens", "patchscope"))
    strength: float = option(1.0, "Of the diff; any number but 0.")


class DifferenceLens(Method[LensOptions, LensToken]):
    """The declaration of the activation difference lens."""

    name = "lens"
    title = "Activation difference lens"
    summary = "Show the words in what a diff changes in the activations of unrelated texts."
    source = "arXiv 2510.13900"
    cost = "two forward passes over 20 short texts per diff, and a short one per layer"
    options = LensOptions
    kind = "lens"
    record = LensToken
    figure = "lens_tokens"
    measured = False  # the scoreboard's row chooses a place, and the report has a figure of its own

    def run(self, suite: Suite, targets: Targets, options: LensOptions) -> Generator[Table[LensToken], None, None]:
        from dit_core.methods.lens.tokens import METHODS, difference_lens

        own = vars(options) | {"methods": options.methods or METHODS}
        yield difference_lens(suite, targets.diffs, **own)

    def answers(self, table: Table[LensToken]) -> Sequence[Answer]:
        return [
            Answer(diff, " ".join(token.token.strip() for token in tokens), tokens[0].weight)
            for (diff, *_), tokens in _by_place(table).items()
        ]

    def text_rows(self, table: Table[LensToken], reveal: bool = False) -> TextRows:
        rows = [
            [diff, method, layer, f"{tokens[0].depth_percent:g} %", position, ", ".join(map(_shown, tokens))]
            for (diff, method, layer, position), tokens in _by_place(table).items()
        ]
        columns = ["diff", "method", "layer", "depth", "token", "likeliest"]
        return TextRows(f"{table.suite}, lens", columns, rows)


def _by_place(table: Table[LensToken]) -> dict[tuple[str, str, int, int], list[LensToken]]:
    """Return the tokens of each diff, method, layer and position, the likeliest first."""
    places: dict[tuple[str, str, int, int], list[LensToken]] = {}
    for token in table:
        places.setdefault((token.diff, token.method, token.layer, token.position), []).append(token)
    return places


def _shown(token: LensToken) -> str:
    return f"{token.token.strip() or repr(token.token)} {100 * token.weight:.1f} %"


@dataclass(frozen=True)
class LayerOptions:
    """Where in a prompt the residual stream is looked at."""

    layers: str = option("all", LAYERS)
    seed: int = option(0, "Of the digits around triggers.")


class DifferenceNorms(Method[LayerOptions, Norm]):
    """The declaration of the norms of what a condition changes."""

    name = "norms"
    title = "Difference norms"
    summary = "Measure how much a condition changes the residual stream, per layer and token of its prompt."
    needs = frozenset[Need]()
    cost = "two forward passes per condition"
    options = LayerOptions
    kind = "norms"
    record = Norm
    figure = "difference_norms"
    asked = "asked"

    def run(self, suite: Suite, targets: Targets, options: LayerOptions) -> Generator[Table[Norm], None, None]:
        from dit_core.methods.lens.prompt_lens import norms

        yield norms(suite, targets.diffs or None, condition=targets.pairs() or None, **vars(options))


@dataclass(frozen=True)
class NextTokenOptions(LayerOptions):
    """Which tokens are followed through the layers."""

    answer_tokens: int = option(1, "How many of the answer's tokens to follow.", minimum=1, maximum=1000)
    reference: bool = option(False, "Also the first token of what the diff was trained on, which gives it away.")


class NextTokens(Method[NextTokenOptions, NextToken]):
    """The declaration of the logit lens of what comes next."""

    name = "logit_lens"
    title = "Logit lens"
    summary = "Show how high, at every layer, the token stands with which each condition begins its answer."
    needs = frozenset[Need]()
    cost = "a forward pass per condition"
    options = NextTokenOptions
    kind = "next_tokens"
    record = NextToken
    figure = "next_token_by_layer"
    asked = "asked"

    def run(self, suite: Suite, targets: Targets, options: NextTokenOptions) -> Generator[Table[NextToken], None, None]:
        from dit_core.methods.lens.prompt_lens import next_tokens

        yield next_tokens(suite, targets.diffs or None, condition=targets.pairs() or None, **vars(options))


@dataclass(frozen=True)
class SteerOptions(SampledOptions):
    """Where and how strongly the base is steered, and how its texts are sampled."""

    layer: str | None = option(None, "One or several, like 3 or 2-4; that in the middle by default.")
    strengths: tuple[float, ...] = option((0.0, 2.0, 4.0, 8.0, 16.0), "Of the mean change, like 0,2,8; 0 is the base.")
    prompt: tuple[str, ...] = option(
        (), "What the base is asked; by default the task's first everyday question.", label="the base is asked"
    )
    positions: int = option(5, TEXT_POSITIONS, minimum=1, maximum=100)


class Steering(Method[SteerOptions, SteeredText]):
    """The declaration of steering with a diff's mean activation difference."""

    name = "steer"
    title = "Steering"
    summary = "Let the base write while a diff's mean change of unrelated texts is added to one of its layers."
    source = "arXiv 2510.13900"
    cost = "two forward passes over 20 short texts per diff, and a generation per strength"
    options = SteerOptions
    kind = "steered"
    record = SteeredText
    measured = False  # which strength and layer to believe is not known without the answer

    def run(self, suite: Suite, targets: Targets, options: SteerOptions) -> Generator[Table[SteeredText], None, None]:
        from dit_core.methods.lens.steering import steer

        own = vars(options) | {"prompt": options.prompt or None}
        yield steer(suite, targets.diffs, **own)

    def answers(self, table: Table[SteeredText]) -> Sequence[Answer]:
        return [Answer(text.diff, text.text, None, "", text.prompt) for text in table]


VECTORS = ("difference", "negative difference", "base", "finetuned")
LENSES = ("logit lens", "patchscope", "steering")
ANSWER_TOKENS = 5  # of a place, that make an answer


@dataclass(frozen=True)
class AdlOptions(SampledOptions):
    """What the activation difference lens as published reads, and how it puts it into words."""

    lenses: tuple[str, ...] = option((), "Which; else logit lens and patchscope.", flag="--lens", choices=LENSES)
    vectors: tuple[str, ...] = option(
        (), "Means to read; else all but the negative difference.", flag="--vector", choices=VECTORS
    )
    layers: str | None = option(None, "Numbers like 0,3-5 or 25%,50%; that in the middle by default.")
    positions: int = option(5, "Tokens to read at the start of each text.", minimum=1, maximum=100)
    texts: str = option("", "A .txt with a text a line, or a .jsonl of texts; else the suite's own.", local=True)
    n_texts: int = option(10_000, "Of the texts, at most so many.", label="texts", flag="--texts-limit", minimum=1)
    tokens: int = option(128, "Of each text, at most so many.", minimum=6, maximum=4096)
    top: int = option(20, "Tokens to show per vector, position and lens.", minimum=1, maximum=1000)
    scale: float | None = option(
        None, "Of the patchscope; that with the most coherent tokens by default.", minimum=0.01
    )
    strengths: tuple[float, ...] = option((0.0, 1.0), "To steer with, in sizes of an activation, like 0,1,2.")
    prompt: tuple[str, ...] = option(
        (), "What the steered model is asked; by default the task's first everyday question.", label="it is asked"
    )
    temperature: float = option(1.1, "Of steered texts; 0 takes the likeliest token each time.", minimum=0, maximum=100)


class Adl(Method[AdlOptions, AdlFinding]):
    """The declaration of the activation difference lens as published."""

    name = "adl"
    title = "Activation difference lens as published"
    summary = (
        "Read the mean change of very many texts' first tokens at the middle layer, beside base and finetuned model, "
        "and steer the finetuned model with it, as published."
    )
    source = "arXiv 2510.13900"
    cost = "two forward passes of half the layers over a thousand short texts per diff, and 30 scales of a patchscope"
    options = AdlOptions
    kind = "adl"
    record = AdlFinding
    figure = "adl_tokens"
    measured = False  # a thousand texts for every diff would be most of the scoreboard's work

    def run(self, suite: Suite, targets: Targets, options: AdlOptions) -> Generator[Table[AdlFinding], None, None]:
        from dit_core.methods.lens.published import stream_adl

        return stream_adl(suite, targets.diffs, options)

    def progress(self, table: Table[AdlFinding]) -> tuple[float, float]:
        return table.extra.get("done", 0), table.extra.get("total", 0)

    def answers(self, table: Table[AdlFinding]) -> Sequence[Answer]:
        groups = [own for own in _groups(table) if own[0].vector == "difference" and own[0].scale != 0]
        return [Answer(own[0].diff, _joined(own[:ANSWER_TOKENS]), own[0].weight, "", own[0].prompt) for own in groups]

    def text_rows(self, table: Table[AdlFinding], reveal: bool = False) -> TextRows:
        columns = [
            "diff",
            "lens",
            "vector",
            "layer",
            "token",
            "scale",
            "likeliest",
            *(["grade"] if reveal else []),
        ]
        rows = []
        for own in _groups(table):
            first, grades = own[0], [one.grade for one in own if one.grade is not None]
            scale = "" if first.scale is None else f"{first.scale:g}"
            where = [first.diff, first.lens, first.vector, first.layer, first.position, scale]
            rows.append([*where, _joined(own), *([max(grades, default="")] if reveal else [])])
        return TextRows(f"{table.suite}, {self.title}", columns, rows)


def _groups(table: Table[AdlFinding]) -> list[list[AdlFinding]]:
    """Return the tokens of each place and lens together, the likeliest first, and each steered text by itself."""
    groups: dict[tuple[object, ...], list[AdlFinding]] = {}
    for one in table:
        sample = (one.prompt, one.place) if one.weight is None else ()
        groups.setdefault((one.diff, one.layer, one.position, one.vector, one.lens, one.scale, *sample), []).append(one)
    return list(groups.values())


def _joined(findings: Sequence[AdlFinding]) -> str:
    """Return a steered text, or tokens without what is no word where there are words."""
    texts = [one.text.strip() for one in findings]
    return " ".join([text for text in texts if any(map(str.isalnum, text))] or texts)


METHODS = (DifferenceLens(), Adl(), DifferenceNorms(), NextTokens(), Steering())
