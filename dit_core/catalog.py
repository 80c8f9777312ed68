"""Names of suites and the folders they live in: a name from here, or the path of any suite folder."""

from pathlib import Path

from .errors import DitError, did_you_mean

SUITE_FILE = "suite.toml"
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
