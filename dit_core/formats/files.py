"""Reading and writing files so that every fault is one sentence and no half-written file is ever seen."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from dit_core.errors import DitError


class Wrong(Exception):
    """What is wrong with a file's content; `reading` makes it a whole sentence."""


@contextmanager
def reading(path: Path, what: str):
    """Whatever goes wrong while a file is read becomes one sentence for the user."""
    try:
        yield
    except FileNotFoundError as error:
        raise DitError(f"'{error.filename or path}' was not found: check the path to {what}.") from error
    except Wrong as error:
        raise DitError(f"'{path}' can't be used as {what}: {error}.") from None
    # Foreign pickles and broken archives raise anything from KeyError to RuntimeError.
    except Exception as error:
        raise DitError(f"'{path}' can't be read as {what}: it is corrupt or something else; get it anew.") from error


@contextmanager
def written(path: Path):
    """A temporary file that takes the place of `path` when all went well: readers never see half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    try:
        yield Path(name)
        # mkstemp makes files for their owner only; artefacts are for everyone who may read the folder.
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
