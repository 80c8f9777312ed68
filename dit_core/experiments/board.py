"""The scoreboard: every method that makes sense for a suite, measured on the diffs of a split."""

from dit_core.errors import DitError
from dit_core.experiments.groups import of_split
from dit_core.experiments.oracle_rows import task_rows
from dit_core.experiments.progress import Progress, Tally
from dit_core.experiments.verbal_rows import methods
from dit_core.records import Score, Table
from dit_core.suite import Suite


def scoreboard(
    suite: Suite, limit: int | None = None, split: str = "test", progress: Progress | None = None
) -> Table[Score]:
    """Measures every method on the diffs of a split.

    Shares (`exact`, `mentions`, `at_least_2`, `equals_base`) of one answer per diff come with Wilson's 95 % interval,
    all other figures with one bootstrapped over the diffs. `n` counts answers: diffs × questions; of readings there
    is one per diff. The layer that a reading comes from was chosen on the calibration diffs. `limit` takes only the
    first so many diffs of each task and split; `progress(done, total, what)` is told of answers done, of all answers,
    and the method at hand.

    Raises:
        DitError: the split holds no diff, or `limit` is not positive.
    """
    if limit is not None and limit < 1:
        raise DitError(f"The limit must be at least 1 diff per task, not {limit}.")
    infos = {task: of_split(suite, task, split)[:limit] for task in suite.tasks}
    if not any(infos.values()):
        known = ", ".join(sorted({f"'{info.split}'" for info in suite.diffs}))
        raise DitError(f"The suite '{suite.name}' has no diffs in the split '{split}': use one of {known}.")
    asked = [(method, infos[method.task]) for method in methods(suite) if infos[method.task]]
    read = task_rows(suite, infos, limit)
    tally = Tally(progress, sum(method.answers(own) for method, own in asked) + sum(one.answers for one in read))
    scores = [score for method, own in asked for score in method.scores(suite, own, tally)]
    scores += [score for one in read for score in one.scores(tally)]
    tally.at("done")
    return Table(suite.name, "rows", tuple(scores), {"split": split})
