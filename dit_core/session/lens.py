"""What the Lens tab was asked, and what it has found so far, without any Gradio."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from dit_core.methods import lens
from dit_core.present.cards import RUNNING
from dit_core.records import LensToken, Similarity, SteeredText, Table
from dit_core.session.messages import integer, number
from dit_core.suite import Suite

MIDDLE = -1  # the layer in the middle, for who has not chosen one


@dataclass(frozen=True)
class LensSettings:
    """What to look at, in the order of the controls: a diff, first tokens of the texts, words per layer."""

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
    """What to write, in the order of the controls."""

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
        """The settings as the controls give them: strengths, of any number, stand in the middle."""
        *strengths, tokens, samples, temperature, seed = values
        return cls(diff, positions, layer, prompt, tuple(strengths), tokens, samples, temperature, seed)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `lens.steer` beside the layer. Raises DitError for an emptied number."""
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
    """Finds the words in a diff's mean change, then how its layers and positions resemble each other."""
    positions = integer(settings.positions)
    result = LensResult(
        settings, lens.difference_lens(suite, settings.diff, positions=positions, top=integer(settings.top))
    )
    yield result
    yield replace(result, similarities=lens.similarities(suite, settings.diff, positions=positions))


def steer(suite: Suite, settings: SteerSettings) -> Generator[SteerResult, None, None]:
    """Lets the base write, all strengths as one batch."""
    layer = settings.layer
    if layer == MIDDLE:
        layer = suite.worker.run(lambda: len(suite.model.layers)) // 2
    yield SteerResult(settings, lens.steer(suite, settings.diff, layer=layer, **settings.arguments))
