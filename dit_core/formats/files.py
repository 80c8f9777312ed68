"""Reading and writing files so that every fault is one sentence and no half-written file is ever seen."""

import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dit_core.errors import DitError

MAX_JSON = 16 << 20  # bytes: the index of the largest sharded models has about 1 MB


class Wrong(Exception):
    """What is wrong with a file's content; `reading` makes it a whole sentence."""


@contextmanager
def reading(path: Path, what: str):
    """Whatever goes wrong while a file is read becomes one sentence for the user."""
    try:
        yield
    except DitError:
        raise
    except FileNotFoundError as error:
        raise DitError(f"'{error.filename or path}' was not found: check the path to {what}.") from error
    except Wrong as error:
        raise DitError(f"'{path}' can't be used as {what}: {error}.") from None
    # Foreign pickles and broken archives raise anything from KeyError to RuntimeError.
    except Exception as error:
        raise DitError(f"'{path}' can't be read as {what}: it is corrupt or something else; get it anew.") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; Wrong for one that is no object, or too large for what such files hold."""
    if path.stat().st_size > MAX_JSON:
        raise Wrong(f"{path.name} is larger than {MAX_JSON >> 20} MB")
    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise Wrong(f"{path.name} holds no JSON object")
    return found


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
