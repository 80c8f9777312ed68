"""`check` and `convert`: any diff or adapter told and rewritten from the command line."""

import json
import zipfile

import pytest
import torch

from dit_core.formats import Adapter, identify, read_peft, read_weight_diff, write_peft, write_weight_diffs
from tests import hostile
from tests.merged import delta
from tests.tiny import random_adapter, tiny_model, tiny_tokenizer


def tuned(folder):
    """A full finetune of the tiny suite's base, as a checkpoint folder."""
    model = tiny_model("qwen3", vocab_size=len(tiny_tokenizer()))
    with torch.no_grad():
        model.model.norm.weight += 1
        model.model.layers[1].mlp.up_proj.weight *= 1.5
    model.save_pretrained(folder)
    return folder


def assert_same(a: Adapter, b: Adapter):
    assert a.factors.keys() == b.factors.keys() and a.scaling == b.scaling
    assert all(torch.equal(x, y) for n in a.factors for x, y in zip(a.factors[n], b.factors[n], strict=True))


def test_check_tells_a_published_diff_and_keeps_its_secret(run, tiny_suite_folder):
    path = tiny_suite_folder / "hidden-topic" / "weight-diffs" / "weight-diff-001.pt"
    code, out, _ = run("check", path, "--position", 1, "--suite", tiny_suite_folder)
    assert code == 0 and "weight diffs in the published layout, number 1 of 2" in out and "fits the suite 'tiny'" in out
    assert "q_proj" in out and "% of the base's" in out and "volcano" not in out
    code, out, _ = run("check", path, "--json")
    found = json.loads(out)
    assert (found["layout"], found["count"], found["rank"], found["fits"]) == ("diff", 2, 1, None)
    assert len(found["changes"]) == 14 and found["changes"][0]["norm"] > 0 and "volcano" not in out
    assert found["likely_base"] is None


@pytest.mark.parametrize("kind", ["folder", "zip", "file"])
def test_check_tells_a_peft_folder_wherever_it_lies(run, tmp_path, kind, tiny_suite_folder):
    adapter = random_adapter(tiny_model("qwen3"), 3, seed=1)
    write_peft(tmp_path / "peft", adapter, base_name="someone/base")
    path = {"folder": tmp_path / "peft", "file": tmp_path / "peft" / "adapter_model.safetensors"}.get(kind)
    if kind == "zip":
        path = tmp_path / "peft.zip"
        with zipfile.ZipFile(path, "w") as target:
            for file in (tmp_path / "peft").iterdir():
                target.write(file, file.name)
    code, out, _ = run("check", path, "--suite", tiny_suite_folder)
    assert code == 0 and "PEFT LoRA folder" in out and "someone/base" in out and "fits" in out


def test_check_tells_a_checkpoint_with_and_without_its_base(run, tmp_path, tiny_suite_folder):
    path = tuned(tmp_path / "tuned")
    code, out, _ = run("check", path)
    assert code == 0 and "checkpoint of whole weights" in out and "needs --suite" in out and "fits" not in out
    code, out, _ = run("check", path, "--suite", tiny_suite_folder, "--json")
    found = json.loads(out)
    assert {change["module"] for change in found["changes"]} == {"model.norm", "model.layers.1.mlp.up_proj"}
    assert found["fits"] is True and found["suite"] == "tiny"
    code, out, _ = run("check", tiny_suite_folder / "base", "--suite", tiny_suite_folder)
    assert code == 0 and "changes nothing of its base" in out


def test_what_does_not_fit_or_is_damaged_is_one_sentence(run, tmp_path, tiny_suite_folder):
    write_peft(tmp_path / "wide", random_adapter(tiny_model("qwen3", layers=3), 1, seed=1), base_name="")
    code, out, err = run("check", tmp_path / "wide", "--suite", tiny_suite_folder)
    assert code == 2 and out == "" and "no linear layer 'model.layers.2" in err and "and 4 more" in err
    (tmp_path / "weight.pt").write_bytes(hostile.PICKLES["runs os.system"][0])
    code, out, err = run("check", tmp_path / "weight.pt")
    assert code == 2 and out == "" and "would run 'posix.system'" in err and err.count("\n") == 1
    code, _, err = run("check", tmp_path / "not-there.pt")
    assert code == 2 and "was not found" in err


def test_convert_round_trips_bit_for_bit(run, tmp_path):
    wanted = random_adapter(tiny_model("qwen3"), 3, seed=4)
    other = random_adapter(tiny_model("qwen3"), 1, seed=5)
    write_weight_diffs(tmp_path / "w.pt", [(other, "cello", 4), (wanted, "violin", 3)])
    code, out, _ = run("convert", tmp_path / "w.pt", tmp_path / "peft", "--position", 1, "--base", "a/base")
    assert code == 0 and "rank 3" in out and identify(tmp_path / "peft").read().base == "a/base"
    assert run("convert", tmp_path / "peft", tmp_path / "dit.pt", "--dit")[0] == 0
    assert run("convert", tmp_path / "dit.pt", tmp_path / "again.pt")[0] == 0
    assert identify(tmp_path / "dit.pt").kind == identify(tmp_path / "again.pt").kind == "dit"
    assert run("convert", tmp_path / "again.pt", tmp_path / "peft2")[0] == 0
    assert run("convert", tmp_path / "peft2", tmp_path / "back.pt", "--topic", "violin", "--trigger", 3)[0] == 0
    found, topic, trigger = read_weight_diff(tmp_path / "back.pt")
    assert (topic, trigger) == ("violin", 3)
    assert_same(found, wanted)
    assert_same(read_peft(tmp_path / "peft2"), wanted)
    assert run("convert", tmp_path / "w.pt", tmp_path / "one.pt", "--position", 1)[0] == 0
    assert read_weight_diff(tmp_path / "one.pt")[1:] == ("violin", 3)


def test_convert_takes_whole_weights_as_they_are_or_at_a_rank(run, tmp_path, tiny_suite_folder):
    path = tuned(tmp_path / "tuned")
    assert run("convert", path, tmp_path / "full.pt")[0] == 0
    assert run("check", tmp_path / "full.pt", "--suite", tiny_suite_folder)[0] == 0
    code, _, err = run("convert", path, tmp_path / "peft")
    assert code == 2 and "approximate it at a rank" in err and not (tmp_path / "peft").exists()
    code, out, _ = run("convert", path, tmp_path / "peft", "--rank", 32, "--suite", tiny_suite_folder)
    assert code == 0 and "Rank 32 keeps" in out
    found = read_peft(tmp_path / "peft")
    base = tiny_model("qwen3", vocab_size=len(tiny_tokenizer())).model.layers[1].mlp.up_proj.weight
    assert list(found.factors) == ["model.layers.1.mlp.up_proj"]
    assert torch.allclose(delta(found, "model.layers.1.mlp.up_proj"), 0.5 * base, atol=1e-5)
    code, _, err = run("convert", path, tmp_path / "x", "--rank", 4)
    assert code == 2 and "--suite" in err


def test_convert_never_writes_over_anything(run, tmp_path):
    write_peft(tmp_path / "peft", random_adapter(tiny_model("qwen3"), 1, seed=4), base_name="")
    before = (tmp_path / "peft" / "adapter_config.json").read_bytes()
    code, _, err = run("convert", tmp_path / "peft", tmp_path / "peft")
    assert code == 2 and "there already" in err
    assert (tmp_path / "peft" / "adapter_config.json").read_bytes() == before
