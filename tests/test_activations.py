"""The residual stream is the plain model's, injected is what the formula says, and nothing stays behind."""

import pytest
import torch

from dit_core.engine.activations import (
    injecting,
    parse_layers,
    recording,
    replacing_last_position,
    residuals,
    stopping_after,
)
from dit_core.engine.generation import generate
from dit_core.engine.model import Model
from dit_core.errors import DitError
from tests.merged import is_greedy, merged, position_hooks
from tests.tiny import FAMILIES, random_adapter, tiny_gpt2, tiny_model, tiny_multimodal

LAYERS = 3
BASES = {
    **{family: (lambda family=family: tiny_model(family, layers=LAYERS)) for family in FAMILIES},
    "multimodal": lambda: tiny_multimodal(tiny_model("gemma3", layers=LAYERS)),
    "gpt2": lambda: tiny_gpt2(layers=LAYERS),
}
DRAW = torch.Generator().manual_seed(5)
# The longer ones reach past gemma3's window of 8 positions.
ROWS = [torch.randint(3, 400, (length,), generator=DRAW).tolist() for length in (5, 13, 9)]
POSITIONS = [[4], [0, 3, 12], [8, 2]]
VECTORS = [3 * torch.randn(len(places), 32, generator=DRAW) for places in POSITIONS]
LENGTHS = [len(row) for row in ROWS]


def column(values):
    return torch.tensor(values)[:, None, None]


def hooks(model):
    """Everything that hangs on any module of a model."""
    return [hook for m in model.base.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]


def padded(rows):
    """The left-padded batch of rows, as a forward pass takes it."""
    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)}


@torch.inference_mode()
def plain_residuals(base, row):
    """`hidden_states[1:]` of one row alone: [layers, positions, d_model], the last behind the final norm."""
    out = base(input_ids=torch.tensor([row]), output_hidden_states=True, use_cache=False)
    return torch.stack(out.hidden_states[1:])[:, 0]


def changed(base, block, places, vectors, coefficient=1.0):
    """A plain base whose block `block` is rewritten by the formula, in a loop over positions; one row, no padding."""
    layers = Model(base).layers
    forward = layers[block].forward

    def slow(*args, **kwargs):
        output = forward(*args, **kwargs)
        hidden = (output[0] if isinstance(output, tuple) else output)[0]
        lines = list(hidden.unbind(0))
        for place, v in zip(places, vectors, strict=True):
            h = lines[place]
            lines[place] = h + coefficient * (h * h).sum().sqrt() * v / (v * v).sum().sqrt()
        new = torch.stack(lines)[None]
        return (new, *output[1:]) if isinstance(output, tuple) else new

    layers[block].forward = slow
    return base


# ---------------------------------------------------------------- reading


def final_norm(base, hidden):
    """The norm behind the blocks, under the two names that it has in these families."""
    decoder = base.get_decoder()
    return (decoder.ln_f if hasattr(decoder, "ln_f") else decoder.norm)(hidden)


@pytest.mark.parametrize("kind", BASES)
def test_the_output_of_every_block_is_the_plain_models_hidden_state(kind):
    """Rows of different length in one left-padded batch, against each row alone in a model without hooks."""
    model, plain = Model(BASES[kind]()), BASES[kind]()
    everywhere = [range(length) for length in LENGTHS]
    found = residuals(model, ROWS, {}, everywhere, range(LAYERS))
    for row, hidden in zip(ROWS, found, strict=True):
        wanted = plain_residuals(plain, row)
        assert hidden.shape == wanted.shape == (LAYERS, len(row), 32)
        assert (hidden[:-1] - wanted[:-1]).abs().max() < 1e-5
        # transformers stores the last one behind the final norm.
        with torch.inference_mode():
            assert (final_norm(plain, hidden[-1]) - wanted[-1]).abs().max() < 1e-5
        assert (hidden[1] - hidden[0]).abs().max() > 0.1
    assert not hooks(model)


@pytest.mark.parametrize("kind", ["qwen3", "multimodal", "gpt2"])
def test_only_the_layers_and_positions_asked_for_are_taken(kind):
    model = Model(BASES[kind]())
    whole = residuals(model, ROWS, {}, [range(length) for length in LENGTHS], range(LAYERS))
    some = residuals(model, ROWS, {}, POSITIONS, [2, 0])
    for row, places in enumerate(POSITIONS):
        assert torch.equal(some[row], whole[row][[2, 0]][:, places])
        assert some[row].dtype == torch.float32 and not some[row].is_inference()
    with torch.inference_mode(), recording(model, LENGTHS, POSITIONS, [1, 1]) as taken:
        assert not taken
        model.base(**padded(ROWS))
    assert list(taken) == [1] and taken[1].shape == (3, 3, 32)
    for row, places in enumerate(POSITIONS):
        assert (taken[1][row, : len(places)] - whole[row][1, places]).abs().max() < 1e-5


@pytest.mark.parametrize("kind", BASES)
def test_a_pass_that_is_stopped_after_a_block_computes_no_later_one(kind):
    model = Model(BASES[kind]())
    whole = residuals(model, ROWS, {}, [range(length) for length in LENGTHS], range(LAYERS))
    later = []
    handle = model.layers[2].register_forward_pre_hook(lambda *_: later.append(True))
    with torch.inference_mode(), recording(model, LENGTHS, POSITIONS, [0, 1]) as taken, stopping_after(model, 1):
        model.base(**padded(ROWS))
        later.append(True)  # never comes here
    handle.remove()
    assert list(taken) == [0, 1] and not later and not hooks(model)
    for row, places in enumerate(POSITIONS):
        assert (taken[1][row, : len(places)] - whole[row][1, places]).abs().max() < 1e-5
    with pytest.raises(RuntimeError, match="own"), stopping_after(model, 1):
        raise RuntimeError("own")
    assert not hooks(model)


@pytest.mark.parametrize("kind", BASES)
def test_a_vector_takes_the_last_positions_place_as_it_is(kind):
    model, vectors = Model(BASES[kind]()), 3 * torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    ends = [[length - 1] for length in LENGTHS]
    replacing, reading = replacing_last_position(model, [1, 0, 1], vectors), recording(model, LENGTHS, ends, [0, 1])
    with torch.inference_mode(), replacing, reading as taken:
        model.base(**padded(ROWS))
    whole = residuals(model, ROWS, {}, ends, range(LAYERS))
    assert torch.equal(taken[1][[0, 2], 0], vectors[[0, 2]]) and torch.equal(taken[0][1, 0], vectors[1])
    for row in (0, 2):
        assert (taken[0][row] - whole[row][0]).abs().max() < 1e-5
    assert not hooks(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_of_diff_and_dit_are_those_of_merged_weights(family):
    model = Model(tiny_model(family))
    diff, dit = random_adapter(model.base, 1, seed=1), random_adapter(model.base, 16, seed=2)
    model.attach("diff", diff)
    model.attach("dit", dit)
    grid = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (-0.5, 2.0)]
    rows = [(strength, copies, row) for strength, copies in grid for row in ROWS]
    strengths = {"diff": column([s for s, _, _ in rows]), "dit": column([c for _, c, _ in rows])}
    ids = [row for *_, row in rows]
    found = residuals(model, ids, strengths, [range(len(row)) for row in ids], [0, 1])
    for (strength, copies, row), hidden in zip(rows, found, strict=True):
        plain = merged(family, [(strength, diff), (copies, dit)])
        wanted = plain_residuals(plain, row)
        assert (hidden[0] - wanted[0]).abs().max() < 1e-5 * max(1, wanted[0].abs().max())
        with torch.inference_mode():
            assert (final_norm(plain, hidden[1]) - wanted[1]).abs().max() < 1e-4
    assert (found[0] - found[3]).abs().max() > 0.1


def test_strengths_by_position_act_on_what_is_read():
    model = Model(tiny_model("qwen3"))
    diff = random_adapter(model.base, 1, seed=1)
    model.attach("diff", diff)
    # The batch is 13 positions wide; the last strength given goes on for the others.
    strengths = 2 * torch.rand(3, 10, 1, generator=torch.Generator().manual_seed(2))
    found = residuals(model, ROWS, {"diff": strengths}, [range(length) for length in LENGTHS], [0])
    for row, hidden, own in zip(ROWS, found, strengths[..., 0], strict=True):
        own = torch.cat([own, own[-1:].expand(3)])
        with position_hooks(tiny_model("qwen3"), [(own[13 - len(row) :], diff)]) as plain:
            assert (hidden[0] - plain_residuals(plain, row)[0]).abs().max() < 1e-5


# ---------------------------------------------------------------- changing


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize(("block", "coefficient"), [(1, 1.0), (0, 2.5), (2, -0.5)])
def test_injection_is_the_formula_at_the_positions_given_and_nowhere_else(kind, block, coefficient):
    model = Model(BASES[kind]())
    with torch.inference_mode():
        rest = model.base(**padded(ROWS)).logits
        with injecting(model, LENGTHS, POSITIONS, VECTORS, block, coefficient):
            found = model.base(**padded(ROWS)).logits
        again = model.base(**padded(ROWS)).logits
    assert torch.equal(rest, again) and not hooks(model)
    for row, ids in enumerate(ROWS):
        plain = changed(BASES[kind](), block, POSITIONS[row], VECTORS[row], coefficient)
        with torch.inference_mode():
            wanted = plain(input_ids=torch.tensor([ids])).logits[0]
        assert (found[row, -len(ids) :] - wanted).abs().max() < 1e-4
        moved = (found[row, -len(ids) :] - rest[row, -len(ids) :]).abs().amax(-1)
        first = min(POSITIONS[row])
        assert moved[first] > 1e-3 and (moved[:first] < 1e-5).all()


def test_only_the_direction_of_a_vector_counts():
    model = Model(tiny_model("qwen3"))
    found = []
    for size in (1.0, 1e-8, 1e8):
        with torch.inference_mode(), injecting(model, LENGTHS, POSITIONS, [size * v for v in VECTORS], 0):
            found.append(model.base(**padded(ROWS)).logits)
    assert (found[0] - found[1]).abs().max() < 1e-4 and (found[0] - found[2]).abs().max() < 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_as_a_prefill_it_touches_the_prompt_and_no_later_step(family):
    """Against greedy text without a cache, where the prompt's positions, and they alone, are changed at every step."""
    model = Model(tiny_model(family, layers=LAYERS))
    said = [[] for _ in ROWS]
    steps = generate(model, ROWS, {}, 8, stop_at_end=False, prefill=injecting(model, LENGTHS, POSITIONS, VECTORS))
    for step in steps:
        assert not hooks(model)
        for answer, token in zip(said, step.tokens, strict=True):
            answer.append(token)
    plain = list(generate(model, ROWS, {}, 8, stop_at_end=False))
    for row, ids in enumerate(ROWS):
        assert said[row] != [step.tokens[row] for step in plain]
        base = changed(tiny_model(family, layers=LAYERS), 1, POSITIONS[row], VECTORS[row])
        assert is_greedy(base, ids, said[row])


def test_gradients_flow_through_to_the_vectors_and_to_what_comes_before():
    model = Model(tiny_model("qwen3", layers=LAYERS))
    found, wanted = VECTORS[1].clone().requires_grad_(), VECTORS[1].clone().requires_grad_()
    plain = changed(tiny_model("qwen3", layers=LAYERS), 1, POSITIONS[1], wanted, 1.5)
    early = [base.model.layers[0].mlp.down_proj.weight.requires_grad_() for base in (model.base, plain)]
    ids = {"input_ids": torch.tensor([ROWS[1]])}
    with injecting(model, LENGTHS[1:2], POSITIONS[1:2], [found], coefficient=1.5):
        model.base(**ids).logits.logsumexp(-1).sum().backward()
    plain(**ids).logits.logsumexp(-1).sum().backward()
    assert found.grad.norm() > 1e-3
    for mine, other in ((found, wanted), early):
        assert (mine.grad - other.grad).abs().max() < 1e-4 * other.grad.abs().max()


# ---------------------------------------------------------------- what is refused, and what is left


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vectors": [torch.zeros(1, 32), *VECTORS[1:]]}, "nothing to inject.*no diff acts"),
        ({"vectors": [VECTORS[0], torch.stack([*VECTORS[1][:2], torch.zeros(32)]), VECTORS[2]]}, "nothing to inject"),
        ({"vectors": [torch.full((1, 32), float("nan")), *VECTORS[1:]]}, "not finite"),
        ({"vectors": [torch.full((1, 32), 1e30), *VECTORS[1:]]}, "not finite"),
        ({"vectors": [torch.ones(2, 32), *VECTORS[1:]]}, r"1 places can't hold activations of the shape \[2, 32\]"),
        ({"vectors": [torch.ones(1, 16), *VECTORS[1:]]}, "a vector of 32 numbers"),
        ({"positions": [[5], *POSITIONS[1:]]}, "5 tokens has no position 5: count from 0 to 4"),
        ({"positions": [[-1], *POSITIONS[1:]]}, "no position -1"),
        ({"positions": [[], *POSITIONS[1:]]}, "no position to read"),
        ({"block": 2}, "no layer 2: its 2 layers are counted from 0 to 1"),
        ({"block": -1}, "no layer -1"),
        ({"block": True}, "no layer True"),
        ({"block": 0.5}, "no layer 0.5"),
    ],
)
def test_what_can_not_be_injected_is_refused_and_leaves_nothing(change, message):
    model = Model(tiny_model("qwen3"))
    request = {"positions": POSITIONS, "vectors": VECTORS} | change
    with pytest.raises(DitError, match=message), injecting(model, LENGTHS, **request):
        pytest.fail("it was opened")
    assert not hooks(model)
    assert torch.equal(model.base(**padded(ROWS)).logits, tiny_model("qwen3")(**padded(ROWS)).logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": [[4], [13], [0]]}, "13 tokens has no position 13"),
        ({"positions": [[4], [-1], [0]]}, "no position -1"),
        ({"positions": [[4], [], [0]]}, "no position to read"),
        ({"layers": [0, 2]}, "no layer 2"),
        ({"rows": []}, "at least one token"),
        ({"rows": [[], [1], [2]]}, "at least one token"),
        ({"rows": [[3] * 600, *ROWS[1:]]}, "512 tokens at most"),
        ({"strengths": {"diff": column([1.0])}}, "1 rows"),
        ({"strengths": {"other": column([1.0] * 3)}}, "No adapter is attached to 'other'"),
    ],
)
def test_what_can_not_be_read_is_refused_and_leaves_nothing(change, message):
    model = Model(tiny_model("qwen3"))
    model.attach("diff", random_adapter(model.base, 1, seed=1))
    request = {"rows": ROWS, "strengths": {}, "positions": POSITIONS, "layers": [0]} | change
    with pytest.raises(DitError, match=message):
        residuals(model, **request)
    assert not hooks(model)
    assert torch.equal(model.base(**padded(ROWS)).logits, tiny_model("qwen3")(**padded(ROWS)).logits)


def test_no_hook_stays_after_an_error_inside_or_in_the_model():
    model = Model(tiny_model("qwen3"))
    model.attach("diff", random_adapter(model.base, 1, seed=1))
    rest = model.base(**padded(ROWS)).logits
    with pytest.raises(KeyboardInterrupt), recording(model, LENGTHS, POSITIONS, [0, 1]):
        assert len(hooks(model)) == 2
        raise KeyboardInterrupt
    with pytest.raises(ZeroDivisionError), injecting(model, LENGTHS, POSITIONS, VECTORS):
        assert len(hooks(model)) == 1
        raise ZeroDivisionError
    assert not hooks(model)

    def fail(*_):
        raise MemoryError

    handle = model.layers[1].mlp.register_forward_hook(fail)
    with pytest.raises(MemoryError):
        residuals(model, ROWS, {"diff": column([1.0] * 3)}, POSITIONS, [0, 1])
    with pytest.raises(MemoryError):
        list(generate(model, ROWS, {}, 2, prefill=injecting(model, LENGTHS, POSITIONS, VECTORS)))
    handle.remove()
    assert not hooks(model) and torch.equal(model.base(**padded(ROWS)).logits, rest)


@pytest.mark.parametrize(
    ("layers", "wanted"),
    [
        ("all", [0, 1, 2]),
        (" ALL ", [0, 1, 2]),
        (None, [0, 1, 2]),
        (1, [1]),
        ("1", [1]),
        ([2, 0, 2], [0, 2]),
        ("0, 1 - 2", [0, 1, 2]),
        (range(2), [0, 1]),
        (torch.tensor([1]).numpy(), [1]),
    ],
)
def test_layers_are_all_or_numbers_in_several_forms(layers, wanted):
    found = parse_layers(Model(tiny_model(layers=LAYERS)), layers)
    assert found == wanted and all(type(layer) is int for layer in found)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (3, "no layer 3: its 3 layers are counted from 0 to 2"),
        ([0, -1], "no layer -1"),
        ("1-7", "no layer 7"),
        ("0-999999", "no layer 999999"),
        (True, "no layer True"),
        (1.5, "no layer 1.5"),
        ([None], "no layer None"),
        ([], "No layer was asked for"),
        ("", "not understood"),
        ("2-0", "Layers 2 to 0 are no range"),
        ("0,,1", "not understood"),
        ("-1", "not understood"),
        ("²", "not understood"),
        ("9" * 5000, "not understood"),
        ("last", "not understood"),
    ],
)
def test_layers_that_there_are_not_are_refused(layers, message):
    with pytest.raises(DitError, match=message):
        parse_layers(Model(tiny_model(layers=LAYERS)), layers)
