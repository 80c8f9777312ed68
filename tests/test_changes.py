"""What a diff changes, against plain linear algebra on whole matrices; and whose shapes it has."""

import pytest
import torch

from dit_core.engine.changes import approximate, report, truncated_svd
from dit_core.engine.compatibility import KNOWN_BASES, likely_base, linear_shapes
from dit_core.engine.model import Model
from dit_core.errors import DitError
from dit_core.formats import Adapter, low_rank_norm
from tests.merged import delta, finetuned
from tests.tiny import random_adapter, tiny_model


def whole(tuned) -> Adapter:
    return Adapter({}, {}, dict(tuned.state_dict()))


def test_a_low_rank_report_is_that_of_the_matrices_themselves():
    model = Model(tiny_model("qwen3"))
    adapter = random_adapter(model.base, 3, seed=1)
    table = report(adapter, model, "topic-0001", "tiny")
    assert (table.suite, table.kind, len(table)) == ("tiny", "changes", len(adapter.factors))
    for change in table:
        matrix, own = delta(adapter, change.module), model.base.get_submodule(change.module).weight
        assert change.norm == pytest.approx(float(matrix.norm()), rel=1e-4)
        assert change.relative == pytest.approx(float(matrix.norm() / own.norm()), rel=1e-4)
        assert change.singular_values == pytest.approx(torch.linalg.svdvals(matrix)[:3].tolist(), rel=1e-4)
        assert (change.diff, change.kind, change.rank) == ("topic-0001", "low-rank", 3)
        assert change.parameters == 3 * sum(matrix.shape)
        assert change.module == f"model.layers.{change.layer}.{change.module.split('.')[3]}.{change.type}"
    alone = report(adapter)
    assert all(change.relative is None for change in alone)
    assert [change.norm for change in alone] == pytest.approx([change.norm for change in table])
    assert len(report(random_adapter(model.base, 12, seed=1))[0].singular_values) == 8


@pytest.mark.parametrize("rank", [1, 5, 40])
def test_the_norm_of_a_low_rank_product_is_that_of_the_dense_matrix(rank):
    generator = torch.Generator().manual_seed(rank)
    A, B = torch.randn(rank, 30, generator=generator), torch.randn(20, rank, generator=generator)
    for factors in ((A, B), (A.bfloat16(), B.bfloat16())):
        dense = factors[1].double() @ factors[0].double()
        assert low_rank_norm(*factors) == pytest.approx(float(dense.norm()), rel=1e-12)
    # A product that cancels to nothing has no negative square.
    assert low_rank_norm(torch.cat([A, A]), torch.cat([B, -B], dim=1)) == pytest.approx(0, abs=1e-4)


def test_a_full_report_names_what_was_touched_and_how_much():
    model, tuned = Model(tiny_model("gemma3")), tiny_model("gemma3")
    with torch.no_grad():
        tuned.model.norm.weight += 0.25
        tuned.model.embed_tokens.weight *= 1.5
        tuned.model.layers[1].mlp.up_proj.weight *= 0.9
    table = {change.module: change for change in report(whole(tuned), model)}
    # The unembedding is there by its own name too, as it is in torch's own state dicts.
    assert set(table) == {"model.norm", "model.embed_tokens", "lm_head", "model.layers.1.mlp.up_proj"}
    assert table["model.norm"].norm == pytest.approx(0.25 * 32**0.5) and table["model.norm"].relative is None
    assert table["model.embed_tokens"].relative == pytest.approx(0.5, rel=1e-5)
    up = table["model.layers.1.mlp.up_proj"]
    assert (up.type, up.layer, up.kind, up.rank, up.parameters) == ("up_proj", 1, "whole", None, 64 * 32)
    assert up.relative == pytest.approx(0.1, rel=1e-4) and up.singular_values == ()
    alone = report(whole(tuned))
    assert len(alone) == len(tuned.state_dict()) and {change.norm for change in alone} == {None}
    assert report(whole(tuned), model).to_frame().shape == (4, 10)


@pytest.mark.parametrize("rank", [1, 4, 32])
def test_an_approximation_is_the_nearest_of_its_rank_and_says_what_it_keeps(rank):
    base, tuned = tiny_model("qwen3"), finetuned("qwen3")
    adapter, kept = approximate(whole(tuned), rank, Model(base))
    kept_square = total = 0.0
    for name, weight in tuned.state_dict().items():
        change = weight - base.state_dict()[name]
        total += float(change.square().sum())
        if change.dim() == 2 and "embed" not in name:
            left, values, right = torch.linalg.svd(change, full_matrices=False)
            nearest = (left[:, :rank] * values[:rank]) @ right[:rank]
            assert torch.allclose(delta(adapter, name.removesuffix(".weight")), nearest, atol=1e-4)
            kept_square += float(values[:rank].square().sum())
    assert kept == pytest.approx((kept_square / total) ** 0.5, rel=1e-5) and adapter.rank == rank
    assert not adapter.weights


def test_a_large_matrix_is_approximated_nearly_as_well_as_possible():
    matrix = torch.randn(700, 40, generator=torch.Generator().manual_seed(1)) @ torch.randn(40, 600)
    matrix += 0.01 * torch.randn(700, 600)
    left, values, right = truncated_svd(matrix, 8)
    best = torch.linalg.svdvals(matrix)
    assert (left.shape, right.shape) == ((700, 8), (8, 600))
    assert torch.allclose(values, best[:8], rtol=0.01)
    lost = (matrix - (left * values) @ right).norm()
    assert lost < 1.02 * best[8:].norm()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    assert torch.equal(truncated_svd(matrix, 8)[1], values) and torch.equal(torch.get_rng_state(), state)


def test_an_approximation_keeps_low_rank_parts_and_refuses_what_leaves_nothing():
    model = Model(tiny_model("qwen3"))
    low = random_adapter(model.base, 2, seed=1)
    mixed = Adapter(low.factors, low.scaling, {"model.norm.weight": torch.full((32,), 3.0)})
    adapter, kept = approximate(mixed, 1, model)
    assert adapter.factors.keys() == low.factors.keys() and 0 < kept < 1
    square = sum(norm**2 for norm in low.norms().values())
    assert kept == pytest.approx((square / (square + 4 * 32)) ** 0.5, rel=1e-4)
    with pytest.raises(DitError, match="no linear layer"):
        approximate(Adapter({}, {}, {"model.norm.weight": torch.zeros(32)}), 1, model)
    with pytest.raises(DitError, match="at least 1"):
        approximate(mixed, 0, model)


def test_the_base_is_told_by_shapes():
    def linear(name, **layers):
        shape = KNOWN_BASES[name]
        found = {}
        for layer in layers.get("only", range(shape.layers)):
            found[f"model.layers.{layer}.self_attn.k_proj"] = (shape.hidden, shape.key)
            found[f"model.layers.{layer}.self_attn.o_proj"] = (shape.query, shape.hidden)
            found[f"model.layers.{layer}.mlp.down_proj"] = (shape.mlp, shape.hidden)
        return found

    assert all(likely_base(linear(name)) == name for name in KNOWN_BASES)
    assert likely_base(linear("Qwen3-8B", only=[3])) == "Qwen3-8B"
    renamed = {name.replace("model.", "model.language_model."): pair for name, pair in linear("Gemma-3-4B").items()}
    tower = {"model.vision_tower.encoder.layers.0.self_attn.k_proj": (1152, 1152)}
    assert likely_base(renamed | tower) == "Gemma-3-4B"
    assert likely_base({}) is None and likely_base({"model.layers.0.mlp.up_proj": (7, 9)}) is None
    both = linear("Qwen3-8B", only=[0]) | linear("Qwen3-4B", only=[1])
    assert likely_base(both) is None
    one = Adapter({"model.layers.3.mlp.up_proj": (torch.ones(1, 4096), torch.ones(12288, 1))}, {})
    assert likely_base(linear_shapes(one)) == "Qwen3-8B"
