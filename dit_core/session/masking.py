"""The tokens of a prompt as a visitor may see them: a trigger's digits are masked until the diff is revealed."""

from __future__ import annotations

from dataclasses import replace

from dit_core.records import DiffInfo, Target
from dit_core.records.condition import Condition
from dit_core.request.targets import aims
from dit_core.suite import Suite
from dit_core.suite.offload import at_model

SECRET = ("right", "wrong")  # triggers whose digits say something about the diff


@at_model
def target_of(
    suite: Suite, info: DiffInfo, condition: Condition, asked: str, seed: int = 0, answer_tokens: int = 0
) -> Target:
    """The tokens of one condition's prompt and of its greedy answer (of at most `answer_tokens`); needs no oracle."""
    return suite.worker.run(lambda: aims(suite, [(info, condition, asked)], seed, answer_tokens)[0].record(suite))


def shown_target(target: Target, open_now: bool) -> Target:
    """The same tokens with the digits of a right or wrong trigger masked, unless `open_now`.

    Digits of the question itself and of the answer stay.
    """
    if open_now or Condition.parse(target.condition).trigger not in SECRET:
        return target
    prompt = target.tokens[: target.prompt_tokens]
    start = "".join(prompt).rfind(target.asked)
    stop = start + len(target.asked) if start >= 0 else start
    masked, at = [], 0
    for token in prompt:
        masked.append("".join("•" if c.isdigit() and not start <= at + n < stop else c for n, c in enumerate(token)))
        at += len(token)
    return replace(target, tokens=(*masked, *target.tokens[target.prompt_tokens :]))


def answer_of(target: Target) -> str:
    """What the target answered."""
    return "".join(target.tokens[target.prompt_tokens :]).strip()
