"""What an audit holds: all that was found out about one diff, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from dit_core.methods import Method
from dit_core.project import versions
from dit_core.records import (
    SCHEMA_VERSION,
    Confidence,
    DiffInfo,
    LensToken,
    ModuleChange,
    Reading,
    Reliability,
    Table,
    Verbalization,
    as_dict,
)
from dit_core.suite import Origin, Suite
from dit_core.suite.snippets import diff_expression, load_call, opening_lines_after


@dataclass(frozen=True)
class MethodAnswer:
    """What one method says about the diff when it is asked `question`."""

    method: str
    question: str
    text: str


@dataclass(frozen=True)
class Chapter:
    """What a method found out about the diff that has no other place in the report."""

    method: Method[Any, Any]
    table: Table[Any]


@dataclass(frozen=True)
class Audit:
    """What was found out about a diff: all of it, or as much as there was when it was stopped.

    Attributes:
        about: sentences on what the diff is, which suite it is asked in and why, and what that suite lacks.
        left: the parts that are still to do, by title; empty for a whole audit.
        failed: why a part found nothing, by title.
        changes: what it changes, by module; None before that is known.
        everyday: its answers to everyday questions; None for a listed diff without a trigger.
        readings: the oracle's; None in a suite without one.
        lens: tokens of its mean change of unrelated texts; None before that is known.
        confidence: how far the DIT adapters' answers can be trusted; empty in a suite without one for the diff.
        reading_confidence: the same of a few readings.
        chances: how far either's probabilities can be believed, where that was measured.
        layers: the oracle's layers by method.
        settings: what the audit was made with.
        code: the Python that makes it again.
    """

    suite: Suite
    info: DiffInfo
    about: tuple[str, ...]
    left: tuple[str, ...]
    layers: Mapping[str, int]
    settings: Mapping[str, str]
    code: str
    failed: Mapping[str, str]
    changes: Table[ModuleChange] | None = None
    answers: tuple[MethodAnswer, ...] = ()
    everyday: Table[Verbalization] | None = None
    readings: Table[Reading] | None = None
    lens: Table[LensToken] | None = None
    chapters: tuple[Chapter, ...] = ()
    confidence: tuple[Confidence, ...] = ()
    reading_confidence: tuple[Confidence, ...] = ()
    chances: tuple[Table[Reliability], ...] = ()

    @property
    def title(self) -> str:
        """The diff's id, or what a user's own is called."""
        origin = self.suite.origin(self.info.id)
        return origin.title if origin else self.info.id

    def to_json(self, reveal: bool = False) -> dict[str, Any]:
        """Return all of it as plain data for JSON; secrets only with `reveal`."""
        tables = (self.changes, self.everyday, self.readings, self.lens, *(own.table for own in self.chapters))
        kept = {table.kind: [as_dict(record, reveal) for record in table] for table in tables if table is not None}
        found = {name: getattr(self, name) for name in ("confidence", "reading_confidence")}
        return {
            "schema_version": SCHEMA_VERSION,
            "suite": self.suite.name,
            "diff": as_dict(self.info, reveal),
            **{name: getattr(self, name) for name in ("title", "about", "left", "failed", "settings")},
            "answers": [asdict(answer) for answer in self.answers],
            **{name: [as_dict(record, reveal) for record in records] for name, records in found.items()},
            **kept,
            "versions": versions(),
        }


def settings(suite: Suite, info: DiffInfo, seed: int) -> dict[str, str]:
    """Return what an audit of a diff is made with, by name; what does not apply is left out."""
    origin = suite.origin(info.id)
    found = {
        "suite": f"{suite.name}, {suite.title}",
        "fingerprint of the suite": suite.fingerprint,
        "revisions on the hub": ", ".join(f"{repo}@{commit}" for repo, commit in suite.revisions.items()),
        "diff": f"{info.id} ({info.task}, split {info.split}, rank {info.rank or 'full'})",
        "where the diff came from": _source(origin) if origin else "",
        "decoding": f"greedy, at most {suite.max_new_tokens} new tokens, seed {seed}",
        "oracle": suite.oracle.title if suite.oracle else "none in this suite",
        "made": date.today().isoformat(),
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
    return {name: text for name, text in found.items() if text}


def code(suite: Suite, info: DiffInfo) -> str:
    """Return lines of Python that open the suite, bring the diff anew where it was brought, and make the audit."""
    call = load_call(suite)
    imports = f"from dit_core import {call.partition('(')[0]}", "from dit_core.auditing import audit_diff, report_html"
    return "\n".join(
        [
            *opening_lines_after(suite, call, info.id, *imports),
            f"audit = audit_diff(suite, {diff_expression(suite, info.id)})",
        ]
    )


def _source(origin: Origin) -> str:
    files = f"the files {', '.join(origin.files)}" if origin.files else "Python"
    position = f", at position {origin.position}" if origin.position else ""
    return f"brought as “{origin.title}” from {origin.source or files}{position}"
