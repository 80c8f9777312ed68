"""The findings of a run, kept on disk: a run that was stopped goes on from its ledger.

A file of JSON lines. The first holds suite and settings; each other one a batch of findings, or a choice made on the
calibration diffs. Each batch is on disk before the next one starts. An incomplete last line is dropped.
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
        settings: all that a finding depends on besides the diff and the method: suite, fingerprint, split, limit…
        file: where to keep them; a folder, or a path that ends in "/", gets a file named after the settings. In memory
            only without it.

    Raises (on entering):
        DitError: the file has other settings, is damaged, is in use by another run, or can't be written.
    """

    def __init__(self, settings: Mapping[str, Any], file: Path | str | None = None) -> None:
        self.settings = json.loads(json.dumps({"format": FORMAT, **settings}))
        self.path = self._path_of(file) if file else None
        self.findings: list[Finding] = []
        self.choices: dict[Key, dict[str, Any]] = {}
        self._open = ExitStack()
        self._out: FileIO | None = None

    def _path_of(self, location: Path | str) -> Path:
        path = Path(location)
        if str(location).endswith(("/", os.sep)):
            with suppress(OSError):  # opening the file gives the better error
                path.mkdir(parents=True, exist_ok=True)
        if not path.is_dir():
            return path
        digest = sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:8]
        parts = (self.settings.get(name) for name in ("suite", "fingerprint", "split"))
        return path / f"scoreboard-{'-'.join(_safe_name(part) for part in parts if part)}-{digest}.jsonl"

    def __enter__(self) -> "Ledger":
        if self.path:
            with ExitStack() as opened:  # closes what is open if a later step fails
                self._lock(self.path, opened)
                self._begin(self.path, opened)
                self._open = opened.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        self._out = None
        self._open.close()

    def missing(self, key: Key, measures: Sequence[str], infos: Iterable[DiffInfo]) -> list[DiffInfo]:
        """Return the diffs that have no finding yet by this method and the first of these measures."""
        present = {finding.diff for finding in self.findings_of(key, measures)}
        return [info for info in infos if info.id not in present]

    def findings_of(self, key: Key, measures: Sequence[str]) -> list[Finding]:
        """Return a method's findings that have a value of the first of these measures."""
        return [finding for finding in self.findings if key_of(finding) == key and measures[0] in finding.values]

    def add(self, findings: Sequence[Finding]) -> None:
        """Add a batch of findings; they are on disk when this returns."""
        if findings:
            self._write({"findings": [asdict(finding) for finding in findings]})
            self.findings += findings

    def choose(self, key: Key, choice: dict[str, Any]) -> None:
        """Add a method's choice, such as its layer; it is on disk when this returns."""
        self._write({"key": key, "choice": choice})
        self.choices[key] = choice

    def _lock(self, path: Path, opened: ExitStack) -> None:
        """Take the file's lock, which the system frees when the process ends."""
        try:
            # Not per thread: a run on the page may end in another thread than it started in.
            opened.enter_context(FileLock(f"{path}.lock", timeout=0, thread_local=False))
        except Timeout as error:
            raise DitError(f"Another run is writing to '{path}': wait for it, or give another file.") from error
        except OSError as error:
            raise _unwritable(path, error) from error

    def _begin(self, path: Path, opened: ExitStack) -> None:
        """Read the file, drop an incomplete last line, and open it for appending."""
        try:
            content = path.read_bytes() if path.exists() else b""
            complete = content[: content.rfind(b"\n") + 1]
            self._read(complete)
            # Unbuffered: what did not fit on a full disk is not written again on closing.
            out = opened.enter_context(FileIO(path, "r+" if content else "w+"))
            out.truncate(len(complete))
            out.seek(len(complete))
        except OSError as error:
            raise _unwritable(path, error) from error
        self._out = out
        if not complete:
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
        """Append a line; one that was not written completely is dropped when the file is read."""
        if self._out is None or self.path is None:
            return
        try:
            rest = memoryview((json.dumps(entry, ensure_ascii=False) + "\n").encode())
            while rest:
                rest = rest[self._out.write(rest) :]
            os.fsync(self._out.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error


def key_of(finding: Finding) -> Key:
    """Return the (method, task, adapter) of a finding, the key of its row in the scoreboard."""
    return finding.method, finding.task, finding.adapter


def _unwritable(path: Path, error: OSError) -> DitError:
    reason = error.strerror or type(error).__name__
    return DitError(
        f"The results can't be kept in '{path}' ({reason}): make room or give another place. What is there already "
        "stays, and the next run goes on from it."
    )


def _safe_name(text: Any) -> str:
    return "".join(character if character.isalnum() else "_" for character in str(text))
