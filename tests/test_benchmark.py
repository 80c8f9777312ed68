"""The benchmark measures the same work on both sides."""

import torch

from benchmarks import conditions


def test_both_sides_write_the_same_texts_and_the_report_has_its_figures(monkeypatch):
    monkeypatch.setitem(conditions.SHAPES, "tiny", (32, 64, 2, 4, 2, 8, 400, True, 4.0))
    base = conditions.random_base("tiny", "cpu", torch.float32)
    prompts = conditions.random_prompts(400, trigger=True)
    adapters = {"diff": conditions.random_adapter(base, 1, seed=1), "dit": conditions.random_adapter(base, 16, seed=2)}
    # Small random weights hardly move with these adapters: larger ones, so that the conditions say other things.
    for adapter in adapters.values():
        for A, B in adapter.factors.values():
            A *= 3
            B *= 3
    loop, batch = conditions.Loop(base, adapters), conditions.Batch(base, adapters)
    theirs, ours = loop.run(prompts)[1], batch.run(prompts)[1]
    assert theirs == ours and len({tuple(text) for text in ours}) > 4
    assert all(len(text) == conditions.NEW_TOKENS for text in ours)
    report = conditions.measure("tiny", 1)
    assert "8 of 8 texts equal" in report and "| total |" in report and "at least 4×" in report
