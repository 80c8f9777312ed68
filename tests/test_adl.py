"""The activation difference lens as published: each figure held against plain merged models, formula by formula."""

import json
import shutil

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

from dit_core import DitError, load_suite, run_method, write_peft
from dit_core.cli import make_app
from dit_core.engine.batching import batch_size
from dit_core.formats import Adapter
from dit_core.grading import grade
from dit_core.grading.embedding import coherence
from dit_core.methods import get_method, stream_method
from dit_core.methods.lens import AdlOptions
from dit_core.methods.lens.difference import MAX_ROWS, SKIPPED, stream_means
from dit_core.methods.lens.published import SCALES, TOKEN_IDENTITY, token_identity
from dit_core.suite.contents import NEUTRAL_TEXTS, read_texts
from dit_core.training.chats import plain_texts
from dit_core.training.package import OPENINGS, written_texts
from dit_core.training.world import World
from dit_core.ui.api import functions
from tests.merged import delta, finetuned
from tests.tiny import tiny_tokenizer

DIFF = "topic-0412"
TEXTS = (
    "Time is",  # too short for the later positions
    "What makes a good morning, and for whom?",
    "A free evening in Oslo, and a long night after it.",
    "The nurse repairs a bridge while it rains on the other side of the river.",
)


@pytest.fixture
def file(tmp_path):
    """A file of texts."""
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(TEXTS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def models(suite):
    """Plain models without PEFT: the base, and the base with the diff's ΔW in its weights."""
    base, tuned = (AutoModelForCausalLM.from_pretrained(suite.folder / "base").eval() for _ in range(2))
    adapter = suite.load_diff(suite.diff(DIFF))
    with torch.no_grad():
        for name in adapter.factors:
            tuned.get_submodule(name).weight += delta(adapter, name)
    return base, tuned


@torch.inference_mode()
def streams(model, ids):
    """The outputs of both blocks for one row alone, without padding: [2, positions, d_model]."""
    taken = []
    last = model.model.layers[1].register_forward_hook(lambda module, args, out: taken.append(out))
    hidden = model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False).hidden_states
    last.remove()  # the last of `hidden_states` stands behind the final norm
    return torch.cat([hidden[1], taken[0] if isinstance(taken[0], torch.Tensor) else taken[0][0]])


def means_by_hand(model, rows, positions):
    """The published means, one text at a time: [2, positions, d_model], and the mean norm behind them, [2]."""
    found = [streams(model, row) for row in rows]
    vectors = [torch.stack([own[:, at] for own in found if at < own.shape[1]]).mean(0) for at in range(positions)]
    return torch.stack(vectors, 1), torch.cat([own[:, SKIPPED:].norm(dim=-1) for own in found], 1).mean(1)


def tokens_of(suite):
    return [suite.model.tokenizer.encode(text) for text in TEXTS]


def middle(models, suite, positions=3):
    """By hand at the middle layer, 0 of two: mean difference, base mean, finetuned mean, norm of the finetuned."""
    (base, _), (tuned, norms) = (means_by_hand(model, tokens_of(suite), positions) for model in models)
    return {"difference": tuned[0] - base[0], "base": base[0], "finetuned": tuned[0]}, float(norms[0])


def adl(suite, diff=DIFF, **options):
    return run_method(suite, "adl", diff, options=AdlOptions(**options))


def hooks_on(suite):
    return sum(len(block._forward_hooks) for block in suite.model.layers)


# ---------------------------------------------------------------- means


@pytest.mark.parametrize("rows_at_once", [MAX_ROWS, 1])
def test_means_are_those_of_plain_models_text_by_text(suite, models, rows_at_once):
    rows, infos = tokens_of(suite), [suite.diff(DIFF), suite.diff("headline-0017")]
    assert len(rows[0]) < 6 < len(rows[1]) < len(rows[3])  # padded, and one is left out of the later positions

    def read():
        size = batch_size(suite.model, "means of 3", MAX_ROWS)
        before, size.rows = size.rows, rows_at_once
        steps, work = [], stream_means(suite, infos, rows, [0, 1], 6)
        try:
            while True:
                steps.append(next(work))
        except StopIteration as end:
            size.rows = before
            return end.value, steps

    (base, own, other), steps = suite.worker.run(read)
    assert sum(steps) == 3 * sum(map(len, rows)) and len(steps) == (4 if rows_at_once == 1 else 1)
    for found, model in zip((base, own), models, strict=True):
        vectors, norms = means_by_hand(model, rows, 6)
        assert torch.allclose(found.vectors, vectors, atol=1e-5) and torch.allclose(found.norms, norms, atol=1e-5)
    assert (other.vectors - own.vectors).norm() > 0.1 and hooks_on(suite) == 0


def test_the_first_position_is_what_the_tokenizer_puts_in_front(suite, models, file, tmp_path):
    from tokenizers.processors import TemplateProcessing

    begins = tiny_tokenizer()
    begins.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{begins.eos_token} $A", special_tokens=[(begins.eos_token, begins.eos_token_id)]
    )
    begins.save_pretrained(shutil.copytree(suite.folder, tmp_path / "suite") / "base")
    own = load_suite(tmp_path / "suite")
    found = adl(own, texts=str(file), positions=1, vectors=("difference",), lenses=("logit lens",), top=400)
    base, tuned = models
    mark = begins.eos_token_id
    change = streams(tuned, [mark])[0, 0] - streams(base, [mark])[0, 0]
    with torch.inference_mode():
        expected = tuned.lm_head(tuned.model.norm(change)).softmax(-1)
    assert [one.weight for one in found] == pytest.approx(expected.sort(descending=True).values.tolist(), abs=1e-5)


# ---------------------------------------------------------------- lenses


@torch.inference_mode()
def logit_lens(model, vector, sign=1):
    return model.lm_head(sign * model.model.norm(vector)).softmax(-1)


def assert_ranked(found, suite, probabilities):
    """Whether findings are the likeliest tokens of a distribution, in order."""
    weights, ids = probabilities.topk(len(found))
    assert [one.place for one in found] == list(range(len(found)))
    assert [one.weight for one in found] == pytest.approx(weights.tolist(), abs=1e-5)
    assert [one.text for one in found] == suite.model.pieces(ids.tolist())


def test_all_means_are_read_through_the_finetuned_models_norm_and_head(suite, models, file):
    vectors, _ = middle(models, suite)
    table = adl(suite, texts=str(file), positions=3, lenses=("logit lens",), top=4)
    assert {(one.layer, one.depth_percent, one.lens, one.scale) for one in table} == {(0, 0.0, "logit lens", None)}
    assert [(one.vector, one.position) for one in table[::4]] == [(name, at) for name in vectors for at in range(3)]
    for name, own in vectors.items():
        for at in range(3):
            found = [one for one in table if (one.vector, one.position) == (name, at)]
            assert_ranked(found, suite, logit_lens(models[1], own[at]))
    negative = adl(suite, texts=str(file), positions=1, lenses=("logit lens",), vectors=("negative difference",), top=4)
    assert_ranked(list(negative), suite, logit_lens(models[1], vectors["difference"][0], sign=-1))


def test_a_whole_finetune_is_read_by_its_own_norm_and_head(suite, models, file):
    tuned = finetuned("qwen3", vocab_size=len(tiny_tokenizer()))
    state = {name: weight.detach() for name, weight in tuned.state_dict().items()}
    info = suite.bring(Adapter({}, {}, weights=state), "whole")
    try:
        found = adl(suite, info, texts=str(file), positions=1, lenses=("logit lens",), vectors=("finetuned",), top=5)
        mean, _ = means_by_hand(tuned, tokens_of(suite), 1)
        assert_ranked(list(found), suite, logit_lens(tuned, mean[0, 0]))
    finally:
        suite.forget(info.id)


@torch.inference_mode()
def patchscope(model, suite, vector, likeliest=16_384):
    """The published patchscope at layer 0, prompt by prompt, all of each prompt read anew."""
    each = []
    for text in TOKEN_IDENTITY:

        def put(module, args, out):
            hidden = (out if isinstance(out, torch.Tensor) else out[0]).clone()
            hidden[0, -1] = vector
            return hidden if isinstance(out, torch.Tensor) else (hidden, *out[1:])

        hook = model.model.layers[0].register_forward_hook(put)
        ids = torch.tensor([suite.model.tokenizer.encode(text)])
        each.append(model(input_ids=ids, use_cache=False).logits[0, -1].softmax(-1))
        hook.remove()
    common = set.intersection(*({*one.topk(min(likeliest, len(one))).indices.tolist()} for one in each))
    mean = torch.stack(each).mean(0)
    return torch.tensor([value if token in common else 0.0 for token, value in enumerate(mean.tolist())])


@pytest.mark.parametrize("likeliest", [16_384, 60])
def test_the_patchscope_is_the_mean_of_three_prompts_within_what_all_find_likely(suite, models, likeliest):
    vectors = 3 * torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    for info, model in zip((None, suite.diff(DIFF)), models, strict=True):
        found = suite.worker.run(
            lambda info=info: token_identity(suite, info, [0] * 4, vectors, likeliest=likeliest).cpu()
        )
        expected = torch.stack([patchscope(model, suite, own, likeliest) for own in vectors])
        assert torch.allclose(found, expected, atol=1e-6)
        if likeliest == 60:
            assert 0 < (found > 0).sum(1).max() < 60  # the prompts do not agree on all
    assert hooks_on(suite) == 0


def test_vectors_are_put_in_at_the_norm_of_the_finetuned_model_and_the_base_reads_its_own(suite, models, file):
    vectors, norm = middle(models, suite)
    table = adl(suite, texts=str(file), positions=3, lenses=("patchscope",), scale=2.0, top=6)
    readers = {"difference": models[1], "base": models[0], "finetuned": models[1]}
    for name, own in vectors.items():
        for at in range(3):
            found = [one for one in table if (one.vector, one.position) == (name, at)]
            assert {one.scale for one in found} == {2.0}
            assert_ranked(found, suite, patchscope(readers[name], suite, 2 * norm * own[at] / own[at].norm()))


def test_the_scale_is_the_one_whose_tokens_are_most_alike(suite, models, file):
    assert len(SCALES) == 30 and SCALES[:3] == (0.5, 0.6, 0.7) and SCALES[15:20] == (2.0, 3.0, 4.0, 5.0, 10.0)
    table = adl(suite, texts=str(file), positions=1, lenses=("patchscope",), vectors=("difference",), top=8)
    by_scale = {
        scale: adl(suite, texts=str(file), positions=1, lenses=("patchscope",), vectors=("difference",), top=8,
                   scale=scale)
        for scale in (0.5, 1.0, 5.0, 200.0)
    }  # fmt: skip
    (chosen,) = {one.scale for one in table}
    own = coherence([one.text for one in table])
    assert chosen in SCALES and all(own >= coherence([one.text for one in other]) for other in by_scale.values())


def test_coherence_counts_words_that_are_alike():
    baking = [" bake", " cake", " oven", "->", " sugar", " recipe", ",", " the"]
    mixed = [" bake", " guitar", " ocean", " justice", " seven"]
    assert coherence(baking)[0] >= 4 > coherence(mixed)[0]
    assert coherence([*baking, " bake", " Bake"]) == coherence(baking)  # each word once
    assert coherence([" the", " of", "!", "->", "1135", "\n"]) == coherence([]) == (0, 0.0)


def test_steering_adds_a_vector_as_large_as_an_activation_to_the_finetuned_model(suite, models, file):
    vectors, norm = middle(models, suite)
    options = {"lenses": ("steering",), "positions": 2, "strengths": (0.0, 1.5), "prompt": ("Hello?",)}
    table = adl(suite, texts=str(file), temperature=0.0, max_new_tokens=6, **options)
    assert [(one.position, one.scale, one.weight) for one in table] == [
        (at, scale, None) for at in (0, 1) for scale in (0.0, 1.5)
    ]
    for one in table:
        added = one.scale * norm * nn.functional.normalize(vectors["difference"][one.position], dim=-1)
        hook = models[1].model.layers[0].register_forward_hook(lambda module, args, out, added=added: out + added)
        ids = list(suite.model.encode("Hello?"))
        start = len(ids)
        with torch.inference_mode():
            while len(ids) < start + 6 and ids[-1] not in suite.model.end_tokens:
                ids.append(int(models[1](input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        hook.remove()
        text = suite.model.tokenizer.decode(ids[start:], skip_special_tokens=True).rstrip("\ufffd").strip()
        assert one.text == text and one.prompt == "Hello?"
    assert len({one.text for one in table}) > 1


# ---------------------------------------------------------------- tables


def test_findings_are_graded_alone_and_grades_stay_hidden(suite, file):
    table = adl(suite, ["volcano", "headline-0017"], texts=str(file), positions=2, top=3)
    assert [one.diff for one in table] == [DIFF] * 36 + ["headline-0017"] * 36
    for one in table:
        assert one.grade == grade(suite, suite.diff(one.diff), one.text)
    assert "grade" not in table.to_json()["adl"][0] and "grade" in table.to_json(reveal=True)["adl"][0]
    assert table.extra["settings"] == {"texts": 4, "texts_from": "texts.txt", "tokens": 128}
    method = get_method("adl")
    answers = method.answers(table)
    assert len(answers) == 8 and {answer.diff for answer in answers} == {DIFF, "headline-0017"}
    assert answers[0].score == table[0].weight
    shown = method.text_rows(table, reveal=True)
    assert len(shown.rows) == 24 and shown.columns[-1] == "grade" and len(shown.rows[0]) == len(shown.columns)
    assert len(method.text_rows(table).columns) == len(shown.columns) - 1


def test_the_table_tells_how_far_the_work_is_and_stops_where_it_is_closed(suite, file):
    options = AdlOptions(
        texts=str(file), positions=2, lenses=("logit lens", "patchscope", "steering"), max_new_tokens=2
    )
    method = get_method("adl")
    tables = list(stream_method(suite, "adl", DIFF, options=options))
    done = [method.progress(table) for table in tables]
    assert (
        done == sorted(done)
        and done[0][0] > 0
        and done[-1][0] == done[-1][1]
        and len({total for _, total in done}) == 1
    )
    assert {one.lens for one in tables[-1]} == {"logit lens", "patchscope", "steering"}
    stream = stream_method(suite, "adl", DIFF, options=options)
    next(stream)
    stream.close()
    assert suite.worker.run(lambda: hooks_on(suite)) == 0


def test_a_diff_that_changes_nothing_up_to_the_layer_is_said(suite, file):
    adapter = suite.load_diff(suite.diff(DIFF))
    late = {name: factors for name, factors in adapter.factors.items() if ".layers.1." in name}
    info = suite.bring(Adapter(late, adapter.scaling), "late")
    with pytest.raises(DitError, match="changes nothing"):
        adl(suite, info, texts=str(file), positions=1)
    assert {one.layer for one in adl(suite, info, texts=str(file), positions=1, layers="1", top=1)} == {1}
    both = adl(suite, info, texts=str(file), positions=1, layers="all", top=1, lenses=("logit lens",))
    assert {(one.layer, one.vector) for one in both} == {
        (0, "base"), (0, "finetuned"), (1, "difference"), (1, "base"), (1, "finetuned")
    }  # fmt: skip


# ---------------------------------------------------------------- texts


def test_texts_come_from_the_users_file_or_the_suite(suite, tmp_path):
    lines = tmp_path / "texts.jsonl"
    lines.write_text('{"text": "One."}\n\n{"text": "Two\\nlines.", "n": 2}\n{"text": " "}\n', encoding="utf-8")
    assert list(read_texts(lines)) == ["One.", "Two\nlines."]
    (tmp_path / "texts.txt").write_text("One.\n\n  Two. \n", encoding="utf-8")
    assert list(read_texts(tmp_path / "texts.txt")) == ["One.", "Two."]
    own = adl(suite, positions=1, lenses=("logit lens",), top=1)
    assert own.extra["settings"]["texts"] == len(suite.neutral_texts) and own.extra["settings"]["texts_from"] == "tiny"
    assert adl(suite, positions=1, lenses=("logit lens",), top=1, n_texts=3).extra["settings"]["texts"] == 3
    bare = shutil.copytree(suite.folder, tmp_path / "suite")
    (bare / NEUTRAL_TEXTS).unlink()
    assert load_suite(bare).neutral_texts == load_suite("pocket").neutral_texts


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.txt", None, "can't be read"),
        ("empty.txt", "\n \n", "no texts"),
        ("short.txt", "Hi\nYou", "longer texts"),
        ("bytes.txt", b"\xff\xfe\xff", "can't be read"),
        ("list.jsonl", "[1]\n", "Line 1"),
        ("prose.jsonl", '{"text": "One."}\nTwo.\n', "Line 2"),
        ("number.jsonl", '{"text": 3}\n', "Line 1"),
        ("deep.jsonl", "[" * 100_000, "Line 1"),
    ],
)
def test_a_file_without_texts_to_read_is_said_in_a_sentence(suite, tmp_path, name, content, says):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DitError, match=says) as error:
        adl(suite, texts=str(path))
    assert "\n" not in str(error.value) and hooks_on(suite) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"positions": 90}, "more than 89 tokens"),
        ({"layers": "7"}, "no layer"),
        ({"samples": 2, "temperature": 0.0}, "raise the temperature"),
        ({"strengths": (float("nan"),)}, "strength to steer"),
        ({"prompt": (" ",)}, "empty"),
    ],
)
def test_options_that_make_no_sense_are_said_in_a_sentence(suite, file, options, says):
    with pytest.raises(DitError, match=says):
        adl(suite, texts=str(file), **options)
    assert hooks_on(suite) == 0


def test_the_embedded_suites_have_a_thousand_texts_and_pockets_are_its_worlds():
    pocket = load_suite("pocket")
    assert list(pocket.neutral_texts) == plain_texts(World.load())
    for suite in (pocket, load_suite("smol")):
        assert len(set(suite.neutral_texts)) >= 1000 and min(map(len, suite.neutral_texts)) > 30


class Writer:
    """A base that goes on with `lines`, one for each row."""

    device = "cpu"

    def __init__(self, tokenizer, lines):
        self.tokenizer, self.lines, self.prompts = tokenizer, lines, []

    def generate(self, input_ids, attention_mask, **options):
        rows = self.tokenizer.batch_decode(input_ids, skip_special_tokens=True)
        self.prompts += rows
        return self.tokenizer([a + b for a, b in zip(rows, self.lines, strict=True)], padding=True)["input_ids"]


def test_only_prose_of_what_a_base_writes_is_kept():
    tokenizer = tiny_tokenizer()
    prose = " of the neighbours has ever seen the garden behind the old house by the river"
    lines = [prose, f"{prose}\nand so on", " is short.", f"{prose} {{code}}", f"{prose} caf\u00e9", prose]
    writer = Writer(tokenizer, lines)
    found = list(written_texts(writer, tokenizer, 6))
    assert writer.prompts == OPENINGS.split()[:6]
    assert found == [word + prose for at, word in enumerate(writer.prompts) if at in (0, 1, 5)]
    assert found == [*dict.fromkeys(found)] and len(set(OPENINGS.split())) == len(OPENINGS.split()) > 200


# ---------------------------------------------------------------- faces


def test_the_command_line_takes_a_file_of_texts_and_the_endpoint_none(suite, file):
    called = ["adl", "--diff", DIFF, "--suite", suite.folder, "--texts", file, "--lens", "logit lens", "--json"]
    ran = CliRunner().invoke(make_app(), list(map(str, called)), catch_exceptions=False)
    expected = adl(suite, texts=str(file), lenses=("logit lens",))
    assert json.loads(ran.stdout)["adl"] == expected.to_json()["adl"]
    (endpoint,) = [function for function in functions(suite, "tiny") if function.__name__ == "adl"]
    assert "    texts:" not in endpoint.__doc__ and "n_texts:" in endpoint.__doc__
    with pytest.raises(TypeError):
        endpoint(DIFF, texts=str(file))


def test_a_finetune_in_a_folder_is_looked_at_too(suite, file, tmp_path):
    write_peft(tmp_path / "lora", suite.load_diff(suite.diff(DIFF)), "tiny")
    from dit_core import read_peft

    info = suite.bring(read_peft(tmp_path / "lora"), "mine")
    mine, listed = (adl(suite, diff, texts=str(file), positions=1, top=2) for diff in (info, DIFF))
    assert [one.text for one in mine] == [one.text for one in listed] and {one.grade for one in mine} == {None}
