"""Several diffs on one row, and parts of diffs: each acts as weights that were merged, cut or left out by hand."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from dit_core import Condition, ask, load_suite
from dit_core.engine.changes import rank_one
from dit_core.engine.model import Model
from dit_core.errors import DitError
from dit_core.formats import Adapter, write_peft
from dit_core.request.conditions import acting_diffs
from dit_core.suite.diffs import Origin, UserDiff
from tests.forward_passes import forward_passes
from tests.merged import delta, finetuned
from tests.tiny import random_adapter, tiny_family, tiny_model

NEWS = "headline-0017"  # its diff has rank 4


def deltas(adapter: Adapter, acts=lambda name: True) -> dict[str, torch.Tensor]:
    """ΔW by module name."""
    return {name: delta(adapter, name) for name in adapter.factors if acts(name)}


def first_direction(change: torch.Tensor, keep_norm: bool = False) -> torch.Tensor:
    """σ₁u₁v₁ᵀ of a matrix, or that at the matrix's norm, from a whole decomposition."""
    left, values, right = torch.linalg.svd(change.double())
    size = change.double().norm() if keep_norm else values[0]
    return (size * left[:, :1] @ right[:1]).float()


def cut(changes: dict[str, torch.Tensor], keep_norm: bool = False) -> dict[str, torch.Tensor]:
    return {name: first_direction(change, keep_norm) for name, change in changes.items()}


def assert_said_by(suite, said, parts, vectors=None):
    """Each token's probability is a plain base's with `strength * ΔW` of each part, and vectors by layer, added."""
    base = AutoModelForCausalLM.from_pretrained(suite.folder / "base", dtype=torch.float32).eval()
    with torch.no_grad():
        for strength, changes in parts:
            assert changes
            for name, change in changes.items():
                base.get_submodule(name).weight += strength * change
    for layer, vector in (vectors or {}).items():
        base.model.layers[layer].register_forward_hook(
            lambda _block, _inputs, out, vector=vector: (
                (out[0] + vector, *out[1:]) if type(out) is tuple else out + vector
            )
        )
    ids = suite.model.encode(said.question)
    for probability in said.token_probabilities:
        with torch.inference_mode():
            best = base(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1).max(-1)
        assert probability == pytest.approx(best.values.item(), abs=1e-4), said.condition
        ids = [*ids, best.indices.item()]


def test_every_mixture_and_part_in_one_batch_equals_weights_changed_by_hand(suite):
    own, news = (deltas(suite.load_diff(suite.diff(id))) for id in ("topic-0412", NEWS))
    dit = deltas(suite.load_adapter("topic"))
    other = deltas(suite.load_diff(suite.diff("topic-0413")))

    def within(changes, *words):
        return {name: change for name, change in changes.items() if all(word in f".{name}." for word in words)}

    wanted = {
        "base": [],
        "diff": [(1, own)],
        "diff:topic-0413*-0.7": [(-0.7, other)],
        f"diff*0.5+diff:{NEWS}*0.7": [(0.5, own), (0.7, news)],
        f"diff+diff:{NEWS}*0.5+diff:topic-0413*0.4+dit*2": [(1, own), (0.5, news), (0.4, other), (2, dit)],
        f"diff:{NEWS}:rank1": [(1, cut(news))],
        f"diff:{NEWS}:rank1-norm*0.5": [(0.5, cut(news, True))],
        f"diff:{NEWS}@mlp": [(1, within(news, ".mlp."))],
        f"diff:{NEWS}@attention": [(1, within(news, ".self_attn."))],
        f"diff:{NEWS}@down_proj": [(1, within(news, ".down_proj."))],
        f"diff:{NEWS}@layers:1-1": [(1, within(news, ".layers.1."))],
        f"diff:{NEWS}@layers:50%-100%": [(1, within(news, ".layers.1."))],
        f"diff:{NEWS}:rank1@layers:0-0@mlp*2": [(2, cut(within(news, ".layers.0.", ".mlp.")))],
        f"diff+diff:{NEWS}@mlp*-1": [(1, own), (-1, within(news, ".mlp."))],
    }
    with forward_passes(suite) as passes:
        table = ask(suite, "topic-0412", condition=list(wanted), question="Why?")
    assert passes[0] == len(wanted) and len(passes) <= suite.max_new_tokens, "all of them are rows of one batch"
    assert [one.condition for one in table] == [str(Condition.parse(condition)) for condition in wanted]
    assert len({one.token_probabilities for one in table}) > 10, "they differ, or nothing is proved"
    for one, parts in zip(table, wanted.values(), strict=True):
        assert_said_by(suite, one, parts)


def test_a_part_belongs_to_whichever_diff_is_asked_about(suite):
    table = ask(suite, ["topic-0412", NEWS], condition=["diff:rank1", "diff@mlp"], question="Why?")
    for one in table:
        changes = deltas(suite.load_diff(suite.diff(one.diff)))
        mlp = {name: change for name, change in changes.items() if ".mlp." in name}
        assert_said_by(suite, one, [(1, cut(changes) if "rank1" in one.condition else mlp)])


def test_the_same_diff_by_its_name_adds_up(suite):
    info = suite.diff("volcano")
    assert acting_diffs(suite, info, Condition.parse("diff+diff:topic-0412*0.5")) == {info: 1.5}
    assert acting_diffs(suite, info, Condition.parse("diff+diff:topic-0412*-1+diff@mlp*0")) == {}


@pytest.mark.parametrize(
    ("diff", "condition", "sentence"),
    [
        ("volcano", "diff:topic-0414x", "no diff 'topic-0414x'"),
        ("volcano", "diff:cello", "by its id.*'topic-0414'"),
        (None, "diff:rank1", "needs a diff"),
        (None, "diff@mlp+dit", "needs a diff"),
        ("volcano", "diff@q_norm", "changes nothing in 'q_norm'"),
        ("volcano", "diff@layers:1-2", "no layer 2"),
    ],
)
def test_what_is_not_there_is_a_sentence_and_the_model_answers_as_before(suite, diff, condition, sentence):
    before = ask(suite, "volcano", condition=["diff", "diff:rank1"]).records
    with pytest.raises(DitError, match=sentence):
        ask(suite, diff, condition=condition)
    assert ask(suite, "volcano", condition=["diff", "diff:rank1"]).records == before


def test_without_a_diff_others_act_by_their_names(suite):
    (said,) = ask(suite, condition="diff:topic-0412", question="Why?")
    assert said.diff == "" and said.text == ask(suite, "topic-0412", condition="diff", question="Why?")[0].text


def test_a_users_own_diff_is_found_in_conditions_and_is_gone_when_it_is_forgotten(tiny_suite_folder):
    suite = load_suite(tiny_suite_folder)
    mine = suite.bring(suite.load_diff(suite.diff("cello")), "mine")
    written = f"diff+diff:{mine.id}:rank1*0.5"
    table = ask(suite, "volcano", condition=written)
    assert [user.info for user in suite.user_diffs_in(written)] == [mine]
    assert suite.user_diffs_in([Condition.parse(written)]) == suite.user_diffs_in(table.records)
    assert isinstance(suite.user_diffs_in(table.records)[0], UserDiff)
    assert table.extra["brought"] == {mine.id: {**vars(Origin("mine")), "files": ()}}
    slots = set(suite.model.slots)
    suite.forget(mine.id)
    suite.worker.run(lambda: None)
    assert set(suite.model.slots) < slots, "its weights are off the model"
    with pytest.raises(DitError, match="no longer here"):
        ask(suite, "volcano", condition=written)


# ---------------------------------------------------------------- whole weights


@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_two_full_finetunes_on_one_row_equal_both_differences_added(family):
    """Norms too: what each adds is measured from the base, and not from what the other has made of it."""
    model, tuned = Model(tiny_model(family)), [finetuned(family, seed=seed) for seed in (1, 2)]
    dit = random_adapter(model.base, 4, seed=3)
    model.attach_block("whole", [Adapter({}, {}, dict(own.state_dict())) for own in tuned] + [dit])
    ids = torch.randint(3, 400, (3, 7), generator=torch.Generator().manual_seed(1))
    rows = [(0.5, 0.7, 0.0), (0.0, 0.0, 0.0), (-0.3, 1.0, 1.5)]
    with torch.inference_mode(), model.strengths({"whole": torch.tensor(rows)[:, None]}):
        found = model.base(input_ids=ids).logits
    for row, (one, two, copies) in enumerate(rows):
        base, plain = tiny_model(family), tiny_model(family)
        with torch.no_grad():
            for own, start, a, b in zip(*(each.parameters() for each in (base, plain, *tuned)), strict=True):
                own += one * (a - start) + two * (b - start)
            for name in dit.factors:
                base.get_submodule(name).weight += copies * delta(dit, name)
        with torch.inference_mode():
            assert (found[row] - base(input_ids=ids[row : row + 1]).logits[0]).abs().max() < 2e-4


def test_two_finetunes_of_the_same_experts_act_on_rows_of_their_own_alone():
    model, tuned = Model(tiny_family("qwen3_moe")), [tiny_family("qwen3_moe", seed=seed) for seed in (1, 2)]
    model.attach_block("whole", [Adapter({}, {}, dict(own.state_dict())) for own in tuned])
    ids = torch.randint(3, 400, (2, 5), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode(), model.strengths({"whole": torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])}):
        found = model.base(input_ids=ids).logits
    for row, own in enumerate(tuned):
        with torch.inference_mode():
            assert (found[row] - own(input_ids=ids[row : row + 1]).logits[0]).abs().max() < 1e-3
    with pytest.raises(DitError, match="same experts"):
        model.strengths({"whole": torch.tensor([[[1.0, 0.5]], [[0.0, 1.0]]])})


@pytest.mark.parametrize("keep_norm", [False, True])
def test_the_first_direction_of_low_rank_and_of_whole_changes_is_that_of_a_whole_decomposition(keep_norm):
    base, tuned = tiny_model(), finetuned("qwen3")
    low = random_adapter(base, 5, seed=4)
    low.scaling.update({name: -scaling for name, scaling in low.scaling.items() if "q_proj" in name})
    for adapter, changes in (
        (low, deltas(low)),
        (
            Adapter({}, {}, dict(tuned.state_dict())),
            {
                name: (tuned.get_submodule(name).weight - module.weight).detach()
                for name, module in base.named_modules()
                if isinstance(module, torch.nn.Linear)
            },
        ),
    ):
        found = deltas(rank_one(adapter, Model(base), keep_norm))
        assert set(found) == set(changes)
        for name, wanted in cut(changes, keep_norm).items():
            assert torch.allclose(found[name], wanted, atol=1e-4 * float(wanted.norm())), name
            assert torch.linalg.matrix_rank(found[name], rtol=1e-4) == 1


def test_what_has_no_direction_is_a_sentence():
    base, tuned = tiny_model(), tiny_model()
    with torch.no_grad():
        tuned.model.norm.weight += 0.5
    with pytest.raises(DitError, match="no linear layer"):
        rank_one(Adapter({}, {}, dict(tuned.state_dict())), Model(base))


def test_parts_of_a_full_finetune_are_answered_beside_it(tiny_suite_folder, tmp_path):
    from dit_core.formats import read_checkpoint

    suite = load_suite(tiny_suite_folder)
    tuned = AutoModelForCausalLM.from_pretrained(suite.folder / "base", dtype=torch.float32)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight += 0.2 * weight.std().nan_to_num(0.3) * torch.randn(weight.shape, generator=generator)
    tuned.save_pretrained(tmp_path / "tuned")
    info = suite.bring(read_checkpoint(tmp_path / "tuned"), "mine")
    table = ask(suite, info, condition=["diff", "diff@mlp", "diff:rank1", "diff@layers:0-0*0.5+dit"], question="Why?")
    base = AutoModelForCausalLM.from_pretrained(suite.folder / "base", dtype=torch.float32)
    changes = {
        name: (tuned.get_submodule(name).weight - module.weight).detach()
        for name, module in base.named_modules()
        if getattr(module, "weight", None) is not None and not list(module.children())
    }
    mlp = {name: change for name, change in changes.items() if ".mlp." in name}
    # Tied: the embedding is the unembedding, of which a cut keeps nothing.
    linear = {name: change for name, change in changes.items() if change.dim() == 2 and ".layers." in name}
    first = {name: change for name, change in changes.items() if ".layers.0." in name}
    untied = {name: change for name, change in changes.items() if "embed" in name or "lm_head" in name}
    assert_said_by(suite, table[1], [(1, mlp)])
    assert_said_by(suite, table[3], [(0.5, first), (1, deltas(suite.load_adapter("topic")))])
    if not base.config.tie_word_embeddings:
        linear |= {name: change for name, change in untied.items() if name == "lm_head"}
    assert_said_by(suite, table[2], [(1, cut(linear))])


def test_a_part_can_be_written_as_an_adapter_of_its_own(suite, tmp_path):
    from dit_core.formats import read_peft

    cut_diff = rank_one(suite.load_diff(suite.diff(NEWS)), suite.model)
    write_peft(tmp_path / "rank-one", cut_diff, "tiny")
    read = read_peft(tmp_path / "rank-one")
    assert read.rank == 1 and deltas(read).keys() == deltas(cut_diff).keys()


def mean_effect(suite, name: str, layers: list[int]) -> dict[int, torch.Tensor]:
    """The formula of a DIT adapter's vectors, written out: one prompt and one layer at a time, by hooks alone."""
    load = AutoModelForCausalLM.from_pretrained
    base, changed = (load(suite.folder / "base", dtype=torch.float32).eval() for _ in range(2))
    with torch.no_grad():
        for module, change in deltas(suite.load_adapter(name)).items():
            changed.get_submodule(module).weight += change
    task = suite.task(suite.adapter(name).task)
    prompts = [suite.model.encode(question) for question in dict.fromkeys([task.question, *task.questions])]

    def last(model, layer: int) -> torch.Tensor:
        """<h_l> at the last position; `hidden_states` would have the final norm in its last place."""
        seen = []
        block = model.model.layers[layer]
        handle = block.register_forward_hook(
            lambda _block, _inputs, out: seen.append((out[0] if type(out) is tuple else out)[0, -1])
        )
        with torch.inference_mode():
            for prompt in prompts:
                model(input_ids=torch.tensor([prompt]))
        handle.remove()
        return torch.stack(seen).mean(0)

    vectors: dict[int, torch.Tensor] = {}
    for layer in layers:
        vectors[layer] = last(changed, layer) - last(base, layer)
        base.model.layers[layer].register_forward_hook(
            lambda _block, _inputs, out, vector=vectors[layer]: (
                (out[0] + vector, *out[1:]) if type(out) is tuple else out + vector
            )
        )
    return vectors


def test_a_dit_adapter_acts_as_the_vectors_of_its_mean_effect_beside_all_else(suite):
    own, dit = deltas(suite.load_diff(suite.diff("topic-0412"))), deltas(suite.load_adapter("topic"))
    both, one, news = (
        mean_effect(suite, "topic", [0, 1]),
        mean_effect(suite, "topic", [1]),
        mean_effect(suite, "headline", [0, 1]),
    )
    assert not torch.allclose(both[1], one[1], rtol=0.1), "or it would not matter whether layer 0 has its own"

    def times(number, *all_vectors):
        return {layer: number * sum(vectors[layer] for vectors in all_vectors) for layer in all_vectors[0]}

    wanted = {
        "base": ([], {}),
        "dit@vector": ([], both),
        "diff+dit@vector*2": ([(1, own)], times(2, both)),
        "dit@vector*0.5+layers:1-1": ([], times(0.5, one)),
        "diff+dit:headline@vector": ([(1, own)], news),
        "dit:headline@vector+dit:topic@vector": ([], times(1, both, news)),
        "diff*0.5+dit*2+dit@vector*1.5": ([(0.5, own), (2, dit)], times(1.5, both)),
        "diff+dit": ([(1, own), (1, dit)], {}),
    }
    ask(suite, "topic-0412", condition=list(wanted), question="Why?", max_new_tokens=1)  # which finds the vectors
    with forward_passes(suite) as passes:
        table = ask(suite, "topic-0412", condition=list(wanted), question="Why?")
    assert passes[0] == len(wanted) and len(passes) <= suite.max_new_tokens, "all of them are rows of one batch"
    assert [said.condition for said in table] == [str(Condition.parse(condition)) for condition in wanted]
    assert len({said.token_probabilities for said in table}) == len(wanted)
    for said, (parts, vectors) in zip(table, wanted.values(), strict=True):
        assert_said_by(suite, said, parts, vectors)
    assert ask(suite, "topic-0412", condition="base", question="Why?")[0].text == table[0].text
