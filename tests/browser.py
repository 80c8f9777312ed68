"""The Chromium that the browser tests drive: which one there is, and how to get one.

As a program, `python -m tests.browser`: sees that there is one before the tests begin. Where there is none it asks
Playwright's own installer, and where that can't either it says so; with CI=true that is a failure.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from playwright.sync_api import Browser, Error, sync_playwright

SYSTEM_NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
HOW_TO_GET_ONE = (
    "no Chromium that starts was found, so the browser tests are left out: install one (Debian: `apt-get install "
    "chromium`; elsewhere `.venv/bin/python -m playwright install --with-deps chromium`) and run the tests again"
)
INSTALL_SECONDS = 600


def browser_path() -> str | None:
    """Return the path of the system's Chromium, else of Playwright's own; None where there is neither."""
    for name in SYSTEM_NAMES:
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None


@contextmanager
def launched() -> Iterator[Browser | None]:
    """Give a running headless Chromium while the context is open, or None where none can be started."""
    if (path := browser_path()) is None:
        yield None
        return
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        except Error:  # its libraries are missing
            yield None
            return
        yield browser
        browser.close()


def required() -> bool:
    """Whether a missing browser is a failure: on continuous integration nothing may be left out unseen."""
    return os.environ.get("CI", "").lower() == "true"


def _starts() -> bool:
    with launched() as browser:
        return browser is not None


def main() -> int:
    """See that there is a browser; return 1 where there is none though it is required."""
    if browser_path() is None:
        command = [sys.executable, "-m", "playwright", "install", "chromium"]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=INSTALL_SECONDS, check=False)
    if _starts():
        return 0
    print(f"Note: {HOW_TO_GET_ONE}.", file=sys.stderr)
    return 1 if required() else 0


if __name__ == "__main__":
    sys.exit(main())
