"""Adapters act as if merged by hand, row by row, and leave nothing behind."""

import pytest
import torch

from dit_core.engine.generation import Batch, generate
from dit_core.engine.model import Model
from dit_core.errors import DitError
from dit_core.formats import Adapter
from tests.merged import is_greedy, merged, position_hooks
from tests.tiny import (
    FAMILIES,
    OTHER_FAMILIES,
    random_adapter,
    tiny_family,
    tiny_gpt2,
    tiny_model,
    tiny_multimodal,
    tiny_tokenizer,
)

STRENGTHS = (-1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
COPIES = (0.0, 0.5, 1.0, 2.0, 5.0)
GRID = [(strength, copies) for strength in STRENGTHS for copies in COPIES]
STEPS = 12


def prompts_of_three_lengths():
    """As with the trigger absent, wrong and right: three prompts, the longer ones past gemma3's window of 8."""
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(3, 400, (length,), generator=generator).tolist() for length in (6, 13, 19)]


def column(values):
    return torch.tensor(values)[:, None, None]


def make(family="qwen3", diff_rank=1):
    model = Model(tiny_model(family))
    diff = random_adapter(model.base, diff_rank, seed=1)
    dit = random_adapter(model.base, 16, seed=2)
    model.attach("diff", diff)
    model.attach("dit", dit)
    return model, diff, dit


def state(model):
    """Everything that strengths may touch, by value or by identity."""
    found = {}
    for name, module in model.base.named_modules():
        if hasattr(module, "lora_A"):
            found[name] = (dict(module.scaling), list(module.active_adapters), module.disable_adapters)
        found[f"{name}.forward"] = module.__dict__.get("forward")
    weights = {name: weight.clone() for name, weight in model.base.state_dict().items()}
    return found, weights


def assert_same_state(before, after):
    assert before[0] == after[0]
    assert all(torch.equal(before[1][name], after[1][name]) for name in before[1] | after[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_condition_of_a_batch_equals_weights_merged_by_hand(family):
    """30 conditions times 3 prompts in one left-padded batch, at prefill and through the cache."""
    model, diff, dit = make(family)
    prompts = prompts_of_three_lengths()
    rows = [(condition, prompt) for condition in GRID for prompt in prompts]
    strengths = {
        "diff": column([strength for (strength, _), _ in rows]),
        "dit": column([copies for (_, copies), _ in rows]),
    }
    said = torch.randint(3, 400, (len(rows), STEPS), generator=torch.Generator().manual_seed(6))
    batch, found = Batch(model, [prompt for _, prompt in rows], STEPS), []
    with torch.inference_mode(), model.strengths(strengths):
        for step in range(STEPS):
            found.append(batch.forward()[:, -1])
            batch.advance(said[:, step])
    found = torch.stack(found, dim=1)

    moved = []
    for at, (strength, copies) in enumerate(GRID):
        base = merged(family, [(strength, diff), (copies, dit)])
        for place, prompt in enumerate(prompts):
            row = at * len(prompts) + place
            text = torch.tensor([prompt + said[row, :-1].tolist()])
            with torch.inference_mode():
                wanted = base(input_ids=text, use_cache=False).logits[0, len(prompt) - 1 :]
            assert (found[row] - wanted).abs().max() < 1e-4, (strength, copies, len(prompt))
            moved.append((wanted[0] - found[GRID.index((0.0, 0.0)) * len(prompts) + place, 0]).abs().max())
    # The diffs matter: all conditions but the base's own give other logits, by far more than the tolerance.
    assert sum(float(m) > 0.1 for m in moved) == len(rows) - len(prompts)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_in_the_batch_equals_text_alone_and_merged(family):
    model, diff, dit = make(family)
    prompts = prompts_of_three_lengths()
    rows = [(condition, prompts[at % 3]) for at, condition in enumerate(GRID)]
    texts = [[] for _ in rows]
    strengths = {"diff": column([r[0][0] for r in rows]), "dit": column([r[0][1] for r in rows])}
    for step in generate(model, [prompt for _, prompt in rows], strengths, STEPS, stop_at_end=False):
        for text, token in zip(texts, step.tokens, strict=True):
            text.append(token)
    assert len({tuple(text) for text in texts}) > 20
    for row, ((strength, copies), prompt) in enumerate(rows):
        one = {"diff": column([strength]), "dit": column([copies])}
        alone = [step.tokens[0] for step in generate(model, [prompt], one, STEPS, stop_at_end=False)]
        assert alone == texts[row]
        assert is_greedy(merged(family, [(strength, diff), (copies, dit)]), prompt, alone)


@pytest.mark.parametrize("family", FAMILIES)
def test_different_diffs_in_one_batch_equal_merged_weights(family):
    """Blocks of rank 1 and 4, one of which leaves out a layer; two at once in a row; with DIT copies on top."""
    model, _, dit = make(family)
    diffs = [random_adapter(model.base, rank, seed=seed) for rank, seed in ((1, 11), (4, 12), (1, 13))]
    for name in [name for name in diffs[1].factors if ".layers.0." in name]:
        del diffs[1].factors[name], diffs[1].scaling[name]
    model.attach_block("diffs", diffs)
    ids = torch.randint(3, 400, (5, 10), generator=torch.Generator().manual_seed(3))
    shares = torch.tensor([[1, 0, 0], [0, -0.5, 0], [0, 0, 2], [1, 1, 0], [0, 0, 0]])
    copies = [0.0, 1.0, 0.5, 0.0, 0.0]
    with torch.inference_mode(), model.strengths({"diffs": shares[:, None], "dit": column(copies)}):
        found = model.base(input_ids=ids).logits
    for row in range(5):
        parts = [(float(share), diff) for share, diff in zip(shares[row], diffs, strict=True)]
        wanted = merged(family, [*parts, (copies[row], dit)])(input_ids=ids[row : row + 1]).logits[0]
        assert (found[row] - wanted).abs().max() < 1e-4
    assert (found[0] - found[3]).abs().max() > 0.1


def test_strengths_by_position_equal_a_slow_reference():
    """Also for blocks: every position its own mixture, against hooks on a plain base."""
    model, diff, dit = make("gemma3")
    others = [random_adapter(model.base, 2, seed=21), random_adapter(model.base, 3, seed=22)]
    model.attach_block("diffs", others)
    ids = torch.randint(3, 400, (2, 12), generator=torch.Generator().manual_seed(4))
    draw = torch.Generator().manual_seed(8)
    s = {
        "diff": torch.rand(2, 12, 1, generator=draw),
        "dit": 2 * torch.rand(2, 12, 1, generator=draw),
        "diffs": torch.rand(2, 12, 2, generator=draw),
    }
    with torch.inference_mode(), model.strengths(s):
        found = model.base(input_ids=ids).logits
    for row in range(2):
        parts = [(s["diff"][row, :, 0], diff), (s["dit"][row, :, 0], dit)]
        parts += [(s["diffs"][row, :, block], other) for block, other in enumerate(others)]
        with torch.inference_mode(), position_hooks(tiny_model("gemma3"), parts) as base:
            wanted = base(input_ids=ids[row : row + 1]).logits[0]
        assert (found[row] - wanted).abs().max() < 1e-4


def test_at_rest_the_model_is_the_base_bit_for_bit():
    model, *_ = make()
    model.attach_block("diffs", [random_adapter(model.base, 1, seed=s) for s in (1, 2)])
    ids = torch.randint(3, 400, (2, 9))
    wanted = tiny_model("qwen3")(input_ids=ids).logits
    before = state(model)
    s = {"diff": column([1.0, 0.3]), "dit": column([2.0, 0.0]), "diffs": torch.ones(2, 1, 2)}
    with model.strengths(s):
        model.base(input_ids=ids)
    assert torch.equal(model.base(input_ids=ids).logits, wanted)
    with pytest.raises(ZeroDivisionError), model.strengths(s), model.strengths({"dit": column([1.0, 1.0])}):
        raise ZeroDivisionError
    # A batch of another size than the strengths fails inside of a layer, in the middle of the network.
    with pytest.raises(RuntimeError), model.strengths(s):
        model.base(input_ids=torch.randint(3, 400, (3, 9)))
    with pytest.raises(KeyboardInterrupt), model.strengths(s):
        raise KeyboardInterrupt
    assert_same_state(before, state(model))
    assert torch.equal(model.base(input_ids=ids).logits, wanted)


def test_an_inner_context_replaces_the_outer_one_and_gives_way_again():
    model, *_ = make()
    ids = torch.randint(3, 400, (2, 9))
    s, t = {"diff": column([1.0, 2.0])}, {"dit": column([1.0, 0.5])}
    with model.strengths(s):
        outer = model.base(input_ids=ids).logits
    with model.strengths(t):
        inner = model.base(input_ids=ids).logits
    acting = model.strengths(s)
    with acting:
        with model.strengths(t):
            assert torch.equal(model.base(input_ids=ids).logits, inner)
        with acting:
            assert torch.equal(model.base(input_ids=ids).logits, outer)
        assert torch.equal(model.base(input_ids=ids).logits, outer)
    assert torch.equal(model.base(input_ids=ids).logits, tiny_model("qwen3")(input_ids=ids).logits)


def test_another_diff_overwrites_the_tensors_and_nothing_else():
    model, *_ = make()
    layer = model.base.get_submodule("model.layers.0.self_attn.q_proj")
    modules, places = list(model.base.modules()), [p.data_ptr() for p in model.base.parameters()]
    other = random_adapter(model.base, 1, seed=77)
    kept = {name: (A.clone(), B.clone()) for name, (A, B) in other.factors.items()}
    model.attach("diff", other)
    assert all(a is b for a, b in zip(model.base.modules(), modules, strict=True))
    assert [p.data_ptr() for p in model.base.parameters()] == places
    third = random_adapter(model.base, 4, seed=78)
    model.attach("diff", third)
    assert model.base.get_submodule("model.layers.0.self_attn.q_proj") is layer
    ids = torch.randint(3, 400, (1, 9))
    with torch.inference_mode(), model.strengths({"diff": column([1.5])}):
        found = model.base(input_ids=ids).logits
    assert (found - merged("qwen3", [(1.5, third)])(input_ids=ids).logits).abs().max() < 1e-4
    # The caller's adapters are left alone.
    assert all(torch.equal(kept[n][0], A) and torch.equal(kept[n][1], B) for n, (A, B) in other.factors.items())


def test_a_smaller_adapter_in_the_slot_leaves_nothing_of_the_larger_one():
    model, *_ = make()
    small = random_adapter(model.base, 1, seed=5)
    for name in [name for name in small.factors if "mlp" in name]:
        del small.factors[name], small.scaling[name]
    model.attach("diff", small)
    ids = torch.randint(3, 400, (1, 9))
    with torch.inference_mode(), model.strengths({"diff": column([1.0])}):
        found = model.base(input_ids=ids).logits
    assert (found - merged("qwen3", [(1.0, small)])(input_ids=ids).logits).abs().max() < 1e-4


def test_adapters_whose_strengths_are_all_zero_are_not_computed():
    model, *_ = make()
    calls = []
    for module in model.base.modules():
        if hasattr(module, "lora_A"):
            module.lora_A["dit"].register_forward_hook(lambda *_: calls.append(1))
    ids = torch.randint(3, 400, (2, 9))
    with model.strengths({"diff": column([1.0, 0.0]), "dit": column([0.0, 0.0])}):
        model.base(input_ids=ids)
    assert not calls
    with model.strengths({"dit": column([0.0, 0.1])}):
        model.base(input_ids=ids)
    assert calls


def test_an_adapter_that_does_not_fit_is_refused_and_the_model_stays():
    model, *_ = make()
    good = random_adapter(model.base, 1, seed=9)
    before, modules = state(model), list(model.base.modules())
    name = "model.layers.1.mlp.down_proj"
    wide = Adapter({**good.factors, name: (torch.ones(1, 65), torch.ones(32, 1))}, good.scaling)
    with pytest.raises(DitError, match=r"layers\.1\.mlp\.down_proj.* 64 to 32 .* 65 to 32"):
        model.attach("diff", wide)
    deep = "model.layers.9.mlp.down_proj"
    with pytest.raises(DitError, match=r"no linear layer 'model\.layers\.9"):
        model.attach("new", Adapter({**good.factors, deep: good.factors[name]}, {**good.scaling, deep: 1.0}))
    with pytest.raises(DitError, match="at least one"):
        model.attach_block("new", [])
    assert "new" not in model.slots
    assert all(a is b for a, b in zip(model.base.modules(), modules, strict=True))
    assert_same_state(before, state(model))


def test_a_detached_slot_leaves_nothing_and_can_be_filled_again():
    model, *_ = make()
    before, ids = state(model), torch.randint(3, 400, (1, 9))
    model.attach("new", random_adapter(model.base, 4, seed=9))
    with model.strengths({"new": column([1.0])}):
        wanted = model.base(input_ids=ids).logits
        with pytest.raises(DitError, match="detached while strengths act"):
            model.detach("new")
    model.detach("new")
    model.detach("never there")
    assert_same_state(before, state(model))
    with pytest.raises(DitError, match="No adapter is attached to 'new'"):
        model.strengths({"new": column([1.0])})
    model.attach("new", random_adapter(model.base, 4, seed=9))
    with model.strengths({"new": column([1.0])}):
        assert torch.equal(model.base(input_ids=ids).logits, wanted)


def test_strengths_that_make_no_sense_are_refused():
    model, *_ = make()
    with pytest.raises(DitError, match="Did you mean 'diff'"):
        model.strengths({"dif": column([1.0])})
    with pytest.raises(DitError, match="shape"):
        model.strengths({"diff": torch.ones(2)})
    with pytest.raises(DitError, match="shape"):
        model.strengths({"diff": torch.ones(2, 1, 2)})
    with pytest.raises(DitError, match="agree"):
        model.strengths({"diff": column([1.0]), "dit": column([1.0, 1.0])})
    with pytest.raises(DitError, match="finite"):
        model.strengths({"diff": column([float("nan")])})
    with pytest.raises(DitError, match="leave"), model.strengths({"diff": column([1.0])}):
        model.attach("diff", random_adapter(model.base, 1, seed=1))


def test_names_match_under_a_multimodal_prefix_and_never_in_the_vision_tower():
    text = tiny_model("gemma3")
    whole = tiny_multimodal(text)
    model = Model(whole)
    assert len(model.layers) == 2 and "language_model" in model.layers_path
    diff = random_adapter(text, 2, seed=3)
    assert all(name.startswith("model.layers.") for name in diff.factors)
    model.attach("diff", diff)
    ids = torch.randint(3, 400, (1, 9))
    wanted = merged("gemma3", [(1.0, diff)]).model(input_ids=ids).last_hidden_state
    with torch.inference_mode(), model.strengths({"diff": column([1.0])}):
        found = whole.get_decoder()(input_ids=ids).last_hidden_state
    assert (found - wanted).abs().max() < 1e-4
    tower = "vision_tower.layers.0.self_attn.q_proj"
    with pytest.raises(DitError, match="no linear layer"):
        model.attach("diff", Adapter({tower: (torch.ones(1, 32), torch.ones(32, 1))}, {tower: 1.0}))


LENSES = {
    **{family: (lambda family=family: tiny_model(family)) for family in FAMILIES},
    "multimodal": lambda: tiny_multimodal(tiny_model("gemma3")),
    "gpt2": tiny_gpt2,
    **{family: (lambda family=family: tiny_family(family)) for family in OTHER_FAMILIES},
}


@pytest.mark.parametrize("kind", LENSES)
def test_the_last_layers_residual_unembeds_to_the_models_own_logits(kind):
    """Final norms with and without weights, scales, multipliers and caps of logits are the model's own."""
    base, ids = LENSES[kind](), torch.randint(3, 400, (2, 9), generator=torch.Generator().manual_seed(1))
    model, last = Model(base), []
    with torch.inference_mode():
        handle = model.layers[-1].register_forward_hook(lambda _m, _i, out: last.append(out))
        wanted = base(input_ids=ids).logits
        handle.remove()
    hidden = last[0][0] if isinstance(last[0], tuple) else last[0]
    assert (model.unembed(hidden) - wanted).abs().max() < 1e-5
    assert (model.unembed(hidden[0, 3]) - wanted[0, 3]).abs().max() < 1e-5
    assert model.unembed(hidden[0]).dtype == torch.float32
    with torch.inference_mode():
        assert torch.equal(base(input_ids=ids).logits, wanted)  # all blocks are back


def test_tokens_are_shown_one_by_one_and_a_message_is_encoded_with_its_template():
    tokenizer = tiny_tokenizer()
    model = Model(tiny_model("qwen3", vocab_size=len(tokenizer)), tokenizer)
    text = "What topic?\n  Lisbon, <b>é</b>"
    ids = model.encode(text)
    assert "".join(model.pieces(ids)).replace("\ufffd", "") == (
        f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n".replace("é", "")
    )
    assert all(type(token) is int for token in ids) and len(model.pieces(ids)) == len(ids)
