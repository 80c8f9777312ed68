"""Audit: all that is known about one diff, as one HTML file that needs nothing beside it.

`audit` takes a finetune from wherever it lies, `audit_diff` a diff of a suite: every method is asked, and `report_html`
writes what they say. What a listed diff was really trained on is in the report only on request.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from dit_core.auditing.parts import PARTS, SEED, chosen_layers
from dit_core.auditing.record import Audit, Chapter, MethodAnswer, code, settings
from dit_core.auditing.report import report_html
from dit_core.errors import DitError
from dit_core.hub import Fetcher
from dit_core.records import DiffInfo
from dit_core.suite import Suite, generic_suite, load_suite
from dit_core.suite.fitting import SAY_BASE, Fit, base_note, check_tokenizer, find_fit
from dit_core.suite.user_diffs import add_diff, open_source

__all__ = [
    "Audit",
    "Chapter",
    "Finetune",
    "MethodAnswer",
    "audit",
    "audit_diff",
    "audit_progress",
    "audit_steps",
    "open_finetune",
    "report_html",
]
_UNRELATED = 0.9  # of the base's norm: weights that have nothing to do with it differ by 1.4, finetuned ones by little
UNTRAINED = (
    "There is no DIT adapter for this base here, so that only methods that need none ran. `dit-explorer train` can "
    "train an adapter from a list of behaviours (docs/training.md): audit with `--suite` and the folder that it makes."
)


@dataclass(frozen=True)
class Finetune:
    """A finetune that was added to the suite of its base: its info there, and sentences on what it is and why there."""

    suite: Suite
    info: DiffInfo
    about: tuple[str, ...]


def audit(
    source: str,
    base: str | None = None,
    *,
    suite: Suite | str | None = None,
    position: int = 0,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Audit:
    """Find out what a finetune was trained for: identify it, find the suite of its base, and ask every method.

    What the finetune was trained on is not known: its answers get evidence, and no grades.

    Args:
        source: a PEFT folder, a checkpoint, a published file or a zip of these, by path or hub id.
        base: the base that it was made on, by path, hub id or `package:NAME`; by default what its files say, its
            weights tell or its shapes show.
        suite: the suite to ask it in, by name or folder, in place of the one that is found.
        position: which diff, of a file that holds many.
        on_progress: called before each part with the parts done, the parts in all and what comes next.

    Raises:
        DitError: it is no finetune, its base can't be told or had, or it doesn't fit that base.
    """
    finetune = open_finetune(source, base, suite, position)
    return _finished(audit_steps(finetune.suite, finetune.info, about=finetune.about), on_progress)


def open_finetune(
    source: str, base: str | None = None, suite: Suite | str | None = None, position: int = 0
) -> Finetune:
    """Add a finetune to the suite of its base; arguments and errors are those of `audit`."""
    with open_source(source, Fetcher(), position=position) as (adapter_file, origin):
        if adapter_file.kind == "dit":
            raise DitError(f"'{source}' is a DIT adapter, which makes finetunes speak: give the finetune to audit.")
        stored = adapter_file.read(position)
        if suite is None:
            fit = _fetched(find_fit(stored, base))
        else:
            loaded = suite if isinstance(suite, Suite) else load_suite(suite)
            fit = Fit(loaded, base_note(loaded, base or stored.base))
            loaded.fetch()
        check_tokenizer(adapter_file.path, fit.suite)
        added = add_diff(fit.suite, adapter_file, stored, origin)
    _check_related(fit.suite, added.info, [change.relative for change in added.changes if change.kind == "whole"])
    kind = f"{stored.method} by PEFT" if stored.method else added.layout
    size = f"rank {added.info.rank}" if added.info.rank else "no rank"
    what = f"{origin.title} is a {kind} ({size}) that changes {len(added.changes)} modules of its base."
    return Finetune(fit.suite, added.info, tuple(filter(None, (what, fit.why, *added.changes.extra.get("notes", ())))))


def _fetched(fit: Fit) -> Fit:
    """Fetch what the suite needs; where only the base can be had, what needs none of the rest is done on that."""
    suite = fit.suite
    try:
        suite.fetch(adapters=filter(None, (task.adapter for task in suite.tasks.values())), oracle=True)
    except DitError as error:
        suite.fetch()
        return Fit(generic_suite(str(suite.spec.base)), f"{fit.why} What was trained for it can't be had: {error}")
    return fit


def _check_related(suite: Suite, info: DiffInfo, shares: list[float | None]) -> None:
    """Refuse whole weights that have nothing to do with the base: no finetuning moves them so far."""
    known = [share for share in shares if share is not None]
    if known and median(known) > _UNRELATED:
        suite.forget(info.id)
        raise DitError(
            f"These weights differ from those of the base '{suite.spec.base}' by {100 * median(known):.0f} % of their "
            f"size, so they are no finetune of it: {SAY_BASE}."
        )


def audit_diff(
    suite: Suite,
    diff: str | DiffInfo,
    on_progress: Callable[[int, int, str], None] | None = None,
    layers: Mapping[str, int] | None = None,
) -> Audit:
    """Ask every method about a diff.

    Args:
        suite: the suite that has the diff.
        diff: its id or its info.
        on_progress: called before each part with the parts done, the parts in all and what comes next.
        layers: the oracle's layer for each method of `records.scores`; those that the suite's stored scoreboard
            chose on its calibration diffs by default.

    Raises:
        DitError: there is no such diff, or the base or the diff is missing or damaged.
    """
    return _finished(audit_steps(suite, diff, layers), on_progress)


def audit_steps(
    suite: Suite, diff: str | DiffInfo, layers: Mapping[str, int] | None = None, about: tuple[str, ...] = ()
) -> Generator[Audit, None, None]:
    """Make an audit part by part: yield what there is before each part, which leads `left`, and the whole at last.

    Arguments and errors are those of `audit_diff`; that there is no such diff is raised at once. `about` are sentences
    on where the diff comes from. Closing the iterator stops the work at the next part. A part that can't be had says so
    in `failed`, and the others go on; only without the first, what the diff changes, is there nothing to tell.
    """
    info = suite.diff(diff)
    chosen = chosen_layers(suite) if layers is None else layers
    lacking = () if suite.adapters else (UNTRAINED,)
    left = tuple(part.title for part in PARTS)
    made = settings(suite, info, SEED), code(suite, info)
    return _steps(Audit(suite, info, (*about, *lacking), left, chosen, *made, {}))


def audit_progress(audit: Audit) -> tuple[float, float, str]:
    """Return how much of an audit is done, of how much, by about the time that its parts take, and what comes next."""
    shares = {part.title: part.share for part in PARTS}
    total = sum(shares.values())
    return total - sum(shares[title] for title in audit.left), total, audit.left[0] if audit.left else ""


def _finished(steps: Generator[Audit, None, None], on_progress: Callable[[int, int, str], None] | None) -> Audit:
    for audit in steps:
        if audit.left and on_progress:
            on_progress(len(PARTS) - len(audit.left), len(PARTS), audit.left[0])
    return audit


def _steps(audit: Audit) -> Generator[Audit, None, None]:
    for part in PARTS:
        yield audit
        found: Mapping[str, Any] = {}
        try:
            found = part.find(audit)
        except DitError as error:
            if audit.changes is None:
                raise
            found = {"failed": {**audit.failed, part.title: str(error)}}
        audit = replace(audit, left=audit.left[1:], **found)
    yield audit
