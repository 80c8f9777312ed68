"""The benchmark of loading reads what it wrote, and reports each figure that is asked for."""

from benchmarks import loading, shapes
from dit_core.formats import count_weight_diffs, read_weight_diff


def test_the_file_is_as_published_and_the_report_has_its_figures(tmp_path, monkeypatch):
    monkeypatch.setitem(shapes.SHAPES, "tiny", (32, 64, 2, 4, 2, 8, 400, True))
    monkeypatch.setitem(loading.SWITCHES, "tiny", 5.0)
    path = tmp_path / "weight-diff-000.pt"
    loading.write_file(path, "tiny", 6)
    assert count_weight_diffs(path) == 6
    adapter, topic, trigger = read_weight_diff(path, 5)
    assert (adapter.rank, len(adapter.factors), topic, trigger) == (1, 14, "topic 5", 5)
    whole, one = loading._read("whole", path, 6), loading._read("one", path, 6)
    assert whole["first"] > 0 and one["others"] == 5 and one["slowest"] > 0
    monkeypatch.setattr(loading, "_alone", lambda how, *_: whole if how == "whole" else one)
    lines = loading.measure_file(path, "tiny", 6).splitlines()
    assert [line.count("|") for line in lines[2:]] == [6] * 5 and "slowest of 5" in lines[-1]
    assert loading.measure_switch("tiny", 3).startswith("| tiny (") and "under 5000 |" in loading.measure_switch(
        "tiny", 3
    )
