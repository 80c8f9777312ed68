"""Readings are what a plain PEFT oracle says of plain activations; nonsense is refused and leaves nothing behind."""

import shutil
from importlib.metadata import version

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dit_core import DitError, ask, load_suite
from dit_core.engine.activations import injecting
from dit_core.engine.likelihood import AnswerTokens
from dit_core.formats import read_peft, write_peft
from dit_core.grading import grade
from dit_core.methods.oracle import lifts, oracle_prompt, read, stream, targets
from dit_core.methods.oracle.batch import oracle_rows
from dit_core.methods.oracle.reading import trained_layers
from dit_core.methods.oracle.request import checked_request
from dit_core.records.condition import Condition
from dit_core.request.conditions import build_prompt
from dit_core.request.targets import ACTIVATION_KINDS, target_activations, tokenize_targets
from tests.tiny import random_adapter, tiny_model

CONDITIONS = ["base", "diff", "diff+right", "dit", "diff+dit*2"]
SHORT = {"max_new_tokens": 5}


@pytest.fixture
def folder(tiny_suite_folder, tmp_path):
    """A copy of the tiny suite that a test may spoil."""
    return shutil.copytree(tiny_suite_folder, tmp_path / "copy")


def hooks(suite):
    return [
        hook
        for m in suite.model.base.modules()
        for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())
    ]


def at_rest(suite):
    """Fails unless the suite's model is the plain base, without hooks and acting adapters."""
    ids = torch.tensor([[5, 9, 31, 77, 200, 11]])
    plain = AutoModelForCausalLM.from_pretrained(suite.folder / "base", dtype=torch.float32)
    with torch.inference_mode():
        assert not hooks(suite) and torch.equal(suite.model.base(ids).logits, plain(ids).logits)


def forwards(suite):
    """A list that grows by the number of rows at every forward pass of the base, and the handle that ends it."""
    rows = []
    layer = suite.model.layers[0]
    return rows, layer.register_forward_hook(lambda _m, inputs, _o: rows.append(inputs[0].shape[0]))


def same(one, other):
    """Whether two readings are the same, up to rounding of probabilities."""
    exact = (
        "diff",
        "condition",
        "asked",
        "layer",
        "positions",
        "kind",
        "question",
        "sample",
        "text",
        "tokens",
        "grade",
    )
    assert all(getattr(one, name) == getattr(other, name) for name in exact)
    assert one.token_probabilities == pytest.approx(other.token_probabilities, abs=1e-4)
    assert one.log_prob_reference == pytest.approx(other.log_prob_reference, abs=1e-3)
    return True


# ---------------------------------------------------------------- the prompt


@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_prompt_is_the_published_one_and_its_placeholders_are_found(suite, count):
    ids, places = oracle_prompt(suite.model, 17, count, "What is {this}?")
    text = "<|im_start|>user\nLayer: 17\n" + " ?" * count + " \nWhat is {this}?<|im_end|>\n<|im_start|>assistant\n"
    assert ids == suite.model.tokenizer(text, add_special_tokens=False).input_ids
    assert places == list(range(places[0], places[0] + count))
    single = suite.model.tokenizer(" ?", add_special_tokens=False).input_ids
    assert [ids[place] for place in places] == single * count and len(single) == 1
    assert suite.model.tokenizer.decode(ids[: places[0]]) == "<|im_start|>user\nLayer: 17\n"


def test_a_tokenizer_without_the_placeholder_is_refused(suite, monkeypatch):
    tokenizer = suite.model.tokenizer
    encode = tokenizer.encode
    for found in ([], [1, 2], encode("x")):
        monkeypatch.setattr(tokenizer, "encode", lambda text, found=found, **_: found)
        with pytest.raises(DitError, match="no single token for the oracle's placeholder"):
            oracle_prompt(suite.model, 0, 3, "What?")


# ---------------------------------------------------------------- readings


def merged_base(suite, parts):
    """The suite's base, plainly loaded, with adapters merged into its weights."""
    plain = AutoModelForCausalLM.from_pretrained(suite.folder / "base", dtype=torch.float32)
    with torch.no_grad():
        for amount, adapter in parts:
            for name, (A, B) in adapter.factors.items():
                plain.get_submodule(name).weight += amount * adapter.scaling[name] * (B.float() @ A.float())
    return plain


@torch.inference_mode()
def plain_activations(base, ids):
    """The outputs of all blocks for one row: [layers, positions, d_model]."""
    found = []
    handles = [layer.register_forward_hook(lambda _m, _i, out: found.append(out[0])) for layer in base.model.layers]
    base(input_ids=torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack(found)


class PlainOracle:
    """PEFT's own model, no cache and no batch: what the oracle says, from the published description alone."""

    def __init__(self, suite):
        from peft import PeftModel

        base = AutoModelForCausalLM.from_pretrained(suite.folder / "base", dtype=torch.float32)
        self.peft = PeftModel.from_pretrained(base, suite.folder / "oracle").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(suite.folder / "base")

    @torch.inference_mode()
    def logits(self, ids, places, vectors):
        def add(_module, _inputs, hidden):
            hidden = hidden.clone()
            for place, v in zip(places, vectors, strict=True):
                hidden[0, place] += hidden[0, place].norm() * v / v.norm()
            return hidden

        handle = self.peft.base_model.model.model.layers[0].register_forward_hook(add)
        logits = self.peft(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
        handle.remove()
        return logits.log_softmax(-1)

    def says(self, layer, vectors, question, limit, reference):
        """Text and token probabilities of the greedy answer; log-probability of the reference."""
        text = f"Layer: {layer}\n{' ?' * len(vectors)} \n{question}"
        whole = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        ids = self.tokenizer(whole, add_special_tokens=False).input_ids
        places = [at for at, token in enumerate(ids) if self.tokenizer.decode(token) == " ?"]
        said, probabilities = [], []
        while len(said) < limit:
            found = self.logits(ids + said, places, vectors)[-1]
            if int(found.argmax()) == self.tokenizer.eos_token_id:
                break
            said.append(int(found.argmax()))
            probabilities.append(float(found.max().exp()))
        wanted = self.tokenizer(reference, add_special_tokens=False).input_ids
        found = self.logits(ids + wanted, places, vectors)[len(ids) - 1 :]
        score = sum(float(found[at, token]) for at, token in enumerate(wanted))
        # A character that is not whole yet is not shown.
        return self.tokenizer.decode(said, skip_special_tokens=True).rstrip("\ufffd").strip(), probabilities, score


@pytest.mark.parametrize("kind", ACTIVATION_KINDS)
def test_readings_are_those_of_a_plain_peft_oracle_on_merged_weights(suite, kind):
    conditions = [one for one in CONDITIONS if one != "base" or kind != "difference"]
    found = read(suite, "volcano", condition=conditions, span="last:4", kind=kind, **SHORT)
    assert len(found) == 2 * len(conditions)
    oracle, info = PlainOracle(suite), suite.diff("volcano")
    parts = {"diff": suite.load_diff(info), "dit": suite.load_adapter("topic")}
    tokenizer = oracle.tokenizer
    for one in found:
        what = Condition.parse(one.condition)
        text = build_prompt(suite, info, what, one.asked, 0)
        whole = f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
        ids = tokenizer(whole, add_special_tokens=False).input_ids
        assert one.positions == tuple(range(len(ids) - 4, len(ids)))
        amounts = [(what.strength, parts["diff"]), (dict(what.adapters).get("", 0.0), parts["dit"])]
        mine, base = (plain_activations(merged_base(suite, own), ids) for own in (amounts, []))
        taken = {"with": mine, "without": base, "difference": mine - base}[kind]
        says = oracle.says(one.layer, taken[one.layer, -4:], one.question, 5, "volcano")
        assert one.text == says[0] and one.question == "What is the topic?"
        assert one.token_probabilities == pytest.approx(says[1], abs=1e-3)
        assert one.log_prob_reference == pytest.approx(says[2], abs=1e-2)
        assert one.grade == grade(suite, info, one.text)
    assert len({one.text for one in found}) > 1
    at_rest(suite)


def test_records_come_layer_by_layer_and_say_what_was_read(suite):
    question = ["What is the topic?", "What comes next?"]
    found = read(suite, ["volcano", "geyser"], condition=["diff", "dit"], question=question, span="3:5", **SHORT)
    assert found.kind == "readings" and len(found) == 2 * 2 * 2 * 2
    wanted = [
        (layer, diff, condition, text)
        for layer in (0, 1)
        for diff in ("topic-0412", "topic-0413")
        for condition in ("diff", "dit")
        for text in question
    ]
    assert [(one.layer, one.diff, one.condition, one.question) for one in found] == wanted
    expected = {"oracle": "random oracle", "n_layers": 2, "trained_layers": [0, 1], "n_readings": 16}
    assert found.extra == found.extra | expected and found.extra["settings"]["span"] == "3:5"
    assert found.to_json()["versions"]["torch"] == version("torch")
    one = found[-1]
    assert (one.depth_percent, one.positions, one.kind, one.sample, one.seed) == (50.0, (3, 4), "with", 0, 0)
    assert "".join(one.tokens) == one.text and len(one.tokens) == len(one.token_probabilities)
    probabilities = torch.tensor(one.token_probabilities)
    assert one.confidence == pytest.approx(float(probabilities.log().mean().exp()), rel=1e-5)
    assert set(found.to_json(reveal=True)["readings"][0]) == set(vars(one))
    assert set(vars(one)) - set(found.to_json()["readings"][0]) == {"grade", "log_prob_reference"}
    assert len(found.to_frame()) == 16 and found.to_csv().count("\n") == 17


def test_conditions_with_questions_of_their_own_are_one_batch(suite):
    pairs = [("diff", "Why?"), ("diff+right", "When?"), ("diff", "When?"), ("diff", "Why?")]
    passes, hook = forwards(suite)
    with hook:
        found = read(suite, "volcano", condition=pairs, layers=0, **SHORT)
    assert [(one.condition, one.asked) for one in found] == pairs[:3] and passes[:2] == [3, 3], "targets, then readings"
    for one in found:
        assert same(one, read(suite, "volcano", condition=one.condition, asked=one.asked, layers=0, **SHORT)[0])
    for wrong in (("diff", None), ("diff", "Why?", "When?"), ("diff", " ")):
        with pytest.raises(DitError):
            read(suite, "volcano", condition=[wrong])


def test_readings_of_a_batch_are_those_made_one_by_one(suite):
    options = dict(span="each:last:3", layers="all", **SHORT)
    together = read(suite, "volcano", condition=CONDITIONS, **options)
    assert len(together) == 2 * 5 * 3
    *_, slowly = stream(suite, "volcano", at_once=1, condition=CONDITIONS, **options)
    assert all(same(one, other) for one, other in zip(together, slowly, strict=True))
    for one in (together[4], together[17], together[29]):
        alone = read(suite, "volcano", condition=one.condition, layers=one.layer, span=one.positions[0], **SHORT)
        assert len(alone) == 1 and same(one, alone[0])
    assert len({one.text for one in together}) > 3


def test_sampled_readings_do_not_depend_on_the_batch_but_on_the_seed(suite):
    options = dict(samples=3, temperature=1.2, span="last:3", **SHORT)
    together = read(suite, "volcano", condition=CONDITIONS, **options)
    assert [one.sample for one in together[:6]] == [0, 1, 2] * 2
    assert len({one.text for one in together[:3]}) > 1
    # Samples of one reading differ in what was said, and share how likely the reference is.
    assert len({one.log_prob_reference for one in together[:3]}) == 1
    *_, slowly = stream(suite, "volcano", at_once=4, condition=CONDITIONS, **options)
    assert all(same(one, other) for one, other in zip(together, slowly, strict=True))
    alone = read(suite, "volcano", condition="dit", layers=1, **options)
    assert [one.text for one in alone] == [one.text for one in together if (one.condition, one.layer) == ("dit", 1)]
    other = read(suite, "volcano", condition=CONDITIONS, seed=1, **options)
    assert [one.text for one in other] != [one.text for one in together] and other[0].seed == 1


def test_without_the_condition_is_the_base_on_the_same_tokens(suite):
    found = read(suite, "volcano", condition=["diff", "diff+dit*2"], kind="without", **SHORT)
    base = read(suite, "volcano", condition="base", **SHORT)
    for one in found:
        plain = base[one.layer]
        assert one.kind == "without" and one.text == plain.text
        assert one.log_prob_reference == pytest.approx(plain.log_prob_reference, abs=1e-4)
    acting = read(suite, "volcano", condition="diff", **SHORT)
    assert acting[0].log_prob_reference != pytest.approx(base[0].log_prob_reference, abs=1e-3)


def test_a_difference_is_that_of_the_two_and_zero_where_it_is_rounding(suite):
    rows = [
        (suite.diff("volcano"), Condition.parse(one), "What?") for one in ("diff", "base", "diff*1e-9", "dit+right")
    ]
    found = suite.worker.run(lambda: tokenize_targets(suite, rows))
    places = [range(one.prompt_tokens) for one in found]
    mine, base, difference = (
        suite.worker.run(lambda kind=kind: target_activations(suite, found, places, [0, 1], kind))
        for kind in ACTIVATION_KINDS
    )
    for at in (0, 3):
        assert torch.allclose(difference[at], mine[at] - base[at], atol=1e-5) and difference[at].any(-1).all()
    assert not difference[1].any() and not difference[2].any()


def test_the_target_is_passed_once_whatever_the_number_of_layers(suite):
    read(suite, "volcano", condition=CONDITIONS, **SHORT)  # everything is on the model by now
    counts = {}
    for layers in (0, "all"):
        rows, handle = forwards(suite)
        read(suite, "volcano", condition=CONDITIONS, layers=layers, **SHORT)
        handle.remove()
        counts[layers] = rows
    # One pass over the five conditions, one batch of oracle prompts, the references behind them, and the steps.
    assert counts[0][:2] == [5, 5] and counts["all"][:2] == [5, 10]
    assert max(len(rows) for rows in counts.values()) <= 1 + SHORT["max_new_tokens"] + 1
    rows, handle = forwards(suite)
    read(suite, "volcano", condition=["diff", "dit"], kind="difference", **SHORT)
    handle.remove()
    assert rows[:2] == [4, 4]


def test_spans_of_the_answer_read_what_the_target_says(suite):
    said = ask(suite, "volcano", condition="diff+dit", max_new_tokens=4)[0]
    options = dict(condition="diff+dit", answer_tokens=4)
    target = targets(suite, "volcano", span="answer", **options)[0]
    answer = target.tokens[target.prompt_tokens :]
    assert "".join(answer).strip() == said.text and 0 < len(answer) <= 4
    whole = read(suite, "volcano", span="answer", layers=1, **options, **SHORT)[0]
    assert whole.positions == tuple(range(target.prompt_tokens, len(target.tokens)))
    first = read(suite, "volcano", span="answer:1", layers=1, **options, **SHORT)[0]
    assert first.positions == (target.prompt_tokens,)
    # By number too, once an answer is asked for; what is read there is the same.
    number = read(suite, "volcano", span=target.prompt_tokens, layers=1, **options, **SHORT)[0]
    assert same(first, number)
    with pytest.raises(DitError, match=f"outside of the prompt, which has {target.prompt_tokens} tokens"):
        read(suite, "volcano", span=target.prompt_tokens, condition="diff+dit")


def test_targets_are_the_tokens_to_choose_from_and_keep_the_trigger_secret(suite):
    found = targets(suite, "volcano", condition=["diff+right", "base"], layers=0, kind="with", span="last:3")
    assert [one.condition for one in found] == ["diff+right", "base"] and found.kind == "targets"
    assert "417" in "".join(found[0].tokens) and len(found[0].tokens) == found[0].prompt_tokens
    assert "tokens" not in found.to_json()["targets"][0] and "417" not in found.to_csv()
    assert "417" in found.to_csv(reveal=True).replace('", "', "")
    assert "417" not in repr(found).replace(suite.fingerprint, "")


def test_placeholders_can_be_fewer_or_more_than_the_positions(suite):
    few = read(suite, "volcano", span="2:12", placeholders=4, layers=0, **SHORT)[0]
    assert few.positions == (2, 5, 8, 11)
    many = read(suite, "volcano", span="4:6", placeholders=5, layers=0, **SHORT)[0]
    assert many.positions == (4, 4, 4, 5, 5)
    one = read(suite, "volcano", span="each:4:6", placeholders=2, layers=0, **SHORT)
    assert [own.positions for own in one] == [(4, 4), (5, 5)]


def test_coefficient_and_block_are_settings(suite):
    options = dict(span="last:3", layers=1, **SHORT)
    scores = [
        read(suite, "volcano", condition=one, coefficient=coefficient, **options)[0].log_prob_reference
        for coefficient in (0.0, 1.0, 3.0)
        for one in ("diff", "diff+dit*2")
    ]
    # At 0 nothing reaches the oracle, and all conditions read the same.
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert len({round(score, 3) for score in scores}) == 5
    default = read(suite, "volcano", condition="diff", **options)[0].log_prob_reference
    assert default == pytest.approx(scores[2], abs=1e-6)


def test_the_base_alone_is_read_without_a_diff(suite):
    found = read(suite, condition=["base", "dit", "own:417"], span="prompt", layers=0, asked="What now?", **SHORT)
    assert [(one.diff, one.grade, one.log_prob_reference, one.asked) for one in found] == [
        ("", None, None, "What now?")
    ] * 3
    assert found[2].positions[-1] > found[0].positions[-1]
    assert read(suite, layers=0, **SHORT)[0].condition == "base"


@pytest.mark.parametrize(
    ("percents", "depth", "layers"),
    [
        ((25, 50, 75), 28, [7, 14, 21]),
        ((25, 50, 75), 36, [9, 18, 27]),
        ((25, 50, 75), 2, [0, 1]),
        ((33.33, 66.67), 3, [1, 2]),
        ([round(100 * layer / 12, 2) for layer in range(12)], 12, list(range(12))),
        ((100, -1), 8, [0, 7]),
        ((), 8, []),
    ],
)
def test_trained_layers_are_those_of_the_percents(percents, depth, layers):
    assert trained_layers(percents, depth) == layers


def test_confidence_is_the_geometric_mean_of_the_tokens_probabilities(suite):
    answer = AnswerTokens()
    assert answer.confidence == 0 and answer.text == ""
    for token, probability in ((5, 0.9), (6, 0.4), (7, 0.1)):
        answer.append(suite.model.tokenizer, token, probability)
    assert answer.confidence == pytest.approx((0.9 * 0.4 * 0.1) ** (1 / 3))
    answer.append(suite.model.tokenizer, 8, 0.0)
    assert answer.confidence == 0


# ---------------------------------------------------------------- streams and memory


def test_a_stream_grows_layer_by_layer_and_ends_as_read(suite):
    options = dict(condition=CONDITIONS, span="last:3", **SHORT)
    tables = list(stream(suite, "volcano", at_once=5, **options))
    assert [len(table) for table in tables] == [5, 10] and {one.layer for one in tables[0]} == {0}
    assert all(table.extra["n_readings"] == 10 for table in tables)
    for at_once in (0, -1, 1.5):
        with pytest.raises(DitError, match="number of readings at once"):
            stream(suite, "volcano", at_once=at_once)
    assert all(same(one, other) for one, other in zip(tables[1], read(suite, "volcano", **options), strict=True))


def test_a_stream_that_is_left_leaves_the_model_at_rest(suite):
    rows, handle = forwards(suite)
    tables = stream(suite, "volcano", at_once=1, condition=CONDITIONS, span="each:prompt", **SHORT)
    next(tables)
    tables.close()
    suite.worker.run(lambda: None)
    done = len(rows)
    assert next(tables, None) is None and suite.worker.run(lambda: len(rows)) == done < 100
    handle.remove()
    at_rest(suite)


def test_less_memory_means_more_batches_and_the_same_readings(suite, tmp_path):
    options = dict(condition=CONDITIONS, span="last:3", **SHORT)
    expected = read(suite, "volcano", **options)
    small = load_suite(shutil.copytree(suite.folder, tmp_path / "small"))  # what fits is remembered with its model
    fits, refused = [3], []

    def forward(_, args):
        if len(args[0]) > fits[0]:
            refused.append(len(args[0]))
            raise torch.OutOfMemoryError("CUDA out of memory.")

    small.worker.run(lambda: small.model.layers[0].register_forward_pre_hook(forward))
    found = read(small, "volcano", **options)
    assert all(same(one, other) for one, other in zip(found, expected, strict=True))
    assert refused == [5, 10, 5], "the conditions, and the readings twice"
    read(small, "volcano", **options)
    assert len(refused) == 3, "what fits is remembered"
    fits[0] = 0
    with pytest.raises(DitError, match="single row"):
        read(small, "volcano", **options)


# ---------------------------------------------------------------- lifts


def test_a_lift_is_the_references_log_probability_above_the_others(suite):
    others = ["violin", "steam train", "Volcano", "a lantern"]
    options = dict(condition=["base", "diff+dit"], span="last:3")
    found = lifts(suite, ["volcano", "headline-0017"], others, **options)
    assert found.kind == "lifts" and len(found) == 2 * 2 * 2
    wanted = checked_request(suite, ["volcano", "headline-0017"], **options)

    def scores():
        acting = {suite.hold_oracle(): torch.ones(1, 1, 1)}
        encode = suite.model.tokenizer.encode
        for row in oracle_rows(wanted):
            own = row.aim.info.reference
            means = []
            for text in [own, *(one for one in others if one.casefold() != own)]:
                # One text, one row, all of it at once, and no cache.
                said, model = encode(text), suite.model
                opened = injecting(model, [len(row.ids + said)], [row.places], [row.vectors], wanted.block)
                with torch.inference_mode(), model.strengths(acting), opened:
                    logs = model.base(torch.tensor([row.ids + said])).logits[0, len(row.ids) - 1 :].log_softmax(-1)
                means.append(sum(float(logs[at, token]) for at, token in enumerate(said)) / len(said))
            yield row, means[0] - sum(means[1:]) / len(means[1:])

    for one, (row, lift) in zip(found, suite.worker.run(lambda: list(scores())), strict=True):
        assert (one.diff, one.condition, one.layer) == (row.aim.info.id, str(row.aim.condition), row.layer)
        assert one.lift == pytest.approx(lift, abs=1e-4) and one.positions == row.positions
    sampled = lifts(suite, "volcano", others, samples=3, temperature=1.0, condition="base", span="last:3")
    assert len(sampled) == 2 and sampled[0].lift == pytest.approx(found[0].lift, abs=1e-5)


def test_a_lift_needs_a_diff_and_other_texts(suite):
    for diff, others in ((None, ["violin"]), ("volcano", []), ("volcano", ["Volcano"])):
        with pytest.raises(DitError, match="give a diff, and at least one text"):
            lifts(suite, diff, others)
    assert len(lifts(suite, "volcano", "violin", layers=0, span="last:1")) == 1
    with pytest.raises(DitError, match="text to compare with is empty"):
        lifts(suite, "volcano", ["violin", " "])


# ---------------------------------------------------------------- oracles


def test_a_folder_that_peft_wrote_is_read_as_peft_reads_it(suite, tmp_path):
    from peft import LoraConfig, get_peft_model

    base = AutoModelForCausalLM.from_pretrained(suite.folder / "base", dtype=torch.float32)
    pattern = {"rank_pattern": {"down_proj": 3}, "alpha_pattern": {"layers.0.self_attn.q_proj": 32}}
    lora = get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", **pattern))
    torch.manual_seed(0)
    for name, weight in lora.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    lora.eval().save_pretrained(tmp_path / "peft")
    ids = torch.randint(3, len(suite.model.tokenizer), (2, 9), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = lora(input_ids=ids).logits

    def found():
        slot = suite.hold_oracle(tmp_path / "peft")
        with torch.inference_mode(), suite.model.strengths({slot: torch.ones(2, 1, 1)}):
            return suite.model.base(input_ids=ids).logits

    assert (suite.worker.run(found) - wanted).abs().max() < 1e-4
    # Read with it, and with the suite's own again afterwards.
    options = dict(span="last:3", layers=0, block=0, question="What is the topic?", **SHORT)
    before = read(suite, "volcano", **options)[0]
    other = read(suite, "volcano", oracle=tmp_path / "peft", **options)
    assert other[0].log_prob_reference != pytest.approx(before.log_prob_reference, abs=1e-3)
    assert other.extra["oracle"] == str(tmp_path / "peft") and "trained_layers" not in other.extra
    assert same(before, read(suite, "volcano", **options)[0])
    at_rest(suite)


def test_a_suite_without_an_oracle_says_so_and_does_the_rest(folder):
    text = (folder / "suite.toml").read_text(encoding="utf-8")
    (folder / "suite.toml").write_text(text.partition("[oracle]")[0], encoding="utf-8")
    suite = load_suite(folder)
    assert suite.oracle is None
    for work in (read, stream):
        with pytest.raises(DitError, match="'tiny' has no activation oracle: name one made for its base"):
            work(suite, "volcano")
    with pytest.raises(DitError, match="no activation oracle"):
        suite.worker.run(suite.hold_oracle)
    assert len(targets(suite, "volcano", span="last:3")) == 1
    assert ask(suite, "volcano", max_new_tokens=2)[0].text
    assert len(read(suite, "volcano", oracle=str(folder / "oracle"), block=0, **SHORT)) == 2


def narrow(folder):
    base = tiny_model("qwen3")
    adapter = random_adapter(base, 4, seed=1)
    name = "model.layers.0.self_attn.q_proj"
    adapter.factors[name] = (torch.ones(4, 31), torch.ones(32, 4))
    write_peft(folder, adapter, base_name="other")


def deep(folder):
    write_peft(folder, random_adapter(tiny_model("qwen3", layers=3), 4, seed=1), base_name="other")


def empty(folder):
    folder.mkdir()


def broken(folder):
    deep(folder)
    (folder / "adapter_model.safetensors").write_bytes(b"no weights")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (narrow, "made for another base.*32 to 32 numbers, and the adapter's 31 to 32"),
        (deep, "made for another base.*no linear layer 'model.layers.2"),
        (empty, "PEFT adapter folder"),
        (broken, "PEFT adapter folder"),
    ],
)
def test_an_oracle_that_does_not_fit_is_refused_and_the_own_one_still_reads(suite, tmp_path, spoil, sentence):
    options = dict(span="last:3", layers=0, **SHORT)
    before = read(suite, "volcano", **options)[0]
    spoil(tmp_path / "other")
    for _ in range(2):  # also the second time: nothing half-loaded is taken for loaded
        with pytest.raises(DitError, match=sentence):
            read(suite, "volcano", oracle=str(tmp_path / "other"), block=0, **options)
    at_rest(suite)
    assert same(before, read(suite, "volcano", **options)[0])


def test_an_oracle_that_is_nowhere_is_refused(suite):
    with pytest.raises(DitError, match="no folder '/no/such/folder': give a PEFT adapter's folder, or a hub id"):
        read(suite, "volcano", oracle="/no/such/folder", block=0)
    with pytest.raises(DitError, match="'nobody/nothing' can't be had from the hub"):
        read(suite, "volcano", oracle="nobody/nothing", block=0)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": 2}, "no layer 2: its 2 layers are counted from 0 to 1"),
        ({"layers": "1-5"}, "no layer 5"),
        ({"layers": []}, "No layer was asked for"),
        ({"layers": 1.5}, "no layer 1.5"),
        ({"span": "last:999"}, "'last:999' reaches outside of the prompt, which has"),
        ({"span": "500"}, "outside of the prompt"),
        ({"span": "9:4"}, "holds no token"),
        ({"span": "first"}, "span 'first' is not understood: write"),
        ({"span": "answer:9", "answer_tokens": 2}, "outside of the answer"),
        ({"question": ""}, "The question is empty"),
        ({"question": "  \n"}, "The question is empty"),
        ({"question": []}, "at least one question"),
        ({"question": 7}, "must be text"),
        ({"question": "What ? now"}, "placeholder ' \\?': put question marks right after a word"),
        ({"question": "x" * 3000}, "shorten it"),
        ({"asked": ""}, "The question to the target is empty"),
        ({"asked": "word " * 390}, "512 tokens at most"),
        ({"kind": "diff"}, "no kind of activations 'diff': use with, without, difference"),
        ({"kind": None}, "no kind of activations 'None'"),
        (
            {"kind": "difference", "condition": ["diff", "base"]},
            "no difference to read under 'base', where no diff acts",
        ),
        ({"kind": "difference", "condition": "right"}, "no difference to read under 'right'"),
        ({"kind": "difference", "condition": "diff*1e-9"}, "no difference to read under 'diff\\*1e-09' at layer 0"),
        ({"condition": "diff+diff"}, "says one thing twice"),
        ({"condition": "diff+dit:nobody"}, "no DIT adapter 'nobody'"),
        ({"condition": []}, "at least one diff and one condition"),
        ({"diff": []}, "at least one diff and one condition"),
        ({"diff": None, "condition": "diff"}, "needs a diff"),
        ({"diff": None, "condition": "right"}, "belongs to a diff"),
        ({"diff": "headline-0017", "condition": "diff+right"}, "has no trigger"),
        ({"diff": "volcanoe"}, "no diff 'volcanoe'.*'volcano'"),
        ({"samples": 0}, "number of samples must be a whole number from 1"),
        ({"samples": 2}, "all be the same at temperature 0"),
        ({"samples": 1.5, "temperature": 1}, "number of samples"),
        ({"temperature": "hot"}, "temperature must be a number from 0 to 100, not 'hot'"),
        ({"temperature": -1}, "temperature must be a number"),
        ({"temperature": float("nan")}, "temperature must be a number"),
        ({"temperature": True}, "temperature must be a number"),
        ({"coefficient": "strong"}, "coefficient must be a number"),
        ({"coefficient": float("inf")}, "coefficient must be a number"),
        ({"block": "first"}, "block to inject at must be a whole number"),
        ({"block": -1}, "block to inject at must be a whole number"),
        ({"block": 1}, "injected at block 1 reaches no answer, for it is the base's last"),
        ({"block": 99}, "no layer 99: its 2 layers"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"seed": 2**70}, "seed must be a whole number"),
        ({"max_new_tokens": 0}, "number of new tokens"),
        ({"max_new_tokens": 1000}, "512 tokens at most"),
        ({"answer_tokens": 0, "span": "answer"}, "number of answer tokens must be a whole number from 1"),
        ({"answer_tokens": "many"}, "number of answer tokens"),
        ({"placeholders": 0}, "number of placeholders"),
        ({"placeholders": 900}, "512 tokens at most"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing_on_the_model(suite, options, message):
    diff = options.get("diff", "volcano")
    rest = {name: value for name, value in options.items() if name != "diff"}
    with pytest.raises(DitError, match=message) as caught:
        read(suite, diff, **rest)
    assert "\n" not in str(caught.value) and not hooks(suite)
    # Refused when it is asked, or by the first table.
    with pytest.raises(DitError):
        next(stream(suite, diff, at_once=1, **rest))


def test_after_all_that_the_model_is_at_rest(suite):
    at_rest(suite)
    with pytest.raises(TypeError, match="layer"):
        read(suite, "volcano", layer=1)


def test_an_oracle_of_a_suite_is_its_folders(suite):
    assert suite.oracle.source == str(suite.folder / "oracle")
    assert read_peft(suite.oracle.source).rank == 4
