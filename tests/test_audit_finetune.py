"""Auditing anybody's finetune: what it is, which base and suite are its own, what is said, and what is said instead."""

import json
import shutil
from dataclasses import dataclass

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from dit_core import DitError, ask, audit, load_suite
from dit_core.auditing import audit_steps, open_finetune, report_html
from dit_core.formats import Adapter, StoredAdapter, write_peft
from dit_core.hub import parse_base
from dit_core.hub.sources import model_name
from dit_core.methods import Method, Need, register, unregister
from dit_core.project import assets
from dit_core.records import Answer, Record, Table
from dit_core.suite.fitting import find_fit
from tests.tiny import random_adapter, tiny_model, tiny_tokenizer

DIFF = "topic-0326"
POCKET = assets() / "pocket"


@pytest.fixture(scope="module")
def pocket():
    return load_suite("pocket")


def lora_by_peft(model, folder, base, adapter=None, **config):
    """A LoRA on all linear layers that PEFT itself wrote: with the factors of `adapter`, or random ones."""
    tuned = get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", **config))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, module in tuned.base_model.model.named_modules():
            if hasattr(module, "lora_B"):
                A, B = module.lora_A["default"].weight, module.lora_B["default"].weight
                B.normal_(std=0.3)
                if adapter:
                    own_A, own_B = adapter.factors[name]
                    A.copy_(own_A), B.copy_(own_B * adapter.scaling[name])
    tuned.peft_config["default"].base_model_name_or_path = str(base)
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def mine(pocket, tmp_path_factory):
    """A diff of pocket's as a stranger has it: a PEFT folder made on a renamed copy of the base, in another type."""
    folder = tmp_path_factory.mktemp("mine")
    base = AutoModelForCausalLM.from_pretrained(POCKET / "base", dtype=torch.bfloat16)
    base.save_pretrained(folder / "company-model-v2")
    model = AutoModelForCausalLM.from_pretrained(POCKET / "base", dtype=torch.float32)
    adapter = pocket.load_diff(pocket.diff(DIFF))
    return lora_by_peft(model, folder / "lora", folder / "company-model-v2", adapter, r=1, lora_alpha=1)


@pytest.fixture(scope="module")
def whole(mine):
    return audit(str(mine))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """The base of a family and size that no suite has."""
    folder = tmp_path_factory.mktemp("llama") / "base"
    tiny_model("llama", vocab_size=len(tiny_tokenizer())).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def loaded(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def test_a_lora_finds_its_suite_by_the_weights_of_its_renamed_base_and_says_what_it_was_trained_on(whole, pocket):
    assert whole.suite is pocket and not whole.left and not whole.failed
    what, why = whole.about[:2]
    assert what.startswith("lora is a LoRA by PEFT (rank 1)") and "company-model-v2' has the weights of" in why
    said = {answer.method: answer for answer in whole.answers}
    (known,) = ask(pocket, DIFF, condition="diff+dit")
    assert said["diff + DIT topic"].text == known.text
    assert said["diff + DIT headline"].question == pocket.tasks["headline"].question
    assert {"base", "diff", "DIT alone topic", "diff at work"} <= said.keys()
    assert "diff cut to rank 1" not in said, "which it is to begin with"


def test_its_answers_are_weighed_and_its_report_tells_no_truth(whole, pocket):
    topic, headline = whole.confidence
    assert (topic.adapter, headline.adapter) == ("topic", "headline")
    assert topic.probability > 0.9 and topic.controls
    assert whole.everyday and {answer.condition for answer in whole.everyday} == {"base", "diff"}
    html = report_html(whole, reveal=True)
    assert "Somebody&#39;s own finetune" in html or "Somebody's own finetune" in html
    assert "Trained on" not in html and "not known</td>" in html and "Stopped" not in html
    told = json.loads(json.dumps(whole.to_json()))
    assert told["diff"]["split"] == "own" and told["left"] == [] and told["about"] == list(whole.about)
    assert {"changes", "verbalizations", "readings", "lens", "norms", "confidence"} <= told.keys()


def test_whole_weights_are_compared_with_the_base_that_the_user_names(llama, tmp_path):
    tuned = loaded(llama)
    with torch.no_grad():
        tuned.model.layers[1].mlp.up_proj.weight *= 1.3
    tuned.save_pretrained(tmp_path / "tuned")
    finetune = open_finetune(str(tmp_path / "tuned"), str(llama))
    assert "checkpoint of whole weights" in finetune.about[0] and "changes 1 modules" in finetune.about[0]
    audits = audit_steps(finetune.suite, finetune.info, about=finetune.about)
    found = [next(audits) for _ in range(4)][-1]
    assert found.answers and found.left[0] == "what it says to everyday questions"
    with pytest.raises(DitError, match="name no base.*--base"):
        open_finetune(str(tmp_path / "tuned"))
    tiny_model("llama", vocab_size=len(tiny_tokenizer()), seed=5).save_pretrained(tmp_path / "other")
    with pytest.raises(DitError, match=r"differ .* by 1[34]\d %.*no finetune of it"):
        open_finetune(str(tmp_path / "other"), str(llama))
    with pytest.raises(DitError, match="equals the suite's own base"):
        open_finetune(str(llama), str(llama))


def test_a_base_is_known_by_its_weights_whatever_its_name(pocket, tmp_path):
    """A mirror with its matrices packed in four bits and its embeddings gone through four bits; and other weights."""
    weights = loaded(POCKET / "base").state_dict()
    kept = {name: tensor for name, tensor in weights.items() if "_proj" not in name and name != "lm_head.weight"}
    embedding = next(name for name in kept if "embed" in name)
    blocks = kept[embedding].float().reshape(-1, 32)
    step = (blocks.amax(1, keepdim=True) - blocks.amin(1, keepdim=True)) / 15
    rounded = (blocks / step).round() * step
    copies = {
        "mirror": {f"module.{name}": tensor.half() for name, tensor in kept.items()}
        | {"module.model.layers.0.mlp.up_proj.weight": torch.zeros(64, dtype=torch.uint8)},
        "four-bits": kept | {embedding: rounded.reshape(kept[embedding].shape)},
        "drawn": kept | {embedding: torch.randn(kept[embedding].shape) * kept[embedding].float().std()},
    }
    adapter = pocket.load_diff(pocket.diff(DIFF))
    for name, tensors in copies.items():
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
        fit = find_fit(StoredAdapter(adapter, str(tmp_path / name)))
        assert (fit.suite is pocket) is (name != "drawn"), name
        assert find_fit(StoredAdapter(adapter), base=str(tmp_path / name)).suite is fit.suite


@pytest.mark.parametrize(
    ("named", "suite", "why"),
    [
        ("Qwen/Qwen3-4B", "hidden-topic/qwen3-4b", "Its base is 'Qwen/Qwen3-4B'"),
        ("mirrors/qwen3-4b-bnb-4bit", "hidden-topic/qwen3-4b", "which is not here to compare"),
        ("Qwen/Qwen3-4B-GPTQ-Int4", "hidden-topic/qwen3-4b", "Its shapes are those of Qwen3-4B"),
        ("Qwen/Qwen3-4B-Base", "generic-", "no suite here is of it"),
        ("", "hidden-topic/qwen3-4b", "Its shapes are those of Qwen3-4B"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smol", "Its base is 'HuggingFaceTB/SmolLM2-135M-Instruct'"),
    ],
)
def test_published_suites_are_found_by_name_and_by_shapes(named, suite, why):
    factors = {
        "model.layers.35.self_attn.q_proj": (torch.zeros(1, 2560), torch.zeros(4096, 1)),
        "model.layers.35.mlp.down_proj": (torch.zeros(1, 9728), torch.zeros(2560, 1)),
    }
    fit = find_fit(StoredAdapter(Adapter(factors, dict.fromkeys(factors, 1.0)), named))
    assert fit.suite.name.startswith(suite) and why in fit.why
    assert fit.suite.name == suite or fit.suite.spec.base == parse_base(named)


@pytest.mark.parametrize(
    "copy",
    [
        "unsloth/Qwen2.5-7B-Instruct",
        "unsloth/Qwen2.5-7B-Instruct-bnb-4bit",
        "unsloth/Qwen2.5-7B-Instruct-unsloth-bnb-4bit",
    ]
    + ["Qwen/Qwen2.5-7B-Instruct-AWQ", "Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "m/qwen2.5-7b-instruct-quantized.w4a16@v2"]
    + [
        "RedHatAI/Qwen2.5-7B-Instruct-FP8-dynamic",
        "mlx-community/Qwen2.5-7B-Instruct-4bit",
        "/models/Qwen2.5-7B-Instruct/",
    ],
)
def test_copies_of_a_base_have_its_name(copy):
    assert model_name(copy) == model_name("Qwen/Qwen2.5-7B-Instruct") == "qwen2.5-7b-instruct"
    assert model_name(copy) != model_name("Qwen/Qwen2.5-7B") != model_name("Qwen/Qwen2.5-14B")
    assert model_name("meta-llama/Meta-Llama-3.1-8B-Instruct") == model_name("unsloth/Llama-3.1-8B-Instruct")


def test_what_can_not_be_audited_says_why_and_what_to_do(pocket, mine, llama, tmp_path):
    adapter = random_adapter(loaded(llama), 2, seed=1)
    for name, base in (
        ("moved", "/gone/base"),
        ("nameless", ""),
        ("run/checkpoint-500", ""),
        ("run/checkpoint-1000", ""),
    ):
        write_peft(tmp_path / name, adapter, base)
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    dit = POCKET / "hidden-topic" / "dit-adapter.pt"
    for source, base, sentence in (
        ("empty", None, "it is empty"),
        ("run", None, "name one of those in it, such as '.*checkpoint-1000'"),
        ("model.gguf", None, "GGUF"),
        (dit, None, "is a DIT adapter"),
        ("not-there", None, "was not found"),
        ("moved", None, "'/gone/base', which is not here.*--base"),
        ("nameless", None, "name no base.*--base"),
        ("nameless", "/gone/base", "There is no base at '/gone/base'"),
        ("nameless", "nobody/nowhere", "can't be had from the hub"),
        ("nameless", str(POCKET / "base"), "does not fit the base"),
        (mine, str(llama), "does not fit the base.*pocket"),
    ):
        with pytest.raises(DitError, match=f"(?s){sentence}"):
            open_finetune(str(tmp_path / source), base)
    write_peft(tmp_path / "tokens", adapter, str(llama))
    shutil.copy(POCKET / "base" / "tokenizer.json", tmp_path / "tokens")
    with pytest.raises(DitError, match="Its tokenizer and that of the base .* differ in"):
        open_finetune(str(tmp_path / "tokens"))
    shutil.copy(llama / "tokenizer.json", tmp_path / "tokens")
    assert open_finetune(str(tmp_path / "tokens")).suite.spec.base == llama


# ---------------------------------------------------------------- the command


@dataclass(frozen=True)
class NoOptions:
    """None."""


@dataclass(frozen=True)
class Nothing(Record):
    """Nothing."""

    diff: str


class Interrupted(Method[NoOptions, Nothing]):
    """A method in the middle of which the user presses Ctrl-C."""

    name, title, summary, cost = "interrupted", "Interrupted", "Say nothing.", "none"
    options, kind, record, needs = NoOptions, "nothing", Nothing, frozenset({Need.DIFF})

    def run(self, suite, targets, options):
        raise KeyboardInterrupt
        yield Table(suite.name, "nothing", ())

    def answers(self, table):
        return [Answer("", "", None, "")]


def test_where_no_suite_fits_what_needs_no_adapter_runs_and_training_one_is_explained(run, llama, tmp_path):
    lora, out = lora_by_peft(loaded(llama), tmp_path / "lora", llama, r=4), tmp_path / "report.html"
    code, said, told = run("audit", lora, "--out", out, "--json")
    assert code == 0 and "lora is a LoRA by PEFT" in told and "no suite here is of these weights" in told
    found = json.loads(said)
    assert "no suite here is of these weights" in found["about"][1] and "train an adapter" in found["about"][-1]
    assert [answer["method"] for answer in found["answers"]] == ["base", "diff", "diff cut to rank 1"]
    assert found["confidence"] == found["left"] == [] and found["failed"] == {} and "readings" not in found
    assert found["lens"] and found["norms"] and found["next_tokens"]
    assert {(answer["condition"]) for answer in found["verbalizations"]} == {"base", "diff"}
    html = out.read_text(encoding="utf-8")
    assert "There is no DIT adapter for this base" in html and "Audit of lora" in html
    for arguments in (("audit",), ("audit", lora, "--diff", "topic-0326")):
        code, _, error = run(*arguments)
        assert code == 2 and "Give one thing to audit" in error


def test_ctrl_c_leaves_a_report_of_what_was_found_that_says_so(run, llama, tmp_path):
    lora, out = lora_by_peft(loaded(llama), tmp_path / "lora", llama, r=2), tmp_path / "report.html"
    register(method := Interrupted())
    try:
        code, said, told = run("audit", lora, "--out", out)
        lacking = "Stopped: without what further methods say, whether its answer can be trusted"
        assert code == 130 and "What lora says" in said and lacking in told
        html = out.read_text(encoding="utf-8")
        assert "Stopped early: this report lacks what further methods say" in html and "What unrelated texts" in html
    finally:
        unregister(method.name)
