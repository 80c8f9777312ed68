"""The Lens tab's two jobs, looking and steering, free of any toolkit."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from dit_core.methods import lens
from dit_core.records import LensToken, Similarity, SteeredText, Table
from dit_core.session.job import Result, TimeLeft
from dit_core.session.tab import Tab, integer, number
from dit_core.session.visit import Visit
from dit_core.suite.snippets import IMPORTS, call, opening_lines

MIDDLE = -1  # stands for the layer in the middle, where none is chosen


@dataclass(frozen=True)
class LensSettings:
    """The settings of a look: a diff, first tokens of the texts, words per layer."""

    diff: str
    positions: int
    top: int


@dataclass(frozen=True)
class LensResult(Result[LensSettings]):
    """What the lens shows of a diff, so far."""

    tokens: Table[LensToken] | None = None
    similarities: Table[Similarity] | None = None


class LookTab(Tab[LensSettings, LensResult]):
    """Looks at what a diff changes: words, and how alike its layers and positions are."""

    name, button, settings_type, result_type = "lens", "Look", LensSettings, LensResult
    working = "Reading unrelated texts with the diff and without…"

    def start(self, first: LensResult) -> Generator[LensResult, None, None]:
        """Yield the words in a diff's mean change, then also how alike its layers and positions are."""
        diff, positions = first.settings.diff, integer(first.settings.positions)
        tokens = lens.difference_lens(self.suite, diff, positions=positions, top=integer(first.settings.top))
        result = replace(first, tokens=tokens)
        yield result
        yield replace(result, similarities=lens.similarities(self.suite, diff, positions=positions))

    def cell(self, visit: Visit, method: str, position: int) -> str:
        """Return the lines that show the same in a notebook; "" before anything was looked at."""
        result = self.result(visit)
        if result is None or not result.tokens:
            return ""
        suite, diff, positions = self.suite, result.settings.diff, {"positions": integer(result.settings.positions)}
        looked = call("difference_lens", suite, diff, positions | {"top": integer(result.settings.top)})
        imports = *IMPORTS, "from dit_core.methods.lens import difference_lens, similarities"
        lines = [
            *opening_lines(suite, self.suite_ref, diff, *imports),
            f"plots.lens_tokens({looked}, method={method!r}, position={position}).show()",
            f"plots.cosine({call('similarities', suite, diff, positions)}).show()\n",
        ]
        return "\n".join(lines)


@dataclass(frozen=True)
class SteerSettings:
    """The settings of steering."""

    diff: str
    positions: int
    layer: int
    prompt: str
    strengths: tuple[float, ...]
    max_new_tokens: int
    samples: int
    temperature: float
    seed: int

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `lens.steer` beside the layer.

        Raises:
            DitError: a number is missing.
        """
        return {
            "positions": integer(self.positions),
            "prompt": self.prompt,
            "strengths": [number(strength) for strength in self.strengths],
            "max_new_tokens": integer(self.max_new_tokens),
            "samples": integer(self.samples),
            "temperature": number(self.temperature),
            "seed": integer(self.seed),
        }


@dataclass(frozen=True)
class SteerResult(Result[SteerSettings]):
    """What the base wrote while steered."""

    steered: Table[SteeredText] | None = None


class SteerTab(Tab[SteerSettings, SteerResult]):
    """Lets the base write while a diff's mean change is added, at all strengths as one batch."""

    name, button, settings_type, result_type = "steer", "Steer", SteerSettings, SteerResult

    def start(self, first: SteerResult) -> Generator[SteerResult, None, None]:
        """Yield what the base writes."""
        yield replace(first, steered=self._steered(first.settings))

    def _steered(self, settings: SteerSettings) -> Table[SteeredText]:
        layer = None if settings.layer == MIDDLE else settings.layer
        return lens.steer(self.suite, settings.diff, layer=layer, **settings.arguments)

    def words(self, result: SteerResult, clock: TimeLeft) -> str:
        """Return how many texts are written."""
        return f"Writing {len(result.settings.strengths)} texts as one batch…"

    def cell(self, visit: Visit) -> str:
        """Return the lines that write the same texts in a notebook; "" before there are any."""
        result = self.result(visit)
        if result is None or not result.steered:
            return ""
        settings = result.settings
        steered = call("steer", self.suite, settings.diff, {"layer": result.steered[0].layer} | settings.arguments)
        imports = "from dit_core import load_suite", "from dit_core.methods.lens import steer"
        lines = opening_lines(self.suite, self.suite_ref, settings.diff, *imports)
        return "\n".join([*lines, f"{steered}.to_frame()\n"])
