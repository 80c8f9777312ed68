"""Why the hub does not give something, in one sentence that says what to do."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dit_core.errors import DitError
from dit_core.hub.sources import HubPath


@contextmanager
def said(where: HubPath, stranger: bool = False) -> Iterator[None]:
    """Turns whatever the client raises into one sentence that says what to do; a stranger can't log in."""
    try:
        yield
    except DitError:
        raise
    except Exception as error:  # the client raises kinds of its own, its HTTP library's, and the system's
        raise DitError(f"'{where}' can't be had from the hub: {_sentence(where, error, stranger)}") from error


def _sentence(where: HubPath, error: BaseException, stranger: bool) -> str:
    """Why the hub does not give it, and what to do."""
    from huggingface_hub import constants, errors

    chain = _chain(error)
    codes = {getattr(getattr(one, "response", None), "status_code", None) for one in chain}

    def has(*kinds: type) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    if stranger and has(errors.RepositoryNotFoundError):  # which a gated one is too
        return "it is not there, gated or private, which this server does not open: check it, or upload the files."
    if has(errors.GatedRepoError):
        return (
            f"it is gated: accept the terms at {constants.ENDPOINT}/{where.repo}, then log in with `hf auth login` or "
            "set HF_TOKEN."
        )
    if has(errors.RevisionNotFoundError):
        return f"'{where.repo}' has no revision '{where.revision or 'main'}': check it."
    if has(errors.RepositoryNotFoundError):
        return f"'{where.repo}' is not there, or private: check the name, or log in with `hf auth login` or HF_TOKEN."
    if has(errors.RemoteEntryNotFoundError):
        return f"'{where.repo}' has no file '{where.path}': check the name and the revision."
    if codes & {401, 403}:
        return "your token is refused: check HF_TOKEN, or log in anew with `hf auth login`."
    if any(isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT) for one in chain):
        return f"the disk of '{constants.HF_HUB_CACHE}' is full: make room, or set HF_HOME to a larger one."
    if constants.is_offline_mode():
        return (
            "there is no folder of that name here, it was not fetched before, and HF_HUB_OFFLINE is set: unset that "
            "once, with a network."
        )
    if has(errors.LocalEntryNotFoundError, ConnectionError, TimeoutError) or _of_transport(chain):
        return f"{constants.ENDPOINT} does not answer: check the network and try again; whole files that came are kept."
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return f"check its name and the network ({reason})."


def _of_transport(chain: Sequence[BaseException]) -> bool:
    """Whether the HTTP library itself failed, whichever it is, or fewer bytes came than were announced."""
    kinds = {kind.__name__ for one in chain for kind in type(one).__mro__}
    return bool(kinds & {"TransportError", "FileMetadataError"}) or any("Consistency check" in str(e) for e in chain)


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
