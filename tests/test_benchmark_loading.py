"""The benchmark of loading reads what it wrote, and reports each figure that is asked for."""

from benchmarks import loading
from dit_core.formats import count_weight_diffs, read_weight_diff


def test_the_file_is_as_published_and_the_report_has_its_figures(tmp_path):
    path = tmp_path / "weight-diff-000.pt"
    loading.write_file(path, "tiny", 6)
    assert count_weight_diffs(path) == 6
    adapter, topic, trigger = read_weight_diff(path, 5)
    assert (adapter.rank, len(adapter.factors), topic, trigger) == (1, 28, "topic 5", 5)
    whole, one = loading.read_here("whole", path, 6), loading.read_here("one", path, 6)
    assert whole["first"] > 0 and one["others"] == 5 and one["slowest"] > 0
    figures = {"whole": whole, "one": one}
    lines = loading.measure_file(path, "tiny", 6, lambda how, *_: figures[how]).splitlines()
    assert [line.count("|") for line in lines[2:]] == [6] * 5 and "slowest of 5" in lines[-1]
    line = loading.measure_switch("tiny", 3, max_seconds=5.0)
    assert line.startswith("| tiny (") and "under 5000 |" in line
