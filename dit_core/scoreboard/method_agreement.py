"""Agreement of methods: which method named which diff, whether their errors correlate, and what a vote would gain.

A method named a diff where its answer has a grade of 4 or 5. Only methods with one graded answer per diff are
compared; several answers count through the guess made from them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from dit_core.grading import Grader, suite_grader, words
from dit_core.grading.rules import MAX_NAMED_TOPICS, world_of
from dit_core.records import Agreement, Finding, NamedDiffs, Table
from dit_core.records.scores import (
    ADL,
    BASE_QUESTION,
    BASE_TRIGGER,
    BEHAVIOUR,
    DIT,
    GUESS,
    GUESS_RIGHT,
    SILENT_DIFF,
    SILENT_DIT,
    SILENT_TRIGGER,
    WHOLE_ANSWER,
)
from dit_core.scoreboard.ledger import Key, key_of
from dit_core.scoreboard.measures import GRADED
from dit_core.stats import phi_correlation
from dit_core.suite import Suite

MIN_NAMED_GRADE = 4  # the lowest grade of an answer that names what a diff was trained on
# Methods that vote, and whether they need the secret trigger. A tie goes to the earlier one.
VOTERS = {
    DIT: False,
    SILENT_DIT: False,
    GUESS: False,
    BASE_QUESTION: False,
    SILENT_DIFF: False,
    ADL: False,
    BEHAVIOUR: False,
    GUESS_RIGHT: True,
    BASE_TRIGGER: True,
    WHOLE_ANSWER: True,
    SILENT_TRIGGER: True,
}
WITHOUT, WITH = "without the trigger", "with the trigger too"


def named_diffs(findings: Iterable[Finding]) -> list[NamedDiffs]:
    """Return the methods with one graded answer per diff, in the order of the findings."""
    methods: dict[Key, NamedDiffs] = {}
    for finding in findings:
        (grade, *more) = finding.values.get(GRADED, ()) or (None,)
        if grade is not None and not more and len(finding.answers) == 1:
            method = methods.setdefault(key_of(finding), NamedDiffs(key_of(finding), {}, {}))
            method.by_diff[finding.diff], method.answers[finding.diff] = grade >= MIN_NAMED_GRADE, finding.answers[0]
    return list(methods.values())


def agreement(suite: Suite, findings: Table[Finding], grader: Grader | None = None) -> Table[Agreement]:
    """Return how the voting methods of each task agree, pair by pair.

    `grader` (by default `suite_grader`) grades their votes. `extra["votes"]` holds, per task, without the trigger and
    with it: the number of diffs `n`, the `methods`, how many diffs the `best` of them (in hindsight) named, how many
    their `vote` named, and how many none named (`all_wrong`).

    Raises:
        DitError: the grader can't grade, see `Grader.grade_all`.
    """
    records, votes, grader = [], [], grader or suite_grader(suite)
    for task in suite.tasks.values():
        named = [method for method in named_diffs(findings) if method.key[1] == task.name]
        voting = [method for method in named if _votes(method, task.adapter)]
        records += [_agreement(task.name, *pair) for pair in combinations(voting, 2)]
        without_trigger = [method for method in voting if not VOTERS[method.key[0]]]
        for who, methods in ((WITHOUT, without_trigger), (WITH, voting)):
            if len(methods) > 1 and (who == WITHOUT or len(methods) > len(without_trigger)):
                votes.append({"task": task.name, "who": who, **_vote(suite, methods, grader)})
    return suite.table("agreement", records, {"split": findings.extra["split"], "votes": votes})


def _votes(named: NamedDiffs, default_adapter: str) -> bool:
    method, _, adapter = named.key
    return method in VOTERS and (method != DIT or adapter == default_adapter)


def _agreement(task: str, first: NamedDiffs, second: NamedDiffs) -> Agreement:
    shared = [diff for diff in first.by_diff if diff in second.by_diff]
    counts = Counter((first.by_diff[diff], second.by_diff[diff]) for diff in shared)
    cells = counts[True, True], counts[True, False], counts[False, True], counts[False, False]
    return Agreement(task, first.title, second.title, len(shared), *cells, phi_correlation(*cells))


def _vote(suite: Suite, methods: Sequence[NamedDiffs], grader: Grader) -> dict[str, Any]:
    """Return how many diffs the best method, the vote of all and none of them named, of those that any answered."""
    diffs = list(dict.fromkeys(diff for method in methods for diff in method.by_diff))
    best = max(methods, key=lambda method: sum(method.by_diff.values()))
    ordered = sorted(methods, key=lambda method: list(VOTERS).index(method.key[0]))
    answers = {diff: [method.answers[diff] for method in ordered if diff in method.answers] for diff in diffs}
    pairs = [(suite.diff(diff).reference, vote_winner(suite, ordered[0].key[1], answers[diff])) for diff in diffs]
    return {
        "n": len(diffs),
        "methods": [method.title for method in methods],
        "best": best.title,
        "best_named": sum(best.by_diff.values()),
        "vote_named": sum(result is not None and result.grade >= MIN_NAMED_GRADE for result in grader.grade_all(pairs)),
        "all_wrong": sum(not any(method.by_diff.get(diff) for method in methods) for diff in diffs),
    }


def vote_winner(suite: Suite, task: str, answers: Sequence[str]) -> str:
    """Return the choice with the most votes, "" where nobody votes; of equal choices the first one.

    In a suite's world, an answer votes for the topics that it names, if they are few, or for the headlines that it
    tells. Without a world it votes for its own words.
    """
    votes: dict[str, float] = {}
    for answer in answers:
        choices = _choices(suite, task, answer)
        for choice in choices:
            votes[choice] = votes.get(choice, 0) + 1 / len(choices)
    return max(votes, key=lambda choice: votes[choice], default="")


def _choices(suite: Suite, task: str, answer: str) -> list[str]:
    world = world_of(suite)
    references = {info.reference for info in suite.diffs if info.task == task}
    if references & set(world.headlines):
        return [headline for headline in world.headlines if world.tells_story(headline, answer)]
    if references & set(world.topics):
        topics = sorted(world.topics_in(answer))
        return topics if len(topics) <= MAX_NAMED_TOPICS else []
    return list(filter(None, [" ".join(words(answer))]))
