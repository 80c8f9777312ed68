"""The benchmarks measure the same work on both sides."""

import shutil

import torch

from benchmarks import conditions, oracle, shapes, sweep
from dit_core import load_suite
from dit_core.methods.oracle import read

RANKS = {"diff": 1, "dit": 16}
BROKEN = "\ufffd"  # what is shown of a character whose tokens are not all there yet


def test_both_sides_write_the_same_texts_and_the_report_has_its_figures():
    base = shapes.random_base("tiny", "cpu", torch.float32)
    prompts = conditions.random_prompts(400, trigger=True)
    # Small random weights hardly move with small adapters, and then all conditions say the same.
    adapters = {name: shapes.random_adapter(base, rank, seed=rank, size=1.0) for name, rank in RANKS.items()}
    loop, batch = conditions.Loop(base, adapters), conditions.Batch(base, adapters)
    theirs, ours = loop.run(prompts)[1], batch.run(prompts)[1]
    assert theirs == ours and len({tuple(text) for text in ours}) > 4
    assert all(len(text) == conditions.NEW_TOKENS for text in ours)
    report = conditions.measure("tiny", 1, wanted=4.0)
    assert "8 of 8 texts equal" in report and "| total |" in report and "at least 4×" in report


def test_both_sides_read_the_same_of_a_suite_and_so_does_the_oracle_itself(tiny_suite_folder, tmp_path):
    folder = shutil.copytree(tiny_suite_folder, tmp_path / "suite")  # whose base nobody has put adapters on
    work = oracle.suite_work(folder)
    loop, batch = oracle.Loop(work), oracle.Batch(work)
    theirs, ours = loop.run()[1], batch.run()[1]
    assert theirs == ours and len({tuple(text) for text in ours.values()}) > 5
    assert set(ours) == {(layer, at) for layer in (0, 1) for at in range(5)}
    assert all(len(text) == oracle.NEW_TOKENS for text in ours.values())
    suite = load_suite(folder)
    for at, (condition, _, _) in enumerate(oracle.CONDITIONS):
        asked = suite.tasks["topic"].questions[0] if condition == "diff+right" else None
        for reading in read(suite, "volcano", condition=condition, asked=asked):
            ids = ours[reading.layer, at]
            ends = [place for place, token in enumerate(ids) if token in batch.model.end_tokens]
            said = suite.model.tokenizer.decode(ids[: min(ends, default=len(ids))], skip_special_tokens=True)
            assert reading.text == said.rstrip(BROKEN).strip()


def test_the_oracle_benchmark_reports_random_shapes():
    report = oracle.measure("tiny", 1, wanted=4.0)
    assert "20 of 20 readings equal" in report and "| total |" in report and "at least 4×" in report
    work = oracle.random_work("tiny")
    theirs, ours = oracle.Loop(work).run()[1], oracle.Batch(work).run()[1]
    assert theirs == ours and len(work.prompts[2]) == 32, "a trigger makes the longer prompt"
    assert len({tuple(text) for text in ours.values()}) > 1


def test_the_loop_over_a_sweep_says_the_same_as_the_sweep(tiny_suite_folder):
    copies = (0.0, 1.0, 2.5)
    suite = load_suite(tiny_suite_folder)
    table = sweep.batched(suite, samples=2, copies=copies)[1]
    assert len(table) == 2 * 3 * 2 and len({one.text for one in table}) > 6
    assert all(len(one.text) > 0 and one.diff == "" for one in table)
    report = sweep.measure(suite, repeats=1, samples=2, copies=copies)
    assert "6 settings × 2 samples" in report and "12 of 12 texts equal" in report and "at least 8×" in report


def test_shapes_are_named_in_any_case():
    options = oracle.parsed(["--shape", "qwen3-0.6B", "Pocket", "--repeats", "2"])
    assert (options.shape, options.repeats) == (["Qwen3-0.6B", "pocket"], 2)
