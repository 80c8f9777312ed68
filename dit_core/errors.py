"""The kind of error that a user is meant to read."""

from collections.abc import Iterable


class DitError(Exception):
    """Something the user can put right. Its text is one sentence that says what to do."""


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
