"""Where artefacts are: names of suites and their folders, and PEFT adapters by folder or hub id."""

import re
from pathlib import Path

from .errors import DitError, did_you_mean

SUITE_FILE = "suite.toml"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
SUITES = {"pocket": Path(__file__).resolve().parent.parent / "assets" / "pocket"}


def find_suite(name_or_path: str | Path) -> Path:
    """The folder of a suite, given its name or its path.

    Raises:
        DitError: no suite has that name and no suite lies there, or a named suite's files are missing.
    """
    if str(name_or_path) in SUITES:
        folder = SUITES[str(name_or_path)]
        if not (folder / SUITE_FILE).is_file():
            raise DitError(f"The suite '{name_or_path}' is not in '{folder}': build it with `make {name_or_path}`.")
        return folder
    path = Path(name_or_path).expanduser()
    folder = path.parent if path.name == SUITE_FILE else path
    if (folder / SUITE_FILE).is_file():
        return folder.resolve()
    if folder.is_dir() and str(name_or_path).strip():
        raise DitError(f"The folder '{folder}' is not a suite: it has no {SUITE_FILE}.")
    nearest = did_you_mean(str(name_or_path), SUITES)
    known = ", ".join(f"'{name}'" for name in SUITES)
    raise DitError(f"There is no suite '{name_or_path}'.{nearest} Give the path of a suite's folder, or {known}.")


def peft_folder(source: str) -> Path:
    """The folder of a PEFT adapter: a path, or a hub id, of which only the adapter's own files are fetched (once).

    Raises:
        DitError: there is no such folder, and the hub does not give it.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if not _HUB_ID.fullmatch(source):
        raise DitError(f"There is no folder '{source}': give a PEFT adapter's folder, or a hub id like 'owner/name'.")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=["adapter_config.json", "adapter_model.*"]))
    except Exception as error:  # the hub's client raises anything from OSError to kinds of its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DitError(f"'{source}' can't be had from the hub: check its name and the network ({reason}).") from error
