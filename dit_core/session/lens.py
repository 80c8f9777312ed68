"""The Lens tab's two jobs, looking and steering: their settings, steps and results, free of any toolkit."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from dit_core.methods import lens
from dit_core.present.cards import RUNNING
from dit_core.records import LensToken, Similarity, SteeredText, Table
from dit_core.session.messages import integer, number
from dit_core.suite import Suite

MIDDLE = -1  # stands for the layer in the middle, where none is chosen


@dataclass(frozen=True)
class LensSettings:
    """The settings of a look, in the order of the controls: a diff, first tokens of the texts, words per layer."""

    diff: str
    positions: int
    top: int


@dataclass(frozen=True)
class LensResult:
    """What the lens shows of a diff, so far."""

    settings: LensSettings
    tokens: Table[LensToken] | None = None
    similarities: Table[Similarity] | None = None
    state: str = RUNNING


@dataclass(frozen=True)
class SteerSettings:
    """The settings of steering, in the order of the controls."""

    diff: str
    positions: int
    layer: int
    prompt: str
    strengths: tuple[float, ...]
    max_new_tokens: int
    samples: int
    temperature: float
    seed: int

    @classmethod
    def from_controls(cls, diff: str, positions: int, layer: int, prompt: str, *values: Any) -> SteerSettings:
        """Return the settings for the controls' values; the strengths, of any number, stand in the middle."""
        *strengths, tokens, samples, temperature, seed = values
        return cls(diff, positions, layer, prompt, tuple(strengths), tokens, samples, temperature, seed)

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
class SteerResult:
    """What the base wrote while steered."""

    settings: SteerSettings
    steered: Table[SteeredText] | None = None
    state: str = RUNNING


def look(suite: Suite, settings: LensSettings) -> Generator[LensResult, None, None]:
    """Yield the words in a diff's mean change, then also how alike its layers and positions are."""
    positions = integer(settings.positions)
    result = LensResult(
        settings, lens.difference_lens(suite, settings.diff, positions=positions, top=integer(settings.top))
    )
    yield result
    yield replace(result, similarities=lens.similarities(suite, settings.diff, positions=positions))


def steer(suite: Suite, settings: SteerSettings) -> Generator[SteerResult, None, None]:
    """Yield what the base writes while steered, all strengths as one batch."""
    layer = settings.layer
    if layer == MIDDLE:
        layer = suite.worker.run(lambda: len(suite.model.layers)) // 2
    yield SteerResult(settings, lens.steer(suite, settings.diff, layer=layer, **settings.arguments))
