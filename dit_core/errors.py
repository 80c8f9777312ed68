"""The kind of error that a user is meant to read."""

from collections.abc import Iterable


class DitError(Exception):
    """Something the user can put right. Its text is one sentence that says what to do."""


class OracleError(DitError):
    """A suite's activation oracle can't be had, or does not fit: what needs none goes on without it."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The nearest of `choices` as a tail for an error message.

    Returns `" Did you mean 'a' or 'b'?"` with at most three names, or `""` when none is near.
    """
    from rapidfuzz import fuzz, process, utils

    found = process.extract(
        word, list(choices), scorer=fuzz.WRatio, processor=utils.default_process, limit=3, score_cutoff=70
    )
    names = [f"'{name}'" for name, _, _ in found]
    if not names:
        return ""
    head, last = ", ".join(names[:-1]), names[-1]
    return f" Did you mean {head + ' or ' if head else ''}{last}?"
