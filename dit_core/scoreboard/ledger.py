"""What has been found so far, on disk where a run may be stopped: the next one goes on where this one ended.

A file of JSON lines. The first says of which suite and settings it is, each other one holds a batch of findings, or a
choice made on the calibration diffs. Every batch is on disk before the next begins; one that was cut off is forgotten.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dit_core.errors import DitError
from dit_core.records import DiffInfo, Finding, records_from_json

FORMAT = 2
Key = tuple[str, str, str]  # method, task, adapter


class Ledger:
    """Findings and choices of one run, by (method, task, adapter). Open it as a context where it has a file.

    Args:
        settings: all that a finding depends on beside the diff and the method: suite, fingerprint, split, limit…
        file: where to keep them; a folder, or what ends in "/", gets a file named after the settings. Nowhere
            without it.

    Raises (on entering):
        DitError: the file is of other settings, damaged, in use by another run, or can't be written.
    """

    def __init__(self, settings: Mapping[str, Any], file: Path | str | None = None) -> None:
        self.settings = json.loads(json.dumps({"format": FORMAT, **settings}))
        self.path = self._place(file) if file else None
        self.findings: list[Finding] = []
        self.choices: dict[Key, dict[str, Any]] = {}
        self._open = ExitStack()
        self._out: FileIO | None = None

    def _place(self, where: Path | str) -> Path:
        file = Path(where)
        if str(where).endswith(("/", os.sep)):
            with suppress(OSError):  # what is wrong is said where the file is opened
                file.mkdir(parents=True, exist_ok=True)
        if not file.is_dir():
            return file
        digest = sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:8]
        parts = (self.settings.get(name) for name in ("suite", "fingerprint", "split"))
        return file / f"scoreboard-{'-'.join(_plain(part) for part in parts if part)}-{digest}.jsonl"

    def __enter__(self) -> "Ledger":
        if self.path:
            with ExitStack() as opened:  # closes what was opened where something goes wrong on the way
                self._lock(self.path, opened)
                self._begin(self.path, opened)
                self._open = opened.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        self._out = None
        self._open.close()

    def missing(self, key: Key, measures: Sequence[str], infos: Iterable[DiffInfo]) -> list[DiffInfo]:
        """The diffs of which a method's findings by these measures are not there yet."""
        there = {one.diff for one in self.findings_of(key, measures)}
        return [info for info in infos if info.id not in there]

    def findings_of(self, key: Key, measures: Sequence[str]) -> list[Finding]:
        """A method's findings by the first of these measures."""
        return [one for one in self.findings if key_of(one) == key and measures[0] in one.values]

    def add(self, findings: Sequence[Finding]) -> None:
        """Takes a batch of findings; they are on disk when it returns."""
        if findings:
            self._write({"findings": [asdict(one) for one in findings]})
            self.findings += findings

    def choose(self, key: Key, choice: dict[str, Any]) -> None:
        """Takes what was chosen for a method, such as its layer; it is on disk when this returns."""
        self._write({"key": key, "choice": choice})
        self.choices[key] = choice

    def _lock(self, path: Path, opened: ExitStack) -> None:
        """Takes the file's lock, which is given back when the process ends, however it ends."""
        try:
            # Not per thread: a run on the page ends in another thread than it began in.
            opened.enter_context(FileLock(f"{path}.lock", timeout=0, thread_local=False))
        except Timeout as error:
            raise DitError(f"Another run is writing to '{path}': wait for it, or give another file.") from error
        except OSError as error:
            raise _unwritable(path, error) from error

    def _begin(self, path: Path, opened: ExitStack) -> None:
        """Reads what is there, forgets a line that was cut off, and opens the file to go on."""
        try:
            there = path.read_bytes() if path.exists() else b""
            whole = there[: there.rfind(b"\n") + 1]
            self._read(whole)
            # Without a buffer: what did not fit on a full disk is not tried again when the file is closed.
            out = opened.enter_context(FileIO(path, "r+" if there else "w+"))
            out.truncate(len(whole))
            out.seek(len(whole))
        except OSError as error:
            raise _unwritable(path, error) from error
        self._out = out
        if not whole:
            self._write({"settings": self.settings})

    def _read(self, content: bytes) -> None:
        for number, line in enumerate(content.splitlines()):
            try:
                entry = json.loads(line)
                if number == 0:
                    self._check(entry["settings"])
                elif "choice" in entry:
                    self.choices[tuple(entry["key"])] = entry["choice"]
                else:
                    self.findings += records_from_json(entry["findings"], Finding)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DitError(
                    f"Line {number + 1} of '{self.path}' is not a scoreboard's result: give another file, or delete it."
                ) from error

    def _check(self, settings: Mapping[str, Any]) -> None:
        names = [name for name in {**settings, **self.settings} if settings.get(name) != self.settings.get(name)]
        if names:
            name = names[0]
            raise DitError(
                f"'{self.path}' holds results of other settings ({name} {settings.get(name)!r}, and not "
                f"{self.settings.get(name)!r}): give another file, or a folder, where each has its own."
            )

    def _write(self, entry: Mapping[str, Any]) -> None:
        """Adds a line: all of it is there, or it is forgotten when the file is read."""
        if self._out is None or self.path is None:
            return
        try:
            left = memoryview((json.dumps(entry, ensure_ascii=False) + "\n").encode())
            while left:
                left = left[self._out.write(left) :]
            os.fsync(self._out.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error


def key_of(finding: Finding) -> Key:
    """The row of the scoreboard that a finding belongs to."""
    return finding.method, finding.task, finding.adapter


def _unwritable(path: Path, error: OSError) -> DitError:
    reason = error.strerror or type(error).__name__
    return DitError(
        f"The results can't be kept in '{path}' ({reason}): make room or give another place. What is there already "
        "stays, and the next run goes on from it."
    )


def _plain(text: Any) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in str(text))
