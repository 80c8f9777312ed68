"""Streams: what ends, what is sampled, what is left behind when a reader goes."""

from contextlib import contextmanager

import pytest
import torch

from dit_core.engine.generation import Batch, generate, row_seed, sample
from dit_core.engine.model import Model
from dit_core.errors import DitError
from tests.merged import is_greedy, merged, position_hooks
from tests.tiny import FAMILIES, random_adapter, tiny_model, tiny_tokenizer


def column(values):
    return torch.tensor(values)[:, None, None]


@pytest.fixture
def model():
    model = Model(tiny_model("qwen3"))
    model.attach("diff", random_adapter(model.base, 1, seed=1))
    return model


PROMPTS = [[5, 9, 31, 77], [8, 5, 9, 31, 77, 200, 11], [44, 45]]
STRENGTHS = {"diff": column([0.0, 1.0, -1.0])}


def whole(steps, rows=3):
    """Each row's own tokens, up to and without the end of its turn."""
    texts = [[] for _ in range(rows)]
    for step in steps:
        for row in range(rows):
            if step.alive[row]:
                texts[row].append(step.tokens[row])
    return texts


def test_a_row_that_ends_its_turn_is_dropped_and_the_others_go_on_as_before(model):
    full = whole(generate(model, PROMPTS, STRENGTHS, 10, stop_at_end=False))
    model.base.generation_config.eos_token_id = [full[1][3], full[2][1]]
    ends = [next((i for i, t in enumerate(text) if t in model.end_tokens), 10) for text in full]
    widths = []
    handle = model.layers[0].register_forward_hook(lambda _m, inputs, _o: widths.append(inputs[0].shape[0]))
    steps = list(generate(model, PROMPTS, STRENGTHS, 10))
    handle.remove()
    assert whole(steps) == [text[:end] for text, end in zip(full, ends, strict=True)]
    assert widths == [sum(end >= step for end in ends) for step in range(len(steps))]
    assert steps[ends[1]].tokens[1] == full[1][ends[1]] and not steps[ends[1]].alive[1]
    assert len(steps) == min(10, max(ends) + 1)


def test_the_stream_stops_when_all_rows_have_ended(model):
    first = next(generate(model, PROMPTS, STRENGTHS, 1)).tokens
    model.base.generation_config.eos_token_id = first
    steps = list(generate(model, PROMPTS, STRENGTHS, 10))
    assert len(steps) == 1 and steps[0].alive == [False] * 3 and steps[0].tokens == first


@pytest.mark.parametrize(
    ("generation_prompt", "begins"),
    [("<|im_start|>assistant\n", "<|im_start|>"), ("### Answer:\n", None), ("", None), (None, None)],
)
def test_the_token_that_begins_a_turn_ends_the_answer_before_it(generation_prompt, begins):
    tokenizer = tiny_tokenizer()
    messages = "{% for message in messages %}{{ message['content'] }}<|im_end|>\n{% endfor %}"
    prompt = f"{{% if add_generation_prompt %}}{generation_prompt}{{% endif %}}"
    tokenizer.chat_template = None if generation_prompt is None else messages + prompt
    ends = {"<|im_end|>", begins} - {None}
    assert Model(tiny_model(), tokenizer).end_tokens == set(tokenizer.convert_tokens_to_ids(sorted(ends)))


def test_probabilities_are_the_models_own_at_temperature_one(model):
    diff = random_adapter(model.base, 1, seed=1)
    base = merged("qwen3", [(1.0, diff)])
    for temperature in (0.0, 0.7):
        steps = list(
            generate(model, PROMPTS, STRENGTHS, 5, temperature=temperature, seeds=[1, 2, 3], stop_at_end=False)
        )
        text = torch.tensor([PROMPTS[1] + [step.tokens[1] for step in steps]])
        with torch.inference_mode():
            wanted = base(input_ids=text).logits.softmax(-1)[0]
        for at, step in enumerate(steps, start=len(PROMPTS[1]) - 1):
            assert step.probabilities[1] == pytest.approx(float(wanted[at, text[0, at + 1]]), abs=1e-5)


def test_a_sampled_answer_does_not_depend_on_the_rest_of_the_batch(model):
    options = dict(temperature=1.3, top_p=0.95, stop_at_end=False)
    together = whole(generate(model, PROMPTS, STRENGTHS, 12, seeds=[7, 8, 9], **options))
    for row in (2, 0, 1):
        alone = generate(model, [PROMPTS[row]], {"diff": STRENGTHS["diff"][[row]]}, 12, seeds=[7 + row], **options)
        assert whole(alone, rows=1)[0] == together[row]
    # The same noise whatever the length, other noise with another seed.
    longer = whole(generate(model, PROMPTS, STRENGTHS, 15, seeds=[7, 8, 9], **options))
    assert [text[:12] for text in longer] == together
    assert whole(generate(model, PROMPTS, STRENGTHS, 12, seeds=[1, 2, 3], **options)) != together


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_rows_are_read_once_and_written_each_for_itself(family):
    model = Model(tiny_model(family))
    model.attach("diff", random_adapter(model.base, 1, seed=1))
    prompts = [PROMPTS[at] for at in (0, 1, 0, 0, 1, 1, 2)]
    amounts, seeds = column([1.0, -1.0, 1.0, 0.5, -1.0, -1.0, 1.0]), [3, 4, 5, 6, 7, 8, 9]
    read = []
    handle = model.layers[0].register_forward_hook(lambda _m, inputs, _o: read.append(inputs[0].shape[0]))
    options = {"temperature": 1.5, "stop_at_end": False}
    texts = whole(generate(model, prompts, {"diff": amounts}, 12, seeds=seeds, **options), len(prompts))
    handle.remove()
    assert read == [4, *[7] * 11], "two rows are as the first or the second one; in the fourth less of the diff acts"
    for row, text in enumerate(texts):
        alone = generate(model, [prompts[row]], {"diff": amounts[row : row + 1]}, 12, seeds=[seeds[row]], **options)
        assert whole(alone, 1) == [text]
    assert texts[0] != texts[2] and len({tuple(text) for text in texts}) == 7


def test_sampling_follows_the_distribution_and_top_p():
    logits = torch.tensor([[0.5, 0.1, 0.3, 0.1]]).log().expand(1000, 4)
    uniforms = [(i + 0.5) / 1000 for i in range(1000)]
    assert torch.bincount(sample(logits, 1.0, 1.0, uniforms)).tolist() == [500, 100, 300, 100]
    counts = torch.bincount(sample(logits, 1.0, 0.7, uniforms), minlength=4).tolist()
    assert counts == [625, 0, 375, 0]
    assert set(sample(logits, 1.0, 1e-9, uniforms).tolist()) == {0}
    assert set(sample(logits, 0.01, 1.0, uniforms).tolist()) == {0}
    assert sample(logits[:2], 1.0, 1.0, [0.0, 1 - 1e-16]).tolist() == [0, 3]


@pytest.mark.parametrize("family", FAMILIES)
def test_strengths_by_position_move_on_with_every_token(family):
    """The prompt and each answer token under strengths of their own; the last one goes on past the end."""
    model = Model(tiny_model(family))
    diff, dit = random_adapter(model.base, 1, seed=1), random_adapter(model.base, 4, seed=2)
    model.attach("diff", diff)
    model.attach("dit", dit)
    prompts, width, count = PROMPTS, max(map(len, PROMPTS)), 12
    draw = torch.Generator().manual_seed(3)
    s = {"diff": 2 * torch.rand(3, width + 6, 1, generator=draw), "dit": column([0.5, 0.0, 1.0])}
    found = whole(generate(model, prompts, s, count, stop_at_end=False))
    for row, prompt in enumerate(prompts):
        own = s["diff"][row, width - len(prompt) :, 0]
        own = torch.cat([own, own[-1:].expand(count)])
        copies = s["dit"][row, 0].expand(len(own))
        with position_hooks(tiny_model(family), [(own, diff), (copies, dit)]) as base:
            assert is_greedy(base, prompt, found[row])


def test_dropped_rows_take_their_strengths_by_position_with_them(model):
    s = {"diff": torch.linspace(-2, 2, 3 * 20).reshape(3, 20, 1)}
    full = whole(generate(model, PROMPTS, s, 10, stop_at_end=False))
    model.base.generation_config.eos_token_id = full[0][2]
    ended = whole(generate(model, PROMPTS, s, 10))
    for text, cut in zip(full, ended, strict=True):
        assert cut == text[: len(cut)] and (len(cut) == 10 or text[len(cut)] == full[0][2])


def test_an_abandoned_stream_leaves_the_model_at_rest_at_every_step(model):
    ids = torch.tensor([PROMPTS[0]])
    rest = tiny_model("qwen3")(input_ids=ids).logits
    steps = generate(model, PROMPTS, STRENGTHS, 10)
    for _ in range(3):
        next(steps)
        assert torch.equal(model.base(input_ids=ids).logits, rest)
    # Two streams may even take turns.
    other = generate(model, PROMPTS[:1], {"diff": column([2.0])}, 10)
    next(other)
    rows = [[step.tokens for step in steps], [step.tokens for step in other]]
    again = [step.tokens for step in generate(model, PROMPTS, STRENGTHS, 10)][3:]
    assert rows[0] == again
    steps.close()
    assert torch.equal(model.base(input_ids=ids).logits, rest)
    assert not torch.is_inference_mode_enabled()


def test_an_error_inside_a_step_leaves_the_model_at_rest(model):
    ids = torch.tensor([PROMPTS[0]])
    rest = tiny_model("qwen3")(input_ids=ids).logits

    def fail(*_):
        raise MemoryError

    handle = model.layers[1].register_forward_hook(fail)
    with pytest.raises(MemoryError):
        list(generate(model, PROMPTS, STRENGTHS, 3))
    handle.remove()
    assert torch.equal(model.base(input_ids=ids).logits, rest)


def test_the_prefill_context_is_open_while_prompts_are_read_and_at_no_other_step(model):
    seen, opened = [], []

    @contextmanager
    def prefill():
        opened.append(True)
        try:
            yield
        finally:
            opened.pop()

    handle = model.layers[0].register_forward_hook(
        lambda _m, inputs, _o: seen.append((inputs[0].shape[1], len(opened)))
    )
    steps = generate(model, PROMPTS, STRENGTHS, 4, stop_at_end=False, prefill=prefill())
    next(steps)
    assert seen == [(7, 1)] and not opened
    assert len(list(steps)) == 3 and seen[1:] == [(1, 0)] * 3
    # Left before its first step, it was never opened.
    generate(model, PROMPTS, STRENGTHS, 4, prefill=prefill()).close()
    handle.remove()
    assert not opened

    def fail(*_):
        raise MemoryError

    handle = model.layers[1].register_forward_hook(fail)
    with pytest.raises(MemoryError):
        next(generate(model, PROMPTS, STRENGTHS, 4, prefill=prefill()))
    handle.remove()
    assert not opened


@pytest.mark.parametrize("family", FAMILIES)
def test_several_tokens_at_once_are_read_as_one_after_another(family):
    model, said = Model(tiny_model(family)), torch.tensor([[3, 4, 5, 6], [9, 8, 7, 6], [77, 5, 31, 44]])
    slow, fast = Batch(model, PROMPTS, 4), Batch(model, PROMPTS, 4)
    with torch.inference_mode():
        wanted = [slow.forward()[:, -1]]
        for step in range(4):
            slow.advance(said[:, step])
            wanted.append(slow.forward()[:, -1])
        found = [fast.forward()]
        fast.advance(said)
        found.append(fast.forward(4))
    assert slow.window == (10, 11) and fast.window == (7, 11)
    assert (torch.cat(found, dim=1) - torch.stack(wanted, dim=1)).abs().max() < 1e-4


def test_a_rows_seed_is_the_same_everywhere_and_another_for_every_row():
    assert row_seed(0, "topic-0412", "diff", 3) == 6386736244399435226
    seeds = {row_seed(seed, layer, (1, 2)) for seed in range(9) for layer in range(9)}
    assert len(seeds) == 81 and all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": []}, "at least one token"),
        ({"prompts": [[1], [], [2]]}, "at least one token"),
        ({"max_new_tokens": 0}, "at least 1"),
        ({"max_new_tokens": 600}, "512 tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"temperature": 1.0}, "seed for every row"),
        ({"prompts": [[1]]}, "3 rows"),
    ],
)
def test_bad_requests_are_refused(model, change, message):
    request = {"prompts": PROMPTS, "strengths": STRENGTHS, "max_new_tokens": 3} | change
    with pytest.raises(DitError, match=message):
        next(generate(model, **request))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_numbers_that_overflow_end_in_a_sentence_and_leave_the_model_as_it_was(model, temperature):
    before = whole(generate(model, PROMPTS, STRENGTHS, 3))
    model.attach("huge", random_adapter(model.base, 1, seed=2, size=1e30))
    with pytest.raises(DitError, match=r"overflow .*float32.*less strength"):
        list(generate(model, PROMPTS[:1], {"huge": column([1.0])}, 3, temperature=temperature, seeds=[0]))
    assert whole(generate(model, PROMPTS, STRENGTHS, 3)) == before
