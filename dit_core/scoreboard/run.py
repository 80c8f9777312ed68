"""The scoreboard: every method that makes sense for a suite, measured on the diffs of a split."""

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from dit_core import __version__
from dit_core.errors import DitError, did_you_mean
from dit_core.grading import grade
from dit_core.methods.diff_groups import diffs_of_split, with_reference
from dit_core.methods.lens import difference_lens
from dit_core.records import DiffInfo, Finding, LensToken, Score, Table
from dit_core.records.scores import ADL
from dit_core.scoreboard.jobs import Agenda, Engine, Job, LocalEngine
from dit_core.scoreboard.ledger import Key, Ledger
from dit_core.scoreboard.measures import measure_answer, scores
from dit_core.scoreboard.oracle_rows import make_oracle_rows
from dit_core.scoreboard.rows import Progress, ProgressCount, Row, seconds_per_token
from dit_core.scoreboard.verbal_rows import make_verbal_rows
from dit_core.suite import Suite
from dit_core.suite.limits import current_limits

KINDS = ("verbal", "oracle", "lens")
"""What there is to measure: what diffs say, what an oracle reads, what the activation difference lens shows."""


def run_scoreboard(
    suite: Suite,
    limit: int | None = None,
    split: str = "test",
    progress: Progress | None = None,
    file: Path | str | None = None,
    kinds: Sequence[str] = KINDS,
    engine: Engine | None = None,
) -> Table[Score]:
    """Measures every method on the diffs of a split.

    Shares (`exact`, `mentions`, `at_least_2`, `equals_base`) of one answer per diff come with Wilson's 95 % interval,
    all other figures with one bootstrapped over the diffs. `n` counts answers: diffs × questions; of readings there
    is one per diff. The layer that a reading comes from was chosen on the calibration diffs. Diffs whose reference is
    not known have no grades, and count in none.

    Args:
        limit: only the first so many diffs of each task and split.
        split: whose diffs.
        progress: `progress(done, total, what)` is told of answers done, of all answers, and the method at hand.
        file: where to keep what is found, diff by diff: a run that was stopped goes on from there. A folder gets a
            file named after suite and settings.
        kinds: some of `KINDS`.
        engine: where the model's work is done, such as `OnRay(actors=8)`; in this process without it.

    Raises:
        DitError: the split holds no diff, `limit` is not positive, or the file is of other settings or in use.
    """
    return mean_scores(findings(suite, limit, split, progress, file, kinds, engine=engine))


def mean_scores(found: Table[Finding]) -> Table[Score]:
    """The scoreboard of findings: their means with intervals."""
    return Table(found.suite, "rows", tuple(scores(found)), run_settings(found))


def run_settings(found: Table[Finding]) -> dict[str, Any]:
    """What it takes to come to the same findings again, as tables made of them say it."""
    names = ("fingerprint", "revisions", "split", "limit", "kinds", "grader")
    return {name: found.extra[name] for name in names if name in found.extra}


def findings(
    suite: Suite,
    limit: int | None = None,
    split: str = "test",
    progress: Progress | None = None,
    file: Path | str | None = None,
    kinds: Sequence[str] = KINDS,
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
    kinds: Sequence[str] = KINDS,
    ledger: Ledger | None = None,
    engine: Engine | None = None,
) -> Generator[Table[Finding], None, None]:
    """As `findings`, but yields the table so far after every batch; `ledger` is that of an earlier run to go on with.

    The table's `extra` holds `done` of `total` answers, and what is being done `now`. What can be wrong with the
    request is found at once; closing the iterator stops the work at the next batch.
    """
    infos = _measured(suite, limit, split)
    for kind in kinds:
        if kind not in KINDS:
            raise DitError(f"The scoreboard has no '{kind}': use {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}")
    ledger = ledger or new_ledger(suite, limit, split, file)
    with ExitStack() as opened:
        opened.enter_context(ledger)  # at once, so that a file which does not fit is refused before any work
        tables = _tables(suite, infos, limit, split, kinds, progress, ledger, engine or LocalEngine())
        return _while_open(tables, opened.pop_all())


def _while_open(
    tables: Generator[Table[Finding], None, None], opened: ExitStack
) -> Generator[Table[Finding], None, None]:
    with opened, closing(tables):
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
    tally = ProgressCount(progress)
    tally.at("loading")
    rows = _rows(suite, infos, limit, kinds)
    agenda = Agenda(suite, rows, ledger, engine.workers)
    tally.total, tally.done = agenda.total, agenda.done
    current_limits().check_run(agenda.total - agenda.done)

    def table() -> Table[Finding]:
        extra = {"split": split, "limit": limit, "kinds": list(kinds)}
        extra |= {"done": tally.done, "total": tally.total, "now": tally.now}
        return suite.table("findings", _ordered(rows, ledger), extra)

    def on_start(job: Job) -> None:
        tally.at(rows[job.row].title)

    yield table()
    with closing(engine.run_jobs(suite, rows, agenda.jobs, on_start)) as work:
        for job, found in work:
            agenda.add_result(job, found)
            tally.done = agenda.done
            yield table()
    tally.at("done")
    yield table()


def _rows(suite: Suite, infos: dict[str, list[DiffInfo]], limit: int | None, kinds: Sequence[str]) -> list[Row]:
    """All rows of the kinds, in the order of the scoreboard."""
    made: dict[str, Callable[[], list[Row]]] = {
        "verbal": lambda: make_verbal_rows(suite, infos),
        "oracle": lambda: make_oracle_rows(suite, infos, limit),
        "lens": lambda: make_lens_rows(suite, infos, limit),
    }
    return [row for kind in KINDS if kind in kinds for row in made[kind]()]


def expected_seconds(
    suite: Suite,
    limit: int | None = None,
    split: str = "test",
    file: Path | str | None = None,
    kinds: Sequence[str] = KINDS,
    engine: Engine | None = None,
) -> float:
    """Estimate how long `findings` will take with the same arguments.

    From what is left to do, the work of an answer of each kind as measured on the pocket suite, and how fast this
    machine says a few tokens with the suite's base. Raises DitError as `findings` does.
    """
    workers = engine.workers if engine else 1
    with new_ledger(suite, limit, split, file) as ledger:
        agenda = Agenda(suite, _rows(suite, _measured(suite, limit, split), limit, kinds), ledger, workers)
        tokens = agenda.tokens
    return tokens * suite.worker.run(lambda: seconds_per_token(suite.model)) / workers


def new_ledger(suite: Suite, limit: int | None, split: str, file: Path | str | None = None) -> Ledger:
    """An empty ledger for these settings, and for this suite as it is now."""
    return Ledger({**_fingerprint(suite), "version": __version__, "split": split, "limit": limit}, file)


def _fingerprint(suite: Suite) -> dict[str, Any]:
    """The suite, by name and content, and its oracle."""
    oracle = suite.oracle and Path(suite.oracle.source)
    digest = None
    if oracle and oracle.is_dir():
        content = b"".join(path.read_bytes() for path in sorted(oracle.iterdir()) if path.is_file())
        digest = hashlib.sha256(content).hexdigest()[:16]
    return {"suite": suite.name, "fingerprint": suite.fingerprint, "oracle": digest or (oracle and str(oracle))}


def _measured(suite: Suite, limit: int | None, split: str) -> dict[str, list[DiffInfo]]:
    """The diffs to measure, by task."""
    if limit is not None and limit < 1:
        raise DitError(f"The limit must be at least 1 diff per task, not {limit}.")
    infos = {task: diffs_of_split(suite, task, split)[:limit] for task in suite.tasks}
    if not any(infos.values()):
        known = ", ".join(sorted({f"'{info.split}'" for info in suite.diffs}))
        raise DitError(f"The suite '{suite.name}' has no diffs in the split '{split}': use one of {known}.")
    return infos


def _ordered(rows: Sequence[Row], ledger: Ledger) -> Iterator[Finding]:
    """All findings in the order of the rows, then of layers and diffs, whenever they were made."""
    for row in rows:
        rank = {info.id: at for at, info in enumerate(row.infos)}
        own = [
            (-1 if finding.layer is None else finding.layer, rank[finding.diff], at, finding)
            for at, finding in enumerate(ledger.findings_of(row.key, row.measures))
            if finding.diff in rank
        ]
        yield from (finding for *_, finding in sorted(own, key=lambda placed: placed[:3]))


TOP = 5  # tokens that are its answer
AT_ONCE = 16  # diffs: each takes two passes over the texts
Place = tuple[str, int, int]  # method, layer, position
DiffPlace = tuple[str, str, int, int]  # diff, method, layer, position


@dataclass(frozen=True)
class LensRow(Row):
    """The likeliest tokens in each diff's mean activation difference, at one place."""

    task: str
    infos: Sequence[DiffInfo]
    calibration: Sequence[DiffInfo]
    measures = ("mentions", "mean_grade")
    batch_size = AT_ONCE
    tokens = 290

    @property
    def key(self) -> Key:
        return ADL, self.task, ""

    @property
    def choice_answers(self) -> int:
        return len(self.calibration)

    def find(self, suite: Suite, infos: Sequence[DiffInfo], choice: dict[str, Any]) -> list[Finding]:
        """Looks at the place that was chosen."""
        found = difference_lens(suite, infos, layers=choice["layer"], methods=choice["method"], top=TOP)
        said = _texts(one for one in found if one.position == choice["position"])
        return [self._finding(suite, info, choice, said) for info in infos]

    def choose(self, suite: Suite) -> dict[str, Any]:
        """The place with the best mean grade; of equals the first one."""
        method, layer, position = best_place(suite, difference_lens(suite, self.calibration, top=TOP))
        return {"method": method, "layer": layer, "position": position}

    def _finding(self, suite: Suite, info: DiffInfo, place: dict[str, Any], said: dict[DiffPlace, str]) -> Finding:
        answer = said.get((info.id, place["method"], place["layer"], place["position"]), "")
        return Finding(
            *self.key, place["layer"], info.id, (answer,), measure_answer(suite, info, self.measures, answer)
        )


def make_lens_rows(suite: Suite, infos: dict[str, list[DiffInfo]], limit: int | None) -> list[Row]:
    """A row of each task that has calibration diffs to choose the place on."""
    calibration = {task: with_reference(diffs_of_split(suite, task, "calibration")[:limit]) for task in suite.tasks}
    return [LensRow(task, own, calibration[task]) for task, own in infos.items() if own and calibration[task]]


def best_place(suite: Suite, tokens: Iterable[LensToken]) -> Place:
    """Return where the tokens of diffs with a known reference have the best mean grade; of equals the first place.

    The mean is over the diffs that have tokens at a place: being shown of more diffs makes no place better.
    """
    grades: dict[Place, list[float]] = {}
    for (diff, method, layer, position), answer in _texts(tokens).items():
        grades.setdefault((method, layer, position), []).append(grade(suite, suite.diff(diff), answer) or 0)
    return max(grades, key=lambda place: fmean(grades[place]))


def _texts(tokens: Iterable[LensToken]) -> dict[DiffPlace, str]:
    """The tokens of each diff and place as one text, the likeliest first."""
    found: dict[DiffPlace, list[str]] = {}
    for token in tokens:
        found.setdefault((token.diff, token.method, token.layer, token.position), []).append(token.token.strip())
    return {place: " ".join(own) for place, own in found.items()}
