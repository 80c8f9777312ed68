"""Do methods fail together? Which of them named which diff, how their errors go together, what a vote of them gains.

A method has named a diff where its answer has a grade of 4 or 5. Only methods that give one graded answer per diff are
compared; several answers count through the guess that was made from them.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

from dit_core.grading import Grader, words
from dit_core.grading.rules import MAX_NAMED_TOPICS, Rules, world_of
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

NAMED = 4  # the lowest grade of an answer that names what a diff was trained on
# In the order in which a vote that ends level trusts them; whether the secret trigger is needed.
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
    """The methods that give one graded answer per diff, in the order in which they come up."""
    found: dict[Key, NamedDiffs] = {}
    for one in findings:
        (grade, *more) = one.values.get(GRADED, ()) or (None,)
        if grade is not None and not more and len(one.answers) == 1:
            method = found.setdefault(key_of(one), NamedDiffs(key_of(one), {}, {}))
            method.by_diff[one.diff], method.answers[one.diff] = grade >= NAMED, one.answers[0]
    return list(found.values())


def agreement(suite: Suite, findings: Table[Finding], grader: Grader | None = None) -> Table[Agreement]:
    """How the voting methods of each task agree, pair by pair; `grader` (by default the rules) grades their votes.

    `extra["votes"]` holds, per task, without the trigger and with it: the number of diffs `n`, the `methods`, how many
    diffs the `best` of them (in hindsight) named, how many their `vote` named, and how many `all_wrong`: named by none.
    """
    records, votes, grader = [], [], grader or Rules(world_of(suite))
    for task in suite.tasks.values():
        voting = [one for one in named_diffs(findings) if one.key[1] == task.name and _votes(one, task.adapter)]
        records += [_agreement(task.name, *pair) for pair in combinations(voting, 2)]
        open_ones = [one for one in voting if not VOTERS[one.key[0]]]
        for who, own in ((WITHOUT, open_ones), (WITH, voting)):
            if len(own) > 1 and (who == WITHOUT or len(own) > len(open_ones)):
                votes.append({"task": task.name, "who": who, **_vote(suite, own, grader)})
    return suite.table("agreement", records, {"split": findings.extra["split"], "votes": votes})


def _votes(one: NamedDiffs, default_adapter: str) -> bool:
    method, _, adapter = one.key
    return method in VOTERS and (method != DIT or adapter == default_adapter)


def _agreement(task: str, first: NamedDiffs, second: NamedDiffs) -> Agreement:
    shared = [diff for diff in first.by_diff if diff in second.by_diff]
    counts = Counter((first.by_diff[diff], second.by_diff[diff]) for diff in shared)
    cells = counts[True, True], counts[True, False], counts[False, True], counts[False, False]
    return Agreement(task, first.title, second.title, len(shared), *cells, phi_correlation(*cells))


def _vote(suite: Suite, methods: Sequence[NamedDiffs], grader: Grader) -> dict[str, Any]:
    """What the best of the methods, their vote, and none of them named, on the diffs that any of them answered."""
    diffs = list(dict.fromkeys(diff for method in methods for diff in method.by_diff))
    best = max(methods, key=lambda method: sum(method.by_diff.values()))
    ordered = sorted(methods, key=lambda method: list(VOTERS).index(method.key[0]))
    said = {diff: [method.answers[diff] for method in ordered if diff in method.answers] for diff in diffs}
    pairs = [(suite.diff(diff).reference, vote_winner(suite, ordered[0].key[1], said[diff])) for diff in diffs]
    return {
        "n": len(diffs),
        "methods": [method.title for method in methods],
        "best": best.title,
        "best_named": sum(best.by_diff.values()),
        "vote_named": sum(mark is not None and mark.grade >= NAMED for mark in grader.grade_all(pairs)),
        "all_wrong": sum(not any(method.by_diff.get(diff) for method in methods) for diff in diffs),
    }


def vote_winner(suite: Suite, task: str, answers: Sequence[str]) -> str:
    """The choice with the most votes, "" where none votes; of equals the one that comes first.

    In a suite's world an answer votes for the topics that it names, if they are few, or for the headlines that it
    tells, and for nothing where there are none; without a world it votes for its own words.
    """
    votes: dict[str, float] = {}
    for answer in answers:
        found = _choices(suite, task, answer)
        for choice in found:
            votes[choice] = votes.get(choice, 0) + 1 / len(found)
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
