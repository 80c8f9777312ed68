"""The scoreboard's DIT column on the pocket suite's held-out diffs: many diffs to a batch against one at a time.

    python -m benchmarks.scoreboard

Both sides read the diffs from their files, put them on the loaded base, ask each with its task's DIT adapter, greedily
and to the end of its answer, and grade what it says. The loop does so with a diff at a time.
"""

import argparse
from collections.abc import Sequence
from statistics import median

from benchmarks.machine import machine, now
from dit_core import Suite, ask, load_suite
from dit_core.methods.diff_groups import diffs_of_split
from dit_core.records import Finding
from dit_core.scoreboard import DIT, make_verbal_rows
from dit_core.scoreboard.jobs import Agenda, LocalEngine
from dit_core.scoreboard.ledger import Ledger
from dit_core.scoreboard.rows import Row

WANTED = 20.0  # diffs a second on 2 CPU cores


def column(suite: Suite) -> list[Row]:
    """The rows of the scoreboard that ask held-out diffs with their own task's DIT adapter."""
    infos = {task: diffs_of_split(suite, task, "test") for task in suite.tasks}
    return [
        row
        for row in make_verbal_rows(suite, infos)
        if row.key[0] == DIT and row.key[2] == suite.task(row.key[1]).adapter
    ]


def batched(suite: Suite, rows: Sequence[Row]) -> tuple[float, list[Finding]]:
    """Seconds, and what was found."""
    start, ledger, here = now(), Ledger({}), LocalEngine()
    agenda = Agenda(suite, rows, ledger, here.workers)
    for job, found in here.run_jobs(suite, rows, agenda.jobs, lambda job: None):
        agenda.add_result(job, found)
    return now() - start, ledger.findings


def one_by_one(suite: Suite, rows: Sequence[Row], count: int) -> tuple[float, list[str]]:
    """Seconds for the first `count` diffs of every row, and what they say."""
    start, said = now(), []
    for row in rows:
        for info in row.infos[:count]:
            said += [one.text for one in ask(suite, info, condition=row.condition, question=row.questions)]
    return now() - start, said


def measure(suite: Suite, repeats: int, count: int) -> str:
    """The figures as text; `count` diffs of each task are asked one at a time."""
    rows = column(suite)
    first, found = batched(suite, rows)  # the adapters come onto the model here
    seconds = [batched(suite, rows)[0] for _ in range(repeats)]
    alone, said = one_by_one(suite, rows, count)
    together = [one.answers[0] for row in rows for one in found if one.method == DIT and one.task == row.key[1]
                and one.diff in {info.id for info in row.infos[:count]}]  # fmt: skip
    fast, slow = len(found) / median(seconds), len(said) / alone
    equal = sum(a == b for a, b in zip(said, together, strict=True))
    return "\n".join(
        (
            f"{len(found)} diffs, many to a batch: **{fast:.0f} diffs a second**, {len(found) / first:.0f} the first "
            f"time, with adapters to load. Wanted on 2 CPU cores: at least {WANTED:g}.",
            f"One diff at a time ({len(said)} of them): {slow:.1f} diffs a second; the batch is {fast / slow:.1f} "
            f"times as fast. {equal} of {len(said)} texts equal.",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="The scoreboard's DIT column, many diffs to a batch.")
    parser.add_argument("--repeats", type=int, default=5, help="runs; the median counts (default 5)")
    parser.add_argument("--count", type=int, default=16, help="diffs of each task that the loop asks (default 16)")
    options = parser.parse_args()
    suite = load_suite("pocket")
    ask(suite, condition="base", max_new_tokens=1)  # loads the base
    print(f"{machine()}; median of {options.repeats}\n\n{measure(suite, options.repeats, options.count)}")


if __name__ == "__main__":
    main()
