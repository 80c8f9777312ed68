"""The kind of error that a user is meant to read, and the checks of what a user gives by hand that raise it."""

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

MAX_TEXT = 2000  # characters of a question, and of a trigger of the user's own


class DitError(Exception):
    """Something the user can put right. Its text is one sentence that says what to do."""


class MixedRowsError(DitError):
    """Rows of one batch want other strengths of what they share: as batches of their own they can be had."""


class OracleError(DitError):
    """A suite's activation oracle can't be had, or does not fit: what needs none goes on without it."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return the nearest of `choices` as the end of an error message, or `""` where none is near.

    It reads `" Did you mean 'a' or 'b'?"`, with at most three names.
    """
    from rapidfuzz import fuzz, process, utils

    nearest = process.extract(
        name, list(choices), scorer=fuzz.WRatio, processor=utils.default_process, limit=3, score_cutoff=70
    )
    names = [f"'{choice}'" for choice, _, _ in nearest]
    if not names:
        return ""
    head, last = ", ".join(names[:-1]), names[-1]
    return f" Did you mean {head + ' or ' if head else ''}{last}?"


def checked_integer(value: Any, what: str, least: int, most: int) -> int:
    """Return a whole number within limits; DitError for anything else."""
    if not is_number(value, Integral) or not least <= value <= most:
        raise DitError(f"{what} must be a whole number from {least:,} to {most:,}, not {value!r}.")
    return int(value)


def checked_number(value: Any, what: str, least: float, most: float) -> float:
    """Return a number within limits as a float; DitError for anything else."""
    if not is_number(value, Real) or not least <= value <= most:  # NaN fails this too
        raise DitError(f"{what} must be a number from {least:,} to {most:,}, not {value!r}.")
    return float(value)


def checked_text(text: Any, what: str, most: int = MAX_TEXT) -> str:
    """Return a text that a user wrote, without the white space around it; DitError when empty, over-long or no text."""
    if not isinstance(text, str):
        raise DitError(f"{what} must be text, not {text!r}.")
    stripped: str = text.strip()
    if not stripped:
        raise DitError(f"{what} is empty: write a text.")
    if len(stripped) > most:
        raise DitError(f"{what} has {len(stripped):,} characters: shorten it to {most:,} or fewer.")
    if any("\ud800" <= character <= "\udfff" for character in stripped):
        raise DitError(f"{what} holds a broken character (half a surrogate pair): write it anew.")
    return stripped


def is_number(value: Any, kind: type) -> bool:
    """Return whether a value is such a number: NumPy's are too; bool is an int by accident of history."""
    return isinstance(value, kind) and not isinstance(value, bool)
