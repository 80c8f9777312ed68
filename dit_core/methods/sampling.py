"""Options that all methods share: which diffs are asked, and how answers are sampled."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypedDict

from dit_core.errors import DitError, checked_integer, checked_number
from dit_core.records import DiffInfo
from dit_core.records.condition import Condition, as_list
from dit_core.suite import Suite

MAX_SAMPLES = 1000
MAX_NEW_TOKENS = 1000
MAX_TEMPERATURE = 100

Diffs = str | DiffInfo | Sequence[str | DiffInfo] | None
"""Ids or references of diffs; None for the base (and DIT adapters) alone."""
Conditions = str | Condition | Sequence[str | Condition | tuple[str | Condition, str]] | None
"""Conditions, written or made; a pair of a condition and a question is asked that question."""
Layers = str | int | Sequence[int]
"""`all`, numbers, or text like `0,3-5` or `25%,50%`."""


class SamplingOptions(TypedDict, total=False):
    """How answers are drawn: keyword arguments of every method that generates.

    samples: answers per combination, 1 to 1,000 (1 by default); more than one needs a temperature above 0.
    temperature: 0 (the default) takes the likeliest token each time; at most 100.
    top_p: samples among the likeliest tokens that together have this probability, in (0, 1]; 1 by default.
    max_new_tokens: of an answer, 1 to 1,000; the suite's own number by default.
    seed: of the noise and of the digits around triggers, 64 bits; 0 by default.
    """

    samples: int
    temperature: float
    top_p: float
    max_new_tokens: int | None
    seed: int


@dataclass(frozen=True)
class Sampling:
    """Checked sampling options; each is as `SamplingOptions` says."""

    samples: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int


def checked_sampling(
    suite: Suite,
    *,
    samples: Any = 1,
    temperature: Any = 0.0,
    top_p: Any = 1.0,
    max_new_tokens: Any = None,
    seed: Any = 0,
) -> Sampling:
    """Check how answers are to be drawn; arguments as in `SamplingOptions`.

    Raises:
        DitError: a number is out of its range, or several samples would all be the same.
    """
    tokens = suite.max_new_tokens if max_new_tokens is None else max_new_tokens
    tokens = checked_integer(tokens, "The number of new tokens", 1, MAX_NEW_TOKENS)
    samples = checked_integer(samples, "The number of samples", 1, MAX_SAMPLES)
    seed = checked_integer(seed, "The seed", -(2**63), 2**63 - 1)
    temperature = checked_number(temperature, "The temperature", 0, MAX_TEMPERATURE)
    if not isinstance(top_p, Real) or not 0 < float(top_p) <= 1:
        raise DitError(f"Top-p must be a number above 0 and at most 1, not {top_p!r}.")
    if samples > 1 and temperature == 0:
        raise DitError("Several samples would all be the same at temperature 0: raise the temperature or ask for one.")
    return Sampling(samples, temperature, float(top_p), tokens, seed)


def named_diffs(suite: Suite, diff: Diffs) -> list[DiffInfo]:
    """Look up diffs by id or reference, each once; DitError, with the nearest name, for an unknown one."""
    return list(dict.fromkeys(suite.diff(name) for name in as_list(diff)))
