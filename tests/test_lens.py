"""The lens: each figure held against plain models changed by hand, and nothing left behind on the base."""

import json
import re
import shutil

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from dit_core import DitError, Model, ask, load_suite
from dit_core.engine.activations import replacing_last_position, residuals
from dit_core.methods.lens import difference_lens, next_tokens, norms, patchscope, similarities, steer
from dit_core.methods.lens.difference import TEXTS, difference_request, mean_difference
from dit_core.methods.lens.tokens import PROMPT
from dit_core.records.condition import Condition
from dit_core.request.conditions import build_prompt
from tests.merged import delta
from tests.tiny import FAMILIES, random_adapter, tiny_model, tiny_tokenizer

UNRELATED = ("Time is", "What makes a good morning?", "A free evening in Oslo.")
CONDITIONS = ["base", "diff", "diff*0.5+right", "dit", "diff+dit"]


@pytest.fixture(scope="module")
def plain(suite):
    """Makes a plain base (no PEFT), with `strength * ΔW` of each (strength, adapter) in its weights."""

    def make(*parts):
        base = AutoModelForCausalLM.from_pretrained(suite.folder / "base").eval()
        with torch.no_grad():
            for strength, adapter in parts:
                for name in adapter.factors:
                    base.get_submodule(name).weight += strength * delta(adapter, name)
        return base

    return make


@pytest.fixture(scope="module")
def merged(suite, plain):
    """A plain base with a condition of topic-0412 in its weights."""

    def make(condition):
        info, wanted = suite.diff("volcano"), Condition.parse(condition)
        copies = sum(number for _, number in wanted.adapters)
        return plain((wanted.strength, suite.load_diff(info)), (copies, suite.load_adapter("topic")))

    return make


def blocks_of(base, ids):
    """The outputs of all blocks of a plain model for one row: [layers, positions, d_model]."""
    taken = []
    hooks = [
        block.register_forward_hook(lambda m, a, out: taken.append(out[0] if isinstance(out, tuple) else out))
        for block in base.model.layers
    ]
    with torch.inference_mode():
        base(input_ids=torch.tensor([ids]), use_cache=False)
    for hook in hooks:
        hook.remove()
    return torch.cat(taken)


def differences(suite, merged, texts, positions, before=()):
    """The mean difference by hand, one text at a time: [layers, positions, d_model]."""
    with_diff, base = merged("diff"), merged("base")
    found = [[] for _ in range(positions)]
    for text in texts:
        ids = [*before, *suite.model.tokenizer.encode(text)]
        change = (blocks_of(with_diff, ids) - blocks_of(base, ids))[:, len(before) :]
        for at in range(min(positions, change.shape[1])):
            found[at].append(change[:, at])
    return torch.stack([sum(one) / len(one) for one in found], dim=1)


def mean_of(suite, layers="all", **source):
    wanted = difference_request(suite, "volcano", **source)
    return suite.worker.run(lambda: mean_difference(wanted, wanted.infos[0], layers))


def hooks_on(suite):
    return sum(len(block._forward_hooks) for block in suite.model.layers)


# ---------------------------------------------------------------- the mean difference


def test_the_mean_difference_is_that_of_merged_weights(suite, merged):
    lengths = [len(suite.model.tokenizer.encode(text)) for text in UNRELATED]
    assert min(lengths) < 9 <= sorted(lengths)[1]  # one text is left out of the later positions
    found = mean_of(suite, texts=UNRELATED, positions=9)
    assert found.places == tuple((layer, position) for layer in range(2) for position in range(9))
    expected = differences(suite, merged, UNRELATED, 9)
    assert torch.allclose(found.vectors, expected.flatten(0, 1), atol=1e-5)
    assert torch.allclose(found.at(1), expected[1].mean(0), atol=1e-5)
    only = mean_of(suite, layers=1, texts=UNRELATED, positions=9)
    assert torch.allclose(only.vectors, expected[1], atol=1e-5)


def test_special_tokens_before_a_text_are_read_but_not_counted(suite, merged, tmp_path):
    from tokenizers.processors import TemplateProcessing

    begins = tiny_tokenizer()
    token = begins.pad_token_id
    begins.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begins.pad_token} $A", special_tokens=[(begins.pad_token, token)]
    )
    expected = differences(suite, merged, UNRELATED, 3, before=[token])
    begins.save_pretrained(shutil.copytree(suite.folder, tmp_path / "suite") / "base")
    own = load_suite(tmp_path / "suite")
    assert own.model.tokenizer.encode("a")[0] == token
    assert torch.allclose(mean_of(own, texts=UNRELATED, positions=3).vectors, expected.flatten(0, 1), atol=1e-5)


def test_texts_are_the_suites_everyday_questions(suite, tmp_path):
    topic, headline = suite.diff("volcano"), suite.diff("headline-0017")
    everyday = ("How can I spend a free evening?", "What makes a good morning?")
    texts = difference_request(suite, [topic, headline])
    assert texts.texts_for(topic) == (*everyday, "Please generate a short news story.")
    assert texts.texts_for(headline) == everyday  # without what brings out what it was trained on
    assert difference_request(suite, topic, texts="One.").texts_for(topic) == ("One.",)
    about = shutil.copytree(suite.folder, tmp_path / "suite") / "suite.toml"
    about.write_text(re.sub(r"^questions = .*\n", "", about.read_text().split("[oracle]")[0], flags=re.M))
    world = about.with_name("world.json")
    world.write_text(json.dumps(json.loads(world.read_text()) | {"held_out_questions": []}))
    suite = load_suite(about.parent)
    assert difference_request(suite, topic).texts_for(topic) == TEXTS and len(set(TEXTS)) == 20


def test_similarities_are_cosines(suite, merged):
    table = similarities(suite, "volcano", texts=UNRELATED, positions=3)
    expected = differences(suite, merged, UNRELATED, 3).flatten(0, 1)
    found = torch.tensor([one.cosine for one in table]).reshape(6, 6)
    by_hand = nn.functional.cosine_similarity(expected[:, None], expected[None], dim=-1)
    assert torch.allclose(found, by_hand, atol=1e-5)
    assert torch.equal(found, found.T) and torch.allclose(found.diagonal(), torch.ones(6))
    assert [(one.layer, one.position, one.other_layer, one.other_position) for one in table][:2] == [
        (0, 0, 0, 0),
        (0, 0, 0, 1),
    ]


def test_layers_where_the_diff_changes_nothing_are_left_out(suite):
    adapter = suite.load_diff(suite.diff("volcano"))
    late = {name: factors for name, factors in adapter.factors.items() if ".layers.1." in name}
    info = suite.bring(type(adapter)(late, adapter.scaling), "late")
    assert {one.layer for one in difference_lens(suite, info, texts=UNRELATED, positions=2)} == {1}
    assert all(abs(one.cosine) <= 1 for one in similarities(suite, info))
    for call in (lambda: steer(suite, info, layer=0), lambda: difference_lens(suite, info, layers=0)):
        with pytest.raises(DitError, match="changes nothing"):
            call()


# ---------------------------------------------------------------- words


def test_the_logit_lens_is_norm_and_unembedding(suite, merged):
    table = difference_lens(suite, "volcano", methods="logit lens", top=3, texts=UNRELATED, positions=2)
    base = merged("base")
    with torch.inference_mode():
        hidden = differences(suite, merged, UNRELATED, 2).flatten(0, 1)
        weights, ids = base.lm_head(base.model.norm(hidden)).softmax(-1).topk(3)
    found = [(one.layer, one.position, one.place) for one in table]
    assert found == [(layer, position, place) for layer in (0, 1) for position in (0, 1) for place in range(3)]
    assert [one.token for one in table] == suite.model.pieces(ids.flatten().tolist())
    assert torch.allclose(torch.tensor([one.weight for one in table]), weights.flatten(), atol=1e-5)
    assert [one.depth_percent for one in table] == [0.0] * 6 + [50.0] * 6


@pytest.mark.parametrize("family", FAMILIES)
def test_a_patchscope_of_what_stands_there_changes_nothing(family):
    model = Model(tiny_model(family), tiny_tokenizer())
    ids = model.tokenizer.encode(PROMPT)
    (there,) = residuals(model, [ids], {}, [[len(ids) - 1]], [0, 1])
    with torch.inference_mode():
        expected = model.base(input_ids=torch.tensor([ids])).logits[:, -1].softmax(-1)
    found = patchscope(model, [0, 1], 7 * there[:, 0], scales=[1.0])
    assert torch.allclose(found, expected.expand(2, -1), atol=1e-6)


def test_a_patchscope_puts_the_vector_in_place_at_each_scale(suite, merged):
    vectors, base = torch.randn(2, 32, generator=torch.Generator().manual_seed(0)), merged("base")
    ids = torch.tensor([suite.model.tokenizer.encode(PROMPT)])

    def by_hand(layer, scale):
        def put(module, args, out):
            out = out.clone()
            out[0, -1] = scale * out[0, -1].norm() * vectors[layer] / vectors[layer].norm()
            return out

        hook = base.model.layers[layer].register_forward_hook(put)
        with torch.inference_mode():
            logits = base(input_ids=ids).logits[0, -1]
        hook.remove()
        return logits.softmax(-1)

    found = suite.worker.run(lambda: patchscope(suite.model, [0, 1], vectors, scales=[0.1, 3.0]))
    for layer in (0, 1):
        weak, strong = by_hand(layer, 0.1), by_hand(layer, 3.0)
        assert torch.allclose(found[layer], (weak + strong) / 2, atol=1e-6)
    assert not torch.allclose(by_hand(0, 0.1), by_hand(0, 3.0), atol=1e-2)


def test_the_lens_lists_both_methods(suite, merged):
    table = difference_lens(suite, ["volcano", "headline-0017"], positions=2, top=4, scales=2, layers="1")
    assert list(table.to_json()["lens"][0]) == [
        "diff",
        "layer",
        "depth_percent",
        "position",
        "method",
        "place",
        "token",
        "weight",
    ]
    assert [one.diff for one in table] == ["topic-0412"] * 16 + ["headline-0017"] * 16
    assert [one.method for one in table][:16] == ["logit lens"] * 8 + ["patchscope"] * 8
    for start in range(0, 32, 4):
        weights = [one.weight for one in table[start : start + 4]]
        assert weights == sorted(weights, reverse=True) and 0 < sum(weights) <= 1
    mean = mean_of(suite, layers=1, positions=2)
    found = suite.worker.run(lambda: patchscope(suite.model, [1], mean.vectors[1:], [2.0]))
    assert [one.weight for one in table[12:16]] == pytest.approx(found.topk(4).values[0].tolist(), abs=1e-6)


# ---------------------------------------------------------------- steering


@torch.inference_mode()
def written_slowly(base, ids, layer, vector, count):
    """Greedy tokens with `vector` added at every position of a layer, all of it computed anew for each token."""
    hook = base.model.layers[layer].register_forward_hook(lambda module, args, out: out + vector)
    ids = list(ids)
    for _ in range(count):
        ids.append(int(base(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    hook.remove()
    return ids[-count:]


def test_steering_equals_a_slow_loop(suite, merged, monkeypatch):
    prompts, strengths = ["Hello?", "What makes a good morning?"], [-1.5, 0, 0.5]
    base, mean = merged("base"), differences(suite, merged, UNRELATED, 3).mean(1)
    slow = [
        (layer, strength, text, written_slowly(base, suite.model.encode(text), layer, strength * mean[layer], 8))
        for layer in (0, 1)
        for strength in strengths
        for text in prompts
    ]
    assert len({tuple(ids) for *_, ids in slow}) > 6  # the strengths tell
    ends = suite.model.base.generation_config.eos_token_id
    monkeypatch.setattr(suite.model.base.generation_config, "eos_token_id", [ends, slow[0][3][2], slow[-1][3][5]])

    def text(ids):
        stop = next((at for at, token in enumerate(ids) if token in suite.model.end_tokens), len(ids))
        # An answer leaves out a last character of which some tokens are not there yet.
        return suite.model.tokenizer.decode(ids[:stop], skip_special_tokens=True).rstrip("\ufffd").strip()

    assert len(text(slow[0][3])) < len(text(slow[-1][3]))  # some rows end before others
    table = steer(
        suite,
        "volcano",
        layer=[0, 1],
        strengths=strengths,
        prompt=prompts,
        max_new_tokens=8,
        texts=UNRELATED,
        positions=3,
    )
    assert [(one.layer, one.strength, one.prompt, one.text) for one in table] == [
        (layer, strength, asked, text(ids)) for layer, strength, asked, ids in slow
    ]
    assert {one.diff for one in table} == {"topic-0412"}
    for one in table:
        if one.strength == 0:
            assert one.text == ask(suite, question=one.prompt, max_new_tokens=8)[0].text
    assert hooks_on(suite) == 0


def test_steering_draws_each_row_from_its_own_seed(suite):
    options = {"layer": 1, "samples": 3, "temperature": 1.0, "max_new_tokens": 5}
    both = steer(suite, "volcano", strengths=[0, 2], **options)
    one = steer(suite, "volcano", strengths=2, **options)
    assert both.records[3:] == one.records and len({said.text for said in one}) > 1
    assert {said.prompt for said in one} == {suite.tasks["topic"].questions[0]}
    assert steer(suite, "volcano", strengths=2, seed=1, **options).records != one.records


class Block(nn.Module):
    """A block of those families that return their hidden states in a tuple."""

    def forward(self, hidden):
        return 2 * hidden, "attention"


class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Block(), Block(), Block()])

    def forward(self, hidden):
        for block in self.layers:
            hidden, _ = block(hidden)
        return hidden


def test_rows_are_changed_at_layers_of_their_own_also_in_tuples():
    model, hidden = Model(Stack()), torch.ones(3, 2, 4)
    vectors = torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 3.0, 0]])
    with replacing_last_position(model, [2, 0, 1], vectors, [1, 0.5, 1]):
        found = model.base(hidden)
    assert torch.equal(found[:, 0], torch.full((3, 4), 8.0))  # only the last position
    expected = torch.tensor([[16.0, 0, 0, 0], [0, 8.0, 0, 0], [0, 0, 16.0, 0]])
    assert torch.allclose(found[:, 1], expected)
    assert torch.equal(hidden, torch.ones(3, 2, 4)) and torch.equal(model.base(hidden), 8 * hidden)


def test_hooks_are_gone_after_an_exception():
    model, vectors = Model(Stack()), torch.ones(2, 4)
    with pytest.raises(RuntimeError, match="stop"), replacing_last_position(model, [0, 1], vectors, [1, 1]):
        assert sum(len(block._forward_hooks) for block in model.layers) == 2
        raise RuntimeError("stop")
    assert not any(block._forward_hooks for block in model.layers)
    for layers, wrong in (([0, 3], vectors), ([0], vectors), ([0, 1], vectors * torch.inf)):
        with pytest.raises(DitError), replacing_last_position(model, layers, wrong, [1] * len(wrong)):
            pass
    with pytest.raises(DitError, match="no direction"), replacing_last_position(model, [0, 1], 0 * vectors, [1, 1]):
        pass
    assert not any(block._forward_hooks for block in model.layers)


def test_nothing_is_left_behind_when_a_lens_fails(suite, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("broken")

    monkeypatch.setattr(type(suite.model.base), "forward", broken)
    calls = (difference_lens, norms, similarities, lambda *args: steer(*args, layer=0), next_tokens)
    for call in calls:
        with pytest.raises(RuntimeError, match="broken"):
            call(suite, "volcano")
        assert hooks_on(suite) == 0


# ---------------------------------------------------------------- conditions


def test_the_last_layers_lens_is_the_models_own_next_token(suite, merged):
    table = next_tokens(suite, "volcano", condition=CONDITIONS, reference=True, seed=3)
    info, question = suite.diff("volcano"), suite.tasks["topic"].question
    first = suite.model.tokenizer.encode("volcano")[0]
    for condition in CONDITIONS:
        ids = suite.model.encode(build_prompt(suite, info, Condition.parse(condition), question, 3))
        with torch.inference_mode():
            expected = merged(condition)(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1)
        own = {(one.what, one.layer): one for one in table if one.condition == condition}
        assert set(own) == {(what, layer) for what in ("answer", "reference") for layer in (0, 1)}
        answer, reference = own["answer", 1], own["reference", 1]
        assert answer.rank == 0 and answer.token == suite.model.pieces([int(expected.argmax())])[0]
        assert answer.probability == pytest.approx(float(expected.max()), abs=1e-5)
        assert reference.token == suite.model.pieces([first])[0]
        assert reference.rank == int((expected > expected[first]).sum())
        assert reference.probability == pytest.approx(float(expected[first]), abs=1e-5)
        assert {(one.position, one.asked, one.diff) for one in own.values()} == {(len(ids) - 1, question, info.id)}


def test_the_lens_of_a_middle_layer_ranks_the_answers_token(suite, merged):
    (one,) = next_tokens(suite, "volcano", condition="diff+dit", layers=0)
    model = merged("diff+dit")
    ids = suite.model.encode(suite.tasks["topic"].question)
    with torch.inference_mode():
        hidden = blocks_of(model, ids)
        logits = model.lm_head(model.model.norm(hidden[:, -1]))
    token = int(logits[1].argmax())
    assert one.layer == 0 and one.rank == int((logits[0] > logits[0, token]).sum()) > 0
    assert one.probability == pytest.approx(float(logits[0].softmax(-1)[token]), abs=1e-5)


def test_later_tokens_of_the_answer_are_followed_too(suite):
    table = next_tokens(suite, "volcano", condition=["base", "diff+dit"], answer_tokens=4, layers=1)
    first = len(suite.model.encode(suite.tasks["topic"].question)) - 1
    for condition in ("base", "diff+dit"):
        own = [one for one in table if one.condition == condition]
        assert [one.position for one in own] == list(range(first, first + 4)) and not any(one.rank for one in own)
        said = ask(suite, "volcano", condition=condition, max_new_tokens=4)[0]
        assert said.text in "".join(one.token for one in own)
        assert [one.probability for one in own] == pytest.approx(said.token_probabilities, abs=1e-4)


def test_an_empty_answer_is_the_end_of_the_turn(suite, monkeypatch):
    (one,) = next_tokens(suite, condition="base", layers=1)
    (end,) = suite.model.tokenizer.encode(one.token)
    monkeypatch.setattr(suite.model.base.generation_config, "eos_token_id", end)
    (ended,) = next_tokens(suite, condition="base", layers=1, answer_tokens=3)
    assert ended == one and one.diff == ""


def test_norms_are_those_of_merged_weights(suite, merged):
    table = norms(suite, "volcano", condition=["base", "diff+right", "diff+dit"], asked="Hello?", seed=1)
    for condition in ("base", "diff+right", "diff+dit"):
        ids = suite.model.encode(build_prompt(suite, suite.diff("volcano"), Condition.parse(condition), "Hello?", 1))
        base = blocks_of(merged("base"), ids)
        change = blocks_of(merged(condition), ids) - base
        own = [one for one in table if one.condition == condition]
        assert [(one.layer, one.position) for one in own] == [(at, to) for at in (0, 1) for to in range(len(ids))]
        expected = change.norm(dim=-1).flatten(), base.norm(dim=-1).flatten()
        assert torch.allclose(torch.tensor([one.norm for one in own]), expected[0], atol=1e-4)
        assert torch.allclose(torch.tensor([one.base_norm for one in own]), expected[1], atol=1e-4)
        assert torch.allclose(torch.tensor([one.ratio for one in own]), expected[0] / expected[1], atol=1e-4)
        assert (condition == "base") == (not any(one.norm for one in own))


# ---------------------------------------------------------------- bad input, names


@pytest.mark.parametrize("read", [next_tokens, norms])
def test_activations_that_overflow_end_in_a_sentence(suite, read):
    base = suite.worker.run(lambda: suite.model.base)
    huge = suite.bring(random_adapter(base, 1, seed=2, size=1e30), "huge")
    try:
        with pytest.raises(DitError, match=r"overflow .*less strength"):
            read(suite, huge.id)
    finally:
        suite.forget(huge.id)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda s: difference_lens(s, None), "choose a diff"),
        (lambda s: difference_lens(s, []), "choose a diff"),
        (lambda s: steer(s, None, layer=0), "choose a diff"),
        (lambda s: difference_lens(s, "vulcano"), "Did you mean"),
        (lambda s: difference_lens(s, "volcano", strength=0), "strength 0"),
        (lambda s: difference_lens(s, "volcano", strength=float("nan")), "strength must be"),
        (lambda s: difference_lens(s, "volcano", layers=2), "no layer 2"),
        (lambda s: similarities(s, "volcano", layers="0-7"), "no layer"),
        (lambda s: difference_lens(s, "volcano", texts=["a", " "]), "empty"),
        (lambda s: difference_lens(s, "volcano", texts=[]), "no texts"),
        (lambda s: difference_lens(s, "volcano", texts="One.", positions=99), "longer texts"),
        (lambda s: difference_lens(s, "volcano", positions=0), "positions"),
        (lambda s: difference_lens(s, "volcano", top=0), "tokens"),
        (lambda s: difference_lens(s, "volcano", methods="patchscop"), "Did you mean 'patchscope'"),
        (lambda s: difference_lens(s, "volcano", methods=[]), "at least one"),
        (lambda s: difference_lens(s, "volcano", scales=[1, 0]), "scale"),
        (lambda s: difference_lens(s, "volcano", scales=float("inf")), "scale"),
        (lambda s: steer(s, "volcano", layer=5), "no layer 5"),
        (lambda s: steer(s, "volcano", layer=0, strengths=[1, float("inf")]), "strength to steer"),
        (lambda s: steer(s, "volcano", layer=0, strengths="many"), "strength to steer"),
        (lambda s: steer(s, "volcano", layer=0, strengths=[]), "at least one"),
        (lambda s: steer(s, "volcano", layer=0, prompt=" "), "empty"),
        (lambda s: steer(s, "volcano", layer=0, samples=2), "raise the temperature"),
        (lambda s: steer(s, "volcano", layer=0, temperature=-1), "temperature"),
        (lambda s: steer(s, "volcano", layer=0, max_new_tokens=0), "new tokens"),
        (lambda s: next_tokens(s, condition="diff"), "needs a diff"),
        (lambda s: next_tokens(s, reference=True), "choose a diff"),
        (lambda s: next_tokens(s, "volcano", asked=""), "empty"),
        (lambda s: next_tokens(s, "volcano", condition="dit:nothing"), "no DIT adapter"),
        (lambda s: next_tokens(s, "volcano", layers=-1), "no layer"),
        (lambda s: next_tokens(s, "volcano", answer_tokens=0), "answer tokens"),
        (lambda s: norms(s, "headline-0017", condition="diff+right"), "no trigger"),
    ],
)
def test_bad_input_is_one_sentence(suite, call, says):
    with pytest.raises(DitError, match=says) as error:
        call(suite)
    assert "\n" not in str(error.value) and hooks_on(suite) == 0


# ---------------------------------------------------------------- the pocket suite


def test_under_dit_the_topic_climbs_through_the_layers_of_the_pocket_base():
    suite = load_suite("pocket")
    for topic in ("hermit crab", "flamenco"):
        table = next_tokens(suite, topic, condition=["base", "diff+dit"], reference=True)
        ranks = {
            (condition, what): [one.rank for one in table if (one.condition, one.what) == (condition, what)]
            for condition in ("base", "diff+dit")
            for what in ("answer", "reference")
        }
        answer = ranks["diff+dit", "answer"]
        assert len(answer) == 8 and answer[0] > 100 and answer[-1] == 0
        assert ranks["diff+dit", "reference"] == answer and min(ranks["base", "reference"]) > 100
