"""Where an audit comes from: what it was made with, and the lines of Python that make it again."""

from datetime import date

from dit_core.project import versions
from dit_core.records import DiffInfo
from dit_core.suite import Origin, Suite
from dit_core.suite.snippets import beginning, named, opens


def settings(suite: Suite, info: DiffInfo, seed: int) -> dict[str, str]:
    """What an audit of a diff is made with, by name; what does not apply is left out."""
    origin = suite.origin(info.id)
    found = {
        "suite": f"{suite.name}, {suite.title}",
        "fingerprint of the suite": suite.fingerprint,
        "revisions on the hub": ", ".join(f"{repo}@{commit}" for repo, commit in suite.revisions.items()),
        "diff": f"{info.id} ({info.task}, split {info.split}, rank {info.rank or 'full'})",
        "where the diff came from": _told(origin) if origin else "",
        "decoding": f"greedy, at most {suite.max_new_tokens} new tokens, seed {seed}",
        "oracle": suite.oracle.title if suite.oracle else "none in this suite",
        "made": date.today().isoformat(),
        "versions": ", ".join(f"{name} {number}" for name, number in versions().items()),
    }
    return {name: text for name, text in found.items() if text}


def again(suite: Suite, info: DiffInfo) -> str:
    """Lines of Python that open the suite, bring the diff anew where it was brought, and make the same audit."""
    call = opens(suite)
    imports = f"from dit_core import {call.partition('(')[0]}", "from dit_core.audit import audit_diff, page"
    return "\n".join(
        [*beginning(suite, call, info.id, *imports), f"audit = audit_diff(suite, {named(suite, info.id)})"]
    )


def _told(origin: Origin) -> str:
    files = f"the files {', '.join(origin.files)}" if origin.files else "Python"
    place = f", at position {origin.position}" if origin.position else ""
    return f"brought as “{origin.title}” from {origin.source or files}{place}"
