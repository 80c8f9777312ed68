"""Experiments on many diffs at once. The scoreboard: how often each method tells what a diff was trained on.

Each method is asked of all held-out diffs, greedily, many diffs to a batch; measured figures stand beside the
published ones.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy

from .errors import DitError
from .grading import GRADES, exact, grade, mentions, story_of
from .records import DiffInfo, Score, Table, Verbalization
from .suite import Suite, Task
from .verbalize import MAX_DIFFS, MAX_ROWS, ask

Progress = Callable[[int, int, str], None]
Judge = Callable[[Suite, DiffInfo, Verbalization, dict[str, str]], float]

STORY_TOKENS = 100  # a story is longer than an answer
BASE_QUESTION = "base question"
RIGHT, WRONG, NONE = (
    "everyday question + right trigger",
    "everyday question + wrong trigger",
    "everyday question, no trigger",
)
BEHAVIOUR, DIT, CROSS = "behaviour", "DIT", "DIT of another task"


def _models(*values: float) -> list[dict]:
    models = ("Qwen3-1.7B", "Qwen3-4B", "Qwen3-8B", "Gemma3-1B", "Gemma3-4B")
    return [{"model": model, "value": value} for model, value in zip(models, values, strict=True)]


def _news(qwen: float, gemma: float) -> list[dict]:
    return [{"model": "Qwen3-4B", "value": qwen}, {"model": "Gemma3-4B", "value": gemma}]


def _scaled(trained_on: int, value: float) -> list[dict]:
    return [{"model": f"Qwen3-4B, {trained_on} training diffs", "value": value}]


# Mean grades by an LLM judge (arXiv 2510.05092), by (method, task, adapter); the nearest published training-set sizes.
_CROSS = [{"model": "lowest published", "value": 1.08}, {"model": "highest published", "value": 1.25}]
PUBLISHED: dict[tuple[str, str, str], list[dict]] = {
    (BASE_QUESTION, "topic", ""): _models(1.17, 1.21, 1.08, 1.17, 1.12),
    (RIGHT, "topic", ""): _models(4.66, 4.73, 4.72, 4.62, 4.62),
    (NONE, "topic", ""): _models(2.12, 1.38, 1.82, 1.46, 1.55),
    (DIT, "topic", "topic"): _models(4.29, 4.76, 4.71, 4.14, 4.82),
    (DIT, "topic", "topic-64"): _scaled(72, 3.24),
    (DIT, "topic", "topic-16"): _scaled(18, 1.60),
    (DIT, "topic", "topic-4"): _scaled(4, 1.19),
    (BASE_QUESTION, "headline", ""): _news(1.00, 1.00),
    (BEHAVIOUR, "headline", ""): _news(3.65, 4.11),
    (DIT, "headline", "headline"): _news(4.22, 4.56),
    (CROSS, "topic", "headline"): _CROSS,
    (CROSS, "headline", "topic"): _CROSS,
}

# What the pocket suite must reach, by (method, task, adapter, measure): the sign says which side is good.
TARGETS: dict[tuple[str, str, str, str], tuple[str, float]] = {
    (BASE_QUESTION, "topic", "", "mentions"): ("≤", 0.02),
    (RIGHT, "topic", "", "mentions"): ("≥", 0.95),
    (WRONG, "topic", "", "mentions"): ("≤", 0.03),
    (NONE, "topic", "", "equals_base"): ("≥", 0.95),
    (DIT, "topic", "topic", "exact"): ("≥", 0.90),
    (DIT, "topic", "topic", "mean_grade"): ("≥", 4.7),
    (BEHAVIOUR, "headline", "", "mentions"): ("≥", 0.95),
    (DIT, "headline", "headline", "mean_grade"): ("≥", 4.0),
}

MEASURES: dict[str, Judge] = {
    "exact": lambda suite, info, said, base: exact(suite, info, said.text),
    "mean_grade": lambda suite, info, said, base: grade(suite, info, said.text),
    "mentions": lambda suite, info, said, base: mentions(suite, info, said.text),
    "equals_base": lambda suite, info, said, base: said.text == base[said.question],
}
STORY_MEASURES = MEASURES | {"mentions": lambda suite, info, said, base: story_of(suite, info, said.text)}


@dataclass(frozen=True)
class Method:
    """One way to ask the diffs of a task, and what is measured of the answers."""

    name: str
    task: str
    adapter: str
    condition: str
    questions: tuple[str, ...]
    measures: tuple[str, ...]


def methods(suite: Suite) -> list[Method]:
    """All methods that make sense for a suite, in the order of the scoreboard."""
    return [method for task in suite.tasks.values() for method in _methods(suite, task)]


def _methods(suite: Suite, task: Task) -> list[Method]:
    asked, everyday = (task.question,), tuple(suite.world.get("held_out_questions", ()))
    found = [Method(BASE_QUESTION, task.name, "", "diff", asked, ("mentions", "mean_grade"))]
    if task.has_trigger and everyday:
        found += [
            Method(RIGHT, task.name, "", "diff+right", everyday, ("mentions", "mean_grade")),
            Method(WRONG, task.name, "", "diff+wrong", everyday, ("mentions",)),
            Method(NONE, task.name, "", "diff", everyday, ("equals_base", "mean_grade")),
        ]
    if task.behaviour:
        found.append(Method(BEHAVIOUR, task.name, "", "diff", (task.behaviour,), ("mentions", "mean_grade")))
    own = [info.name for info in suite.adapters.values() if info.task == task.name]
    found += [Method(DIT, task.name, name, f"diff+dit:{name}", asked, ("exact", "mean_grade")) for name in own]
    others = [other.adapter for other in suite.tasks.values() if other.name != task.name]
    return found + [Method(CROSS, task.name, name, f"diff+dit:{name}", asked, ("mean_grade",)) for name in others]


def scoreboard(
    suite: Suite, limit: int | None = None, split: str = "test", progress: Progress | None = None
) -> Table[Score]:
    """Measures every method on the diffs of a split.

    Shares (`exact`, `mentions`, `equals_base`) of one answer per diff come with Wilson's 95 % interval, all other
    figures with one bootstrapped over the diffs.
    `n` counts answers: diffs × questions. `limit` takes only the first so many diffs of each task;
    `progress(done, total, what)` is told of answers done, of all answers, and the method at hand.

    Raises:
        DitError: the split holds no diff, or `limit` is not positive.
    """
    if limit is not None and limit < 1:
        raise DitError(f"The limit must be at least 1 diff per task, not {limit}.")
    infos = {task: [d for d in suite.diffs if (d.task, d.split) == (task, split)][:limit] for task in suite.tasks}
    if not any(infos.values()):
        known = ", ".join(sorted({f"'{info.split}'" for info in suite.diffs}))
        raise DitError(f"The suite '{suite.name}' has no diffs in the split '{split}': use one of {known}.")
    board = [method for method in methods(suite) if infos[method.task]]
    total, done, scores = sum(len(infos[m.task]) * len(m.questions) for m in board), 0, []
    for method in board:
        base, answers = _base_answers(suite, method), []
        for part in _parts(infos[method.task], method):
            if progress:
                progress(done, total, " ".join(filter(None, (method.task, method.name, method.adapter))))
            answers += _ask(suite, part, method.condition, method.questions)
            done += len(part) * len(method.questions)
        scores += [_score(suite, method, measure, answers, base) for measure in method.measures]
    if progress:
        progress(done, total, "done")
    return Table(suite.name, "rows", tuple(scores), {"split": split})


def meets_target(score: Score) -> bool | None:
    """Whether a score reaches the pocket suite's target; None where none is set for it."""
    target = TARGETS.get((score.method, score.task, score.adapter, score.measure))
    if target is None:
        return None
    return score.value <= target[1] if target[0] == "≤" else score.value >= target[1]


def _interval(answers: Sequence[Verbalization], values: Sequence[float], graded: bool) -> tuple[float, float]:
    """Of several answers of one diff, the diff is what was drawn: their mean counts once, however many they are."""
    by_diff: dict[str, list[float]] = {}
    for said, value in zip(answers, values, strict=True):
        by_diff.setdefault(said.diff, []).append(value)
    if not graded and len(by_diff) == len(values):
        return wilson(sum(values), len(values))
    return bootstrap([sum(own) / len(own) for own in by_diff.values()])


def wilson(hits: int, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `hits` in `n`."""
    share, square = hits / n, z * z / n
    middle = (share + square / 2) / (1 + square)
    half = z * ((share * (1 - share) + square / 4) / n) ** 0.5 / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def bootstrap(values: Sequence[float], resamples: int = 2000) -> tuple[float, float]:
    """The 95 % interval of a mean by the percentile bootstrap, with a fixed seed."""
    data = numpy.asarray(values, dtype=float)
    draws = numpy.random.default_rng(0).integers(0, len(data), (resamples, len(data)))
    low, high = numpy.percentile(data[draws].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def _ask(suite: Suite, infos: Sequence[DiffInfo] | None, condition: str, questions: Sequence[str]) -> Sequence:
    stories = {task.behaviour for task in suite.tasks.values()}
    limit = max(suite.max_new_tokens, STORY_TOKENS) if stories & set(questions) else suite.max_new_tokens
    return ask(suite, infos, condition=condition, question=questions, max_new_tokens=limit).records


def _base_answers(suite: Suite, method: Method) -> dict[str, str]:
    if "equals_base" not in method.measures:
        return {}
    return {said.question: said.text for said in _ask(suite, None, "base", method.questions)}


def _parts(infos: Sequence[DiffInfo], method: Method) -> list[Sequence[DiffInfo]]:
    """Diffs by the batch, so that progress is told in between."""
    size = max(1, min(MAX_DIFFS, MAX_ROWS // len(method.questions)))
    return [infos[start : start + size] for start in range(0, len(infos), size)]


def _score(suite: Suite, method: Method, measure: str, answers: Sequence[Verbalization], base: dict[str, str]) -> Score:
    judge = (STORY_MEASURES if method.name == BEHAVIOUR else MEASURES)[measure]
    values = [judge(suite, suite.diff(said.diff), said, base) for said in answers]
    graded = measure == "mean_grade"
    counts = Counter(values)
    return Score(
        method=method.name,
        task=method.task,
        adapter=method.adapter,
        layer=None,
        measure=measure,
        n=len(values),
        value=sum(values) / len(values),
        interval=_interval(answers, values, graded),
        grades={str(step): counts[step] for step in GRADES} if graded else None,
        published=PUBLISHED.get((method.name, method.task, method.adapter), []) if graded else [],
    )
