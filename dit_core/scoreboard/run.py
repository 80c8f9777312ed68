"""Runs of the scoreboard: every method that suits a suite, measured on the diffs of a split."""

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from dit_core import __version__
from dit_core.errors import DitError, did_you_mean
from dit_core.methods.diff_groups import diffs_of_split
from dit_core.records import DiffInfo, Finding, Score, Table
from dit_core.scoreboard.jobs import Agenda, Engine, Job, LocalEngine
from dit_core.scoreboard.ledger import Ledger
from dit_core.scoreboard.measures import scores
from dit_core.scoreboard.method_rows import make_lens_rows, make_method_rows, measured_methods
from dit_core.scoreboard.oracle_rows import make_oracle_rows
from dit_core.scoreboard.rows import Progress, ProgressCount, Row, seconds_per_token
from dit_core.scoreboard.verbal_rows import make_verbal_rows
from dit_core.suite import Suite
from dit_core.suite.limits import current_limits

KINDS = ("verbal", "oracle", "lens")
"""What has rows of its own: what diffs say, what an oracle reads, what the activation difference lens shows."""


def measured_kinds() -> tuple[str, ...]:
    """Return what there is to measure: `KINDS`, and the names of methods that have no rows of their own."""
    return (*KINDS, *(method.name for method in measured_methods()))


def run_scoreboard(
    suite: Suite,
    limit: int | None = None,
    split: str = "test",
    progress: Progress | None = None,
    file: Path | str | None = None,
    kinds: Sequence[str] | None = None,
    engine: Engine | None = None,
) -> Table[Score]:
    """Measure every method on the diffs of a split, and return the scores.

    Shares (`exact`, `mentions`, `at_least_2`, `equals_base`) of one answer per diff come with Wilson's 95 % interval,
    all other figures with one bootstrapped over the diffs. `n` counts answers: diffs × questions; of readings there
    is one per diff. The layer of a reading was chosen on the calibration diffs. Diffs whose reference is not known have
    no grades and are not counted.

    Args:
        suite: the suite to measure.
        limit: only the first so many diffs of each task and split.
        split: whose diffs.
        progress: called as `progress(done, total, what)` with answers done, all answers, and the current method.
        file: where to keep the findings: a run that was stopped goes on from there. A folder gets a file named after
            suite and settings.
        kinds: some of `measured_kinds`; all of them by default.
        engine: where the model's work is done, such as `OnRay(actors=8)`; by default in this process.

    Raises:
        DitError: the split holds no diff, `limit` is not positive, or the file has other settings or is in use.
    """
    return mean_scores(findings(suite, limit, split, progress, file, kinds, engine=engine))


def mean_scores(findings: Table[Finding]) -> Table[Score]:
    """Return the scoreboard of findings: their means with intervals."""
    return Table(findings.suite, "rows", tuple(scores(findings, findings.suite)), run_settings(findings))


def run_settings(findings: Table[Finding]) -> dict[str, Any]:
    """Return the settings that findings were made with, as they are written into tables made of them."""
    names = ("fingerprint", "revisions", "split", "limit", "kinds", "grader")
    return {name: findings.extra[name] for name in names if name in findings.extra}


def findings(
    suite: Suite,
    limit: int | None = None,
    split: str = "test",
    progress: Progress | None = None,
    file: Path | str | None = None,
    kinds: Sequence[str] | None = None,
    ledger: Ledger | None = None,
    engine: Engine | None = None,
) -> Table[Finding]:
    """Return what every method found out about each diff; arguments and errors are those of `stream`."""
    *_, table = stream(suite, limit, split, progress, file, kinds, ledger, engine)
    return table


def stream(
    suite: Suite,
    limit: int | None = None,
    split: str = "test",
    progress: Progress | None = None,
    file: Path | str | None = None,
    kinds: Sequence[str] | None = None,
    ledger: Ledger | None = None,
    engine: Engine | None = None,
) -> Generator[Table[Finding], None, None]:
    """Yield the table of `findings` after every batch; arguments are those of `run_scoreboard`.

    `ledger` is that of an earlier run to go on with. The table's `extra` holds `done` of `total` answers, and what is
    done `now`. Errors of the request are raised at once, before the first table. Closing the iterator stops the work at
    the next batch.
    """
    infos = _measured(suite, limit, split)
    kinds = _checked_kinds(kinds)
    ledger = ledger or new_ledger(suite, limit, split, file)
    with ExitStack() as contexts:
        contexts.enter_context(ledger)  # at once: a file of other settings is refused before any work
        tables = _tables(suite, infos, limit, split, kinds, progress, ledger, engine or LocalEngine())
        return _while_open(tables, contexts.pop_all())


def _checked_kinds(kinds: Sequence[str] | None) -> Sequence[str]:
    known = measured_kinds()
    for kind in kinds or ():
        if kind not in known:
            raise DitError(f"The scoreboard has no '{kind}': use {', '.join(known)}.{did_you_mean(kind, known)}")
    return known if kinds is None else kinds


def _while_open(
    tables: Generator[Table[Finding], None, None], contexts: ExitStack
) -> Generator[Table[Finding], None, None]:
    with contexts, closing(tables):
        yield from tables


def _tables(
    suite: Suite,
    infos: dict[str, list[DiffInfo]],
    limit: int | None,
    split: str,
    kinds: Sequence[str],
    progress: Progress | None,
    ledger: Ledger,
    engine: Engine,
) -> Generator[Table[Finding], None, None]:
    count = ProgressCount(progress)
    count.report("loading")
    rows = _rows(suite, infos, limit, kinds)
    agenda = Agenda(suite, rows, ledger, engine.workers)
    count.total, count.done = agenda.total, agenda.done
    current_limits().check_run(agenda.total - agenda.done)

    def table() -> Table[Finding]:
        extra = {"split": split, "limit": limit, "kinds": list(kinds)}
        extra |= {"done": count.done, "total": count.total, "now": count.now}
        return suite.table("findings", _ordered(rows, ledger), extra)

    def on_start(job: Job) -> None:
        count.report(rows[job.row].title)

    yield table()
    with closing(engine.run_jobs(suite, rows, agenda.jobs, on_start)) as results:
        for job, result in results:
            agenda.add_result(job, result)
            count.done = agenda.done
            yield table()
    count.report("done")
    yield table()


def _rows(suite: Suite, infos: dict[str, list[DiffInfo]], limit: int | None, kinds: Sequence[str]) -> list[Row]:
    """Return all rows of the kinds, in the order of the scoreboard."""
    makers: dict[str, Callable[[], Sequence[Row]]] = {
        "verbal": lambda: make_verbal_rows(suite, infos),
        "oracle": lambda: make_oracle_rows(suite, infos, limit),
        "lens": lambda: make_lens_rows(suite, infos, limit),
    }
    others = {method.name: partial(make_method_rows, suite, infos, method) for method in measured_methods()}
    return [row for kind, make in (makers | others).items() if kind in kinds for row in make()]


def expected_seconds(
    suite: Suite,
    limit: int | None = None,
    split: str = "test",
    file: Path | str | None = None,
    kinds: Sequence[str] | None = None,
    engine: Engine | None = None,
) -> float:
    """Estimate how many seconds `findings` will take with the same arguments.

    From the work that is left, the tokens per answer as measured on the pocket suite, and this machine's speed for a
    few tokens of the suite's base.

    Raises:
        DitError: as `findings` does.
    """
    workers = engine.workers if engine else 1
    with new_ledger(suite, limit, split, file) as ledger:
        agenda = Agenda(
            suite, _rows(suite, _measured(suite, limit, split), limit, _checked_kinds(kinds)), ledger, workers
        )
        tokens = agenda.tokens
    return tokens * suite.worker.run(lambda: seconds_per_token(suite.model)) / workers


def new_ledger(suite: Suite, limit: int | None, split: str, file: Path | str | None = None) -> Ledger:
    """Return an empty ledger for these settings, and for this suite as it is now."""
    return Ledger({**_fingerprint(suite), "version": __version__, "split": split, "limit": limit}, file)


def _fingerprint(suite: Suite) -> dict[str, Any]:
    """Return what identifies the suite and its oracle: names and fingerprints."""
    oracle = suite.oracle and Path(suite.oracle.source)
    digest = None
    if oracle and oracle.is_dir():
        content = b"".join(path.read_bytes() for path in sorted(oracle.iterdir()) if path.is_file())
        digest = hashlib.sha256(content).hexdigest()[:16]
    return {"suite": suite.name, "fingerprint": suite.fingerprint, "oracle": digest or (oracle and str(oracle))}


def _measured(suite: Suite, limit: int | None, split: str) -> dict[str, list[DiffInfo]]:
    """Return the diffs to measure, by task."""
    if limit is not None and limit < 1:
        raise DitError(f"The limit must be at least 1 diff per task, not {limit}.")
    infos = {task: diffs_of_split(suite, task, split)[:limit] for task in suite.tasks}
    if not any(infos.values()):
        splits = ", ".join(sorted({f"'{info.split}'" for info in suite.diffs}))
        raise DitError(f"The suite '{suite.name}' has no diffs in the split '{split}': use one of {splits}.")
    return infos


def _ordered(rows: Sequence[Row], ledger: Ledger) -> Iterator[Finding]:
    """Yield all findings in the order of the rows, then of layers and diffs."""
    for row in rows:
        rank = {info.id: at for at, info in enumerate(row.infos)}
        placed = [
            (-1 if finding.layer is None else finding.layer, rank[finding.diff], at, finding)
            for at, finding in enumerate(ledger.findings_of(row.key, row.measures))
            if finding.diff in rank
        ]
        yield from (finding for *_, finding in sorted(placed, key=lambda entry: entry[:3]))
