"""Texts are as likely behind a prompt as a plain loop over their tokens says."""

from contextlib import contextmanager

import pytest
import torch

from dit_core.engine.generation import generate
from dit_core.engine.likelihood import choice_log_probabilities, continuation_log_probabilities
from dit_core.engine.model import Model
from dit_core.errors import DitError
from tests.merged import merged, position_hooks
from tests.tiny import FAMILIES, random_adapter, tiny_model

PROMPTS = [[5, 9, 31, 77], [8, 5, 9, 31, 77, 200, 11], [44, 45]]
CHOICES = [[[3, 4, 5], [77]], [[9]], [[9, 200, 31, 44, 300], [7, 7], [3, 4, 5]]]
STRENGTHS = {"diff": torch.tensor([0.0, 1.0, -1.0])[:, None, None]}


def make(family="qwen3"):
    model = Model(tiny_model(family))
    diff = random_adapter(model.base, 1, seed=1)
    model.attach("diff", diff)
    return model, diff


@torch.inference_mode()
def slowly(base, prompt, said):
    """One forward pass per token, without a cache."""
    logits = (
        base(input_ids=torch.tensor([prompt + said[:at]]), use_cache=False).logits[0, -1] for at in range(len(said))
    )
    return [float(one.log_softmax(-1)[token]) for one, token in zip(logits, said, strict=True)]


def assert_near(found, wanted):
    assert len(found) == len(wanted)
    for row, own in zip(found, wanted, strict=True):
        assert len(row) == len(own) and all(a == pytest.approx(b, abs=1e-4) for a, b in zip(row, own, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_log_probabilities_are_those_of_a_plain_loop(family):
    model, diff = make(family)
    bases = [merged(family, [(float(strength), diff)]) for strength in STRENGTHS["diff"].flatten()]
    rows = list(zip(bases, PROMPTS, CHOICES, strict=True))
    wanted = [[slowly(base, prompt, said) for said in own] for base, prompt, own in rows]
    assert_near(choice_log_probabilities(model, PROMPTS, CHOICES, STRENGTHS), wanted)
    firsts = [[said[:1] for said in own] for own in CHOICES]
    assert_near(
        choice_log_probabilities(model, PROMPTS, firsts, STRENGTHS), [[own[:1] for own in row] for row in wanted]
    )


def test_what_was_said_is_as_likely_as_it_was_when_it_was_written():
    model, _ = make()
    steps = list(generate(model, PROMPTS, STRENGTHS, 4, stop_at_end=False))
    said = [[[step.tokens[row] for step in steps]] for row in range(3)]
    wanted = [[[float(torch.tensor(step.probabilities[row]).log()) for step in steps]] for row in range(3)]
    assert_near(choice_log_probabilities(model, PROMPTS, said, STRENGTHS), wanted)


def test_strengths_by_position_go_on_behind_the_prompt():
    model, diff = make("gemma3")
    strengths = 2 * torch.rand(3, 9, 1, generator=torch.Generator().manual_seed(3))
    found = choice_log_probabilities(model, PROMPTS, CHOICES, {"diff": strengths})
    for prompt, own, mine, strength in zip(PROMPTS, CHOICES, found, strengths[..., 0], strict=True):
        going = torch.cat([strength[7 - len(prompt) :], strength[-1:].expand(9)])
        with position_hooks(tiny_model("gemma3"), [(going, diff)]) as base:
            assert_near([mine], [[slowly(base, prompt, said) for said in own]])


def test_generating_goes_on_as_if_nothing_had_been_scored():
    model, _ = make("gemma3")
    found = []

    def score(batch, logits):
        found.extend(
            continuation_log_probabilities(batch.copy(5), logits, [[], *CHOICES[1:]], model.strengths(STRENGTHS))
        )

    steps = generate(model, PROMPTS, STRENGTHS, 9, after_prefill=score)
    plain = generate(model, PROMPTS, STRENGTHS, 9)
    assert list(steps) == list(plain)
    wanted = choice_log_probabilities(model, PROMPTS, CHOICES, STRENGTHS)
    assert found[0] == []
    assert_near(found[1:], wanted[1:])


def test_the_prefill_context_is_open_while_the_prompts_are_read_and_closed_whatever_happens():
    model, _ = make()
    rest = model.base(torch.tensor([PROMPTS[0]])).logits
    seen, opened = [], []

    @contextmanager
    def prefill():
        opened.append(True)
        try:
            yield
        finally:
            opened.pop()

    handle = model.layers[0].register_forward_hook(
        lambda _m, inputs, _o: seen.append((*inputs[0].shape[:2], len(opened)))
    )
    choice_log_probabilities(model, PROMPTS, CHOICES, STRENGTHS, prefill=prefill())
    handle.remove()
    # The prompts once, and all that is longer than a token behind them at once.
    assert seen == [(3, 7, 1), (4, 4, 0)]

    def fail(*_):
        raise MemoryError

    handle = model.layers[1].register_forward_hook(fail)
    with pytest.raises(MemoryError):
        choice_log_probabilities(model, PROMPTS, CHOICES, STRENGTHS, prefill=prefill())
    handle.remove()
    assert not opened and torch.equal(model.base(torch.tensor([PROMPTS[0]])).logits, rest)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": [[[3]], [[]], [[4]]]}, "An empty text has no probability"),
        ({"choices": [[[3]], [], [[4]]]}, "An empty text has no probability"),
        ({"prompts": [[3], [], [4]]}, "at least one token"),
        ({"prompts": [], "choices": []}, "at least one token"),
        ({"strengths": {"diff": torch.ones(1, 1, 1)}}, "1 rows"),
        ({"choices": [[[3]], [[4] * 600], [[4]]]}, "512 tokens"),
    ],
)
def test_what_has_no_probability_is_refused(change, message):
    model, _ = make()
    request = {"prompts": PROMPTS, "choices": CHOICES, "strengths": STRENGTHS} | change
    with pytest.raises(DitError, match=message):
        choice_log_probabilities(model, **request)
