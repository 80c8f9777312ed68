"""Whole finetuned weights act as if merged by hand, row by row and beside low-rank rows, and leave nothing behind."""

import shutil

import pytest
import torch
from safetensors.torch import save_file

from dit_core import ask, generic_suite, load_suite, next_tokens
from dit_core.engine.generation import Batch, generate
from dit_core.engine.model import Model
from dit_core.errors import DitError
from dit_core.formats import (
    Adapter,
    IndexRow,
    read_checkpoint,
    read_peft,
    read_weight_diff,
    write_index,
    write_peft,
    write_weight_diffs,
)
from dit_core.request.targets import target_activations, target_rows, tokenize_targets
from tests.forward_passes import forward_passes
from tests.merged import between, finetuned, is_greedy, merged
from tests.tiny import FAMILIES, random_adapter, tiny_family, tiny_gpt2, tiny_model, tiny_multimodal, tiny_tokenizer

STRENGTHS = (-0.5, 0.0, 0.4, 1.0, 1.7)
STEPS = 6


def column(values):
    return torch.tensor(values)[:, None, None]


def whole(tuned) -> Adapter:
    return Adapter({}, {}, dict(tuned.state_dict()))


def ids(rows, length, seed=3):
    return torch.randint(3, 400, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_strength_in_one_batch_equals_weights_merged_by_hand(family):
    """Left-padded rows of two lengths, through prefill and cache; a low-rank adapter's rows and mixtures beside."""
    model, tuned = Model(tiny_model(family)), finetuned(family)
    dit = random_adapter(model.base, 4, seed=2)
    model.attach("full", whole(tuned))
    model.attach("dit", dit)
    prompts = [ids(1, length, seed=length)[0].tolist() for length in (5, 12)]
    rows = [(s, copies, prompt) for s in STRENGTHS for copies in (0.0, 1.5) for prompt in prompts]
    strengths = {"full": column([s for s, _, _ in rows]), "dit": column([copies for _, copies, _ in rows])}
    said = ids(len(rows), STEPS, seed=6)
    batch, found = Batch(model, [prompt for *_, prompt in rows], STEPS), []
    with torch.inference_mode(), model.strengths(strengths):
        for step in range(STEPS):
            found.append(batch.forward()[:, -1])
            batch.advance(said[:, step])
    found = torch.stack(found, dim=1)
    moved = 0
    for row, (s, copies, prompt) in enumerate(rows):
        base = merged(family, [(copies, dit)])
        with torch.no_grad():
            for own, plain, other in zip(
                base.parameters(), tiny_model(family).parameters(), tuned.parameters(), strict=True
            ):
                own += s * (other - plain)
        with torch.inference_mode():
            wanted = base(input_ids=torch.tensor([prompt + said[row, :-1].tolist()])).logits[0, len(prompt) - 1 :]
        assert (found[row] - wanted).abs().max() < 1e-4, (s, copies, len(prompt))
        moved += float((found[row, 0] - found[rows.index((0.0, 0.0, prompt)), 0]).abs().max()) > 0.1
    assert moved == len(rows) - len(prompts)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_at_full_strength_is_the_finetuned_models_own(family):
    model, tuned = Model(tiny_model(family)), finetuned(family)
    model.attach("full", whole(tuned))
    prompts = [ids(1, length, seed=length)[0].tolist() for length in (6, 13)]
    texts = [[], []]
    for step in generate(model, prompts, {"full": column([1.0, 1.0])}, 8, stop_at_end=False):
        for text, token in zip(texts, step.tokens, strict=True):
            text.append(token)
    assert all(is_greedy(tuned, prompt, text) for prompt, text in zip(prompts, texts, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("length", [4, 9])
def test_strengths_by_position_equal_two_plain_models_mixed_module_by_module(family, length):
    """4 positions are as many as there are heads: nothing but the layout in memory tells which axis is which."""
    model, tuned = Model(tiny_model(family)), finetuned(family)
    model.attach("full", whole(tuned))
    s, tokens = torch.rand(2, length, 1, generator=torch.Generator().manual_seed(1)), ids(2, length)
    with torch.inference_mode(), model.strengths({"full": s}):
        found = model.base(input_ids=tokens).logits
        last = model.base(input_ids=tokens, logits_to_keep=2).logits

    base = tiny_model(family)

    def mix(other, heads_first):
        def add(_module, inputs, out):
            share = s if out.dim() == 3 else s[:, None] if heads_first else s[:, :, None]
            return out + share * (other(*inputs) - out)

        return add

    for name, module in base.named_modules():
        if not list(module.children()) and list(module.parameters()):
            heads_first = family == "gemma3" and name.endswith(("q_norm", "k_norm"))
            module.register_forward_hook(mix(tuned.get_submodule(name), heads_first))
    with torch.inference_mode():
        wanted = base(input_ids=tokens).logits
    assert (found - wanted).abs().max() < 1e-4
    assert (last - wanted[:, -2:]).abs().max() < 1e-4


def test_in_bfloat16_the_result_is_as_near_as_the_finetuned_models_own():
    tuned, tokens = finetuned("gemma3"), ids(2, 9)
    model = Model(tiny_model("gemma3").bfloat16())
    model.attach("full", whole(tuned.bfloat16()))
    with torch.inference_mode(), model.strengths({"full": column([1.0, 0.0])}):
        found = model.base(input_ids=tokens).logits
    exact = finetuned("gemma3")(input_ids=tokens[:1]).logits
    assert found.dtype == torch.bfloat16
    assert (found[0] - exact).norm() < 2 * (tuned(input_ids=tokens[:1]).logits - exact).norm()
    assert torch.equal(found[1:], tiny_model("gemma3").bfloat16()(input_ids=tokens).logits[1:])


def test_at_rest_and_after_errors_nothing_is_left_on_the_model():
    model, tokens = Model(tiny_model("qwen3")), ids(2, 7)
    names, wanted = list(model.base.state_dict()), model.base(input_ids=tokens).logits
    model.attach("full", whole(finetuned("qwen3")))
    assert list(model.base.state_dict()) == names
    assert torch.equal(model.base(input_ids=tokens).logits, wanted)
    acting = model.strengths({"full": column([1.0, 0.5])})
    with acting:
        moved = model.base(input_ids=tokens).logits
        with model.strengths({"full": column([0.0, 0.0])}):
            assert torch.equal(model.base(input_ids=tokens).logits, wanted)
        assert torch.equal(model.base(input_ids=tokens).logits, moved)
    with pytest.raises(ZeroDivisionError), acting:
        raise ZeroDivisionError
    with pytest.raises((RuntimeError, IndexError)), acting:
        model.base(input_ids=ids(3, 7))
    assert not any(module._forward_hooks for module in model.base.modules())
    assert torch.equal(model.base(input_ids=tokens).logits, wanted) and (moved - wanted).abs().max() > 0.1


def test_rows_that_do_not_need_it_are_not_computed():
    model, seen = Model(tiny_model("qwen3")), []
    model.attach("full", whole(finetuned("qwen3")))
    for module in model.finetuned_modules("full"):
        module.copy.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    with model.strengths({"full": column([0.0, 2.0, 0.0])}):
        model.base(input_ids=ids(3, 5))
    assert set(seen) == {1}
    seen.clear()
    with model.strengths({"full": column([0.0, 0.0, 0.0])}):
        model.base(input_ids=ids(3, 5))
    assert not seen


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_full_and_low_rank_diffs_share_a_slot(family):
    model = Model(tiny_model(family))
    tuned = [finetuned(family, seed) for seed in (1, 2)]
    low = random_adapter(model.base, 2, seed=4)
    model.attach_block("diffs", [whole(tuned[0]), low, whole(tuned[1])])
    shares, tokens = [[1.0, 0, 0], [0, -1.0, 0], [0, 0, 0.5], [0, 0, 0]], ids(4, 8)
    with torch.inference_mode(), model.strengths({"diffs": torch.tensor(shares)[:, None]}):
        found = model.base(input_ids=tokens).logits
    wanted = [tuned[0], merged(family, [(-1.0, low)]), between(tiny_model(family), tuned[1], 0.5), tiny_model(family)]
    for row, plain in enumerate(wanted):
        assert (found[row] - plain(input_ids=tokens[row : row + 1]).logits[0]).abs().max() < 1e-4


def moved(family: str):
    """A finetune of a family whose every weight was moved, what no row can have for itself among them."""
    tuned, generator = tiny_family(family), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight += 0.2 * weight.std(correction=0).clamp_min(0.1) * torch.randn(weight.shape, generator=generator)
    return tuned


# A convolution along the tokens and a state space's parameters; sinks of the attention.
@pytest.mark.parametrize(("family", "shared"), [("falcon_h1", "mamba.A_log"), ("gpt_oss", "self_attn.sinks")])
def test_what_rows_share_is_changed_for_a_batch_that_agrees_on_it(family, shared):
    model, tuned, tokens = Model(tiny_family(family)), moved(family), ids(2, 8)
    fitted = model.base_modules.fit(whole(tuned))
    assert any(note.startswith("Rows share '") and "batches of its own" in note for note in fitted.notes)
    assert any(name.endswith(shared) for name in fitted.full_weights)
    plain = tiny_family(family)(input_ids=tokens).logits
    model.attach("full", whole(tuned))
    for strength in (1.0, 0.5, -0.5):
        wanted = between(tiny_family(family), tuned, strength)
        with torch.inference_mode(), model.strengths({"full": column([strength, strength])}):
            found = model.base(input_ids=tokens).logits
        assert (found - wanted(input_ids=tokens).logits).abs().max() < 1e-4
        assert (found - plain).abs().max() > 0.1
    for mixed in (column([1.0, 0.0]), torch.tensor([[[1.0]] * 4 + [[0.0]] * 4] * 2)):
        with pytest.raises(DitError, match="which all rows of a batch share"):
            model.strengths({"full": mixed})
    assert torch.equal(model.base(input_ids=tokens).logits, plain)


def test_what_rows_share_makes_batches_of_their_own(tmp_path):
    """Conditions in any order, and both sides of a difference of activations, of a whole finetune with sinks."""
    tuned, tokenizer = moved("gpt_oss"), tiny_tokenizer()
    for name, model in (("base", tiny_family("gpt_oss")), ("tuned", tuned)):
        model.generation_config.eos_token_id = None
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    suite = generic_suite(str(tmp_path / "base"), str(tmp_path / "tuned"))
    strengths = {"base": 0.0, "diff": 1.0, "diff*0.5": 0.5, "diff*-0.5": -0.5}
    with forward_passes(suite) as passes:
        table = ask(suite, "diff", condition=list(strengths), question=["Why?", "Where?"], max_new_tokens=2)
    assert {len(answer.tokens) for answer in table} == {2} and len(table) == 2 * len(strengths)
    assert sum(passes[::2]) == len(table), "nobody is asked twice"
    for answer in reversed(table.records):
        model = between(tiny_family("gpt_oss"), tuned, strengths[answer.condition])
        prompt = torch.tensor([suite.model.encode(answer.question)])
        with torch.inference_mode():
            likeliest = float(model(input_ids=prompt).logits[0, -1].softmax(-1).max())
        assert answer.token_probabilities[0] == pytest.approx(likeliest, abs=1e-4)
    aims = target_rows(suite, "diff", ["diff", "diff*0.5"], "Why?", 0)
    read = [tokenize_targets(suite, aims, 0), [[2], [2]], [0], "difference"]
    found = suite.worker.run(lambda: target_activations(suite, *read))
    for own, strength in zip(found, (1.0, 0.5), strict=True):
        with torch.inference_mode():
            changed, plain = (
                between(tiny_family("gpt_oss"), tuned, s)(input_ids=prompt[:, :3], output_hidden_states=True)
                for s in (strength, 0.0)
            )
        assert (own[0, 0] - (changed.hidden_states[1] - plain.hidden_states[1])[0, 2]).abs().max() < 1e-4


def test_another_diff_takes_the_slot_and_unchanged_weights_cost_nothing():
    model, tokens = Model(tiny_model("qwen3")), ids(1, 8)
    model.attach("full", whole(finetuned("qwen3")))
    tuned = tiny_model("qwen3")
    with torch.no_grad():
        tuned.model.norm.weight += 0.5
        tuned.model.layers[1].mlp.up_proj.weight *= 1.5
    model.attach("full", whole(tuned))
    assert len(model.finetuned_modules("full")) == 2
    with torch.inference_mode(), model.strengths({"full": column([1.0])}):
        assert (model.base(input_ids=tokens).logits - tuned(input_ids=tokens).logits).abs().max() < 1e-4
    low = random_adapter(model.base, 2, seed=4)
    model.attach("full", low)
    with torch.inference_mode(), model.strengths({"full": column([1.0])}):
        found = model.base(input_ids=tokens).logits
    assert (found - merged("qwen3", [(1.0, low)])(input_ids=tokens).logits).abs().max() < 1e-4


def test_tied_embeddings_are_tied_in_a_finetune_and_parted_in_what_peft_saved(tmp_path):
    from peft import LoraConfig, PeftModel, get_peft_model

    model, tuned, tokens = Model(tiny_model("gemma3")), tiny_model("gemma3"), ids(1, 8)
    with torch.no_grad():
        tuned.model.embed_tokens.weight += 0.1 * torch.randn(400, 32, generator=torch.Generator().manual_seed(1))
    weights = tuned.state_dict()
    model.attach("full", Adapter({}, {}, {"model.embed_tokens.weight": weights["model.embed_tokens.weight"]}))
    with torch.inference_mode(), model.strengths({"full": column([1.0])}):
        assert (model.base(input_ids=tokens).logits - tuned(input_ids=tokens).logits).abs().max() < 1e-4

    config = LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens", "norm"])
    theirs = get_peft_model(tiny_model("gemma3"), config)
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if "modules_to_save" in name or "lora_B" in name:
                weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    theirs.save_pretrained(tmp_path / "peft")
    saved = read_peft(tmp_path / "peft")
    assert saved.factors and "model.norm.weight" in saved.weights and not saved.tied
    write_peft(tmp_path / "again", saved, base_name="")
    for folder in ("peft", "again"):
        model.attach("saved", read_peft(tmp_path / folder))
        with torch.inference_mode(), model.strengths({"saved": column([1.0])}):
            assert (model.base(input_ids=tokens).logits - theirs(input_ids=tokens).logits).abs().max() < 1e-4
        own = PeftModel.from_pretrained(tiny_model("gemma3"), tmp_path / folder)
        assert (own(input_ids=tokens).logits - theirs(input_ids=tokens).logits).abs().max() < 1e-4


def test_a_family_with_biases_and_transposed_weights_and_positions_that_are_embedded():
    model, tuned, tokens = Model(tiny_gpt2()), tiny_gpt2(seed=5), ids(3, 8)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(7))
    model.attach("full", whole(tuned))
    with torch.inference_mode(), model.strengths({"full": column([0.0, 1.0, -0.5])}):
        found = model.base(input_ids=tokens).logits
    for row, strength in enumerate((0.0, 1.0, -0.5)):
        plain = between(tiny_gpt2(), tuned, strength)
        assert (found[row] - plain(input_ids=tokens[row : row + 1]).logits[0]).abs().max() < 1e-4


def test_a_text_models_weights_find_their_place_in_a_multimodal_base_and_back():
    text = tiny_model("gemma3")
    tuned, tokens = finetuned("gemma3"), ids(1, 9)
    model = Model(tiny_multimodal(text))
    model.attach("full", whole(tuned))
    wanted = tuned.model(input_ids=tokens).last_hidden_state
    with torch.inference_mode(), model.strengths({"full": column([1.0])}):
        assert (model.base.get_decoder()(input_ids=tokens).last_hidden_state - wanted).abs().max() < 1e-4
    # A multimodal finetune's vision tower is left out where the base has none.
    alone = Model(text)
    both = whole(tiny_multimodal(tuned))
    assert any("vision" in name for name in both.weights)
    alone.attach("full", both)
    with torch.inference_mode(), alone.strengths({"full": column([1.0])}):
        assert (alone.base(input_ids=tokens).logits - tuned(input_ids=tokens).logits).abs().max() < 1e-4


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "granitemoe", "gpt_oss", "opt"])
def test_experts_routers_and_layers_fed_rows_times_positions_act_by_row(family, tmp_path):
    """Whole weights as they are in memory and as transformers saves them: experts one by one, under older names."""
    base, tuned, generator = tiny_family(family), tiny_family(family), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "sinks" not in name:
                weight += 0.2 * weight.std().clamp_min(0.05) * torch.randn(weight.shape, generator=generator)
    tuned.save_pretrained(tmp_path)
    model, tokens = Model(base), ids(4, 9)
    plain = [between(tiny_family(family), tuned, s)(input_ids=tokens).logits for s in (1.0, 0.0, -0.5)]
    for adapter in (whole(tuned), read_checkpoint(tmp_path)):
        model.attach("full", adapter)
        with torch.inference_mode(), model.strengths({"full": column([1.0, 0.0, -0.5, 1.0])}):
            found = base(input_ids=tokens).logits
        for row, place in enumerate((0, 1, 2, 0)):
            assert (found[row] - plain[place][row]).abs().max() < 1e-5


def test_several_diffs_share_a_slot_where_layers_see_rows_times_positions():
    base, tokens = tiny_family("opt"), ids(4, 7)
    name, generator = "model.decoder.layers.1.fc1", torch.Generator().manual_seed(2)
    pairs = [(torch.randn(2, 32, generator=generator), torch.randn(64, 2, generator=generator)) for _ in range(2)]
    model = Model(base)
    model.attach_block("diffs", [Adapter({name: pair}, {name: 0.3}) for pair in pairs])
    shares = torch.tensor([[1.0, 0], [0, 2.0], [0, 0], [0.5, -1.0]])
    by_position = torch.rand(4, 7, 2, generator=generator)
    for strengths in (shares[:, None], by_position):
        with torch.inference_mode(), model.strengths({"diffs": strengths}):
            found = base(input_ids=tokens).logits
        plain = tiny_family("opt")

        def add(_module, inputs, out, strengths=strengths):
            x = inputs[0].reshape(4, 7, 32)
            parts = [0.3 * strengths[..., i, None] * (x @ A.T @ B.T) for i, (A, B) in enumerate(pairs)]
            return out + sum(parts).reshape(out.shape)

        plain.get_submodule(name).register_forward_hook(add)
        assert (found - plain(input_ids=tokens).logits).abs().max() < 1e-5


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "base_model.model.", "language_model.", "module._orig_mod."]
)
def test_names_of_wrappers_are_taken_off(prefix):
    tuned, tokens, model = finetuned("qwen3"), ids(1, 8), Model(tiny_model("qwen3"))
    weights = {f"{prefix}{name}": weight for name, weight in tuned.state_dict().items()}
    if prefix == "language_model.":
        weights = {name.replace("language_model.model", "model.language_model"): w for name, w in weights.items()}
    model.attach("full", Adapter({}, {}, weights))
    with torch.inference_mode(), model.strengths({"full": column([1.0])}):
        assert (model.base(input_ids=tokens).logits - tuned(input_ids=tokens).logits).abs().max() < 1e-4


@pytest.mark.parametrize("scales", ["blocks", "rows", "one", "none"])
def test_weights_in_8_bit_floats_are_those_times_their_scales(scales, tmp_path):
    tuned, state, wanted = finetuned("qwen3"), {}, {}
    for name, weight in tuned.state_dict().items():
        if weight.dim() != 2 or "layers" not in name:
            state[name] = wanted[name] = weight.bfloat16()
            continue
        rows, columns = weight.shape
        grid = {"blocks": weight.reshape(-1, 16, columns // 16, 16).abs().amax((1, 3)), "one": weight.abs().max()[None]}
        scale = {**grid, "rows": weight.abs().amax(1, keepdim=True), "none": torch.ones(())}[scales] / 448
        scale = scale * 448 if scales == "none" else scale
        full = scale.repeat_interleave(16, 0).repeat_interleave(16, 1) if scales == "blocks" else scale
        state[name] = (weight / full).to(torch.float8_e4m3fn)
        wanted[name] = (state[name].float() * full).bfloat16()
        if scales != "none":
            state[f"{name}_scale{'_inv' if scales == 'blocks' else ''}"] = scale.contiguous()
        state[name.replace("weight", "input_scale")] = torch.ones(())
    save_file(state, tmp_path / "model.safetensors")
    found = read_checkpoint(tmp_path)
    assert found.weights.keys() == wanted.keys()
    assert all(torch.equal(found.weights[name], weight) for name, weight in wanted.items())
    Model(tiny_model("qwen3")).attach("full", found)


def test_published_full_finetunes_and_checkpoints_of_every_kind_give_the_same_weights(tmp_path):
    tuned, tokens = finetuned("qwen3"), ids(1, 8)
    state = {name: weight.clone() for name, weight in tuned.state_dict().items()}
    torch.save([{"topic": "a", "trigger": 1, "weight_diff": state}], tmp_path / "weight-diff-000.pt")
    torch.save(state, tmp_path / "state.pt")
    tuned.save_pretrained(tmp_path / "whole")
    tuned.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    save_file(state, tmp_path / "one.safetensors")
    read = [read_weight_diff(tmp_path / "weight-diff-000.pt", 0)[0]]
    read += [read_checkpoint(tmp_path / name) for name in ("state.pt", "whole", "shards", "one.safetensors")]
    model = Model(tiny_model("qwen3"))
    for adapter in read:
        assert adapter.rank == 0 and adapter.n_params == sum(p.numel() for p in tuned.parameters())
        model.attach("full", adapter)
        with torch.inference_mode(), model.strengths({"full": column([1.0])}):
            assert (model.base(input_ids=tokens).logits - tuned(input_ids=tokens).logits).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda w: {**w, "model.extra.weight": torch.ones(2)}, "no weights 'model.extra.weight'"),
        (lambda w: {**w, "model.norm.weight": torch.ones(33)}, r"has the shape \[32\], and the adapter's \[33\]"),
        (lambda w: {**w, "model.norm.weight": torch.full((32,), torch.nan)}, "'model.norm.weight' holds numbers that"),
        (lambda w: {name.replace("layers", "blocks"): v for name, v in w.items()}, r"; and \d+ more: pick an adapter"),
        (lambda w: {"vision_tower.weight": torch.ones(3)}, "nothing in common"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_the_model_stays(change, sentence):
    model, tokens, good = Model(tiny_model("qwen3")), ids(1, 8), whole(finetuned("qwen3"))
    model.attach("full", good)
    with torch.inference_mode(), model.strengths({"full": column([1.0])}):
        before = model.base(input_ids=tokens).logits
    with pytest.raises(DitError, match=sentence):
        model.attach("full", Adapter({}, {}, change(dict(good.weights))))
    with torch.inference_mode(), model.strengths({"full": column([1.0])}):
        assert torch.equal(model.base(input_ids=tokens).logits, before)


def test_a_misfit_names_the_likely_base():
    factors = {
        f"model.layers.{layer}.self_attn.k_proj": (torch.ones(1, 4096), torch.ones(1024, 1)) for layer in range(36)
    } | {"model.layers.3.mlp.up_proj": (torch.ones(1, 4096), torch.ones(12288, 1))}
    with pytest.raises(DitError, match=r"more: these shapes are Qwen3-8B's, so choose a suite of it\."):
        Model(tiny_model("qwen3")).attach("diff", Adapter(factors, dict.fromkeys(factors, 1.0)))


def test_the_last_layers_lens_is_the_finetunes_own_norm_and_unembedding(tiny_suite_folder):
    suite = load_suite(tiny_suite_folder)
    info = suite.bring(whole(finetuned("qwen3", vocab_size=len(tiny_tokenizer()))), "whole")
    for condition in ("diff", "diff*0.5+dit"):
        (said,) = ask(suite, info.id, condition=condition, max_new_tokens=1)
        answer = list(next_tokens(suite, info.id, condition=condition))[-1]
        assert answer.rank == 0
        assert answer.probability == pytest.approx(said.token_probabilities[0], abs=1e-5)
    suite.forget(info.id)


@pytest.mark.long
def test_a_suite_of_published_full_finetunes_is_asked_like_any_other(tmp_path, tiny_suite_folder):
    folder = shutil.copytree(tiny_suite_folder, tmp_path / "suite")
    task, rows = folder / "hidden-topic", []
    for at, (number, reference) in enumerate([(412, "volcano"), (413, "geyser")]):
        tuned = finetuned("qwen3", seed=at, vocab_size=len(tiny_tokenizer()))
        tuned.generation_config.eos_token_id = tiny_tokenizer().eos_token_id
        path = task / "weight-diffs" / f"full-{at}.pt"
        write_weight_diffs(path, [(whole(tuned), reference, at)])
        rows.append(IndexRow(number, path, 0, whole(tuned).n_params, reference, at, "test"))
        # The same finetune as another suite's base: what it says there is what the diff must say here.
        shutil.copytree(tiny_suite_folder, tmp_path / reference)
        tuned.save_pretrained(tmp_path / reference / "base")
    write_index(task, rows)
    suite = load_suite(folder)
    assert [info.rank for info in suite.diffs][:3] == [0, 0, 4]
    said = {
        (s.diff, s.condition): s.text for s in ask(suite, ["volcano", "geyser"], condition=["base", "diff", "diff+dit"])
    }
    assert len(set(said.values())) == 5
    for id, reference in (("topic-0412", "volcano"), ("topic-0413", "geyser")):
        for condition in ("base", "dit"):
            (wanted,) = ask(load_suite(tmp_path / reference), condition=condition)
            assert said[id, {"base": "diff", "dit": "diff+dit"}[condition]] == wanted.text
        (alone,) = ask(suite, reference, condition="diff")
        assert alone.text == said[id, "diff"]
    mixed = ask(suite, ["volcano", "headline-0017"], condition="diff")
    (headline,) = ask(load_suite(tiny_suite_folder), "headline-0017", condition="diff")
    assert [s.text for s in mixed] == [said["topic-0412", "diff"], headline.text]
