"""The command line: JSON that other programs rely on, tables to read, and one sentence with exit code 2."""

import json
import shutil
import subprocess
import sys

import pytest

from dit_core import load_suite
from dit_core.__main__ import main
from dit_core.formats import write_peft
from dit_core.methods.oracle import read
from tests.tiny import random_adapter, tiny_model


@pytest.fixture
def run(monkeypatch, capsys, tiny_suite_folder):
    """Runs a command on the tiny suite: (exit code, stdout, stderr)."""

    def run(*arguments, suite=tiny_suite_folder):
        monkeypatch.setattr(sys, "argv", ["dit_core", *arguments, "--suite", str(suite)])
        with pytest.raises(SystemExit) as left:
            main()
        shown = capsys.readouterr()
        return left.value.code, shown.out, shown.err

    run.suite = tiny_suite_folder
    return run


def test_ask_answers_every_combination(run):
    code, out, _ = run("ask", "--diff", "volcano", "--copies", "0,1,2", "--trigger", "absent,right", "--json")
    answer = json.loads(out)
    assert code == 0 and {"schema_version", "suite", "verbalizations", "versions", "fingerprint"} <= set(answer)
    assert answer["schema_version"] == 1 and answer["suite"] == "tiny"
    assert [said["condition"] for said in answer["verbalizations"]] == [
        "diff",
        "diff+right",
        "diff+dit",
        "diff+dit+right",
        "diff+dit*2",
        "diff+dit*2+right",
    ]
    for said in answer["verbalizations"]:
        assert list(said) == [
            "diff",
            "condition",
            "question",
            "sample",
            "seed",
            "text",
            "tokens",
            "token_probabilities",
        ]
        assert said["diff"] == "topic-0412" and "".join(said["tokens"]) == said["text"]


def test_ask_takes_conditions_diffs_and_sampling(run):
    options = ["--condition", "base", "--condition", "diff+dit:topic-64*0.5", "--question", "Why, [bold]?"]
    sampling = ["--samples", "2", "--temperature", "1", "--top-p", "0.9", "--seed", "5", "--max-new-tokens", "3"]
    code, out, _ = run("ask", "--diff", "volcano", "--diff", "topic-0414", *options, *sampling, "--json")
    said = json.loads(out)["verbalizations"]
    assert code == 0 and len(said) == 8
    assert {(s["diff"], s["condition"]) for s in said} == {
        (diff, condition) for diff in ("topic-0412", "topic-0414") for condition in ("base", "diff+dit:topic-64*0.5")
    }
    assert {s["seed"] for s in said} == {5} and {s["question"] for s in said} == {"Why, [bold]?"}
    assert all(len(s["tokens"]) <= 3 for s in said)


def test_ask_without_json_is_a_table(run):
    code, out, _ = run("ask", "--diff", "volcano", "--strength", "-1,0.5", "--question", "Why [bold]?")
    assert code == 0 and "diff*-1" in out and "diff*0.5" in out and "Why [bold]?" in out


def test_diffs_hide_and_reveal(run):
    code, out, _ = run("diffs", "--json")
    assert code == 0 and {"id": "topic-0412", "task": "topic", "split": "test", "rank": 1} in json.loads(out)["diffs"]
    assert "volcano" not in out
    _, out, _ = run("diffs", "--reveal", "--json")
    assert json.loads(out)["diffs"][3] == {
        "id": "topic-0412",
        "task": "topic",
        "split": "test",
        "rank": 1,
        "reference": "volcano",
        "trigger": 417,
    }
    _, hidden, _ = run("diffs")
    _, shown, _ = run("diffs", "--reveal")
    assert "topic-0412" in hidden and "volcano" not in hidden and "volcano" in shown


def test_scoreboard(run):
    code, out, _ = run("scoreboard", "--limit", "1", "--json")
    board = json.loads(out)
    assert code == 0 and {"schema_version", "suite", "split", "rows", "versions"} <= set(board)
    assert {row["measure"] for row in board["rows"]} == {
        *("exact", "mean_grade", "mentions", "equals_base"),
        *("at_least_2", "lift"),
    }
    code, out, _ = run("scoreboard", "--limit", "1", "--split", "train")
    assert code == 0 and "published" in out and "Qwen3-4B" in out and "train diffs" in out
    head, lift = (next(line for line in out.splitlines() if word in line) for word in ("measure", "lift"))
    assert "layer" in head and "%" not in lift, "nats are no share"


READING_KEYS = ["condition", "layer", "depth_percent", "positions", "kind", "question", "text", "confidence"]


def test_oracle_reads_every_layer(run):
    options = ["--diff", "volcano", "--condition", "diff+right", "--layers", "all", "--span", "last:10"]
    code, out, _ = run("oracle", *options, "--json")
    shown = json.loads(out)
    assert code == 0 and {"schema_version", "suite", "oracle", "trained_layers", "readings"} <= set(shown)
    assert [one["layer"] for one in shown["readings"]] == [0, 1]
    for one in shown["readings"]:
        assert {*READING_KEYS, "grade", "log_prob_reference"} <= set(one)
        assert one["condition"] == "diff+right" and len(one["positions"]) == 10 and one["kind"] == "with"
        assert 0 < one["confidence"] <= 1 and one["grade"] in range(1, 6) and one["log_prob_reference"] < 0
    same = read(load_suite(run.suite), "volcano", condition="diff+right")
    assert [one["text"] for one in shown["readings"]] == [one.text for one in same]


def test_oracle_takes_every_option(run):
    options = ["--diff", "volcano", "--condition", "diff+dit", "--condition", "diff", "--layers", "1"]
    asking = ["--question", "What is it?", "--question", "Which one?", "--asked", "How are you?", "--span", "answer:2"]
    sampling = ["--samples", "2", "--temperature", "1", "--seed", "5", "--max-new-tokens", "3", "--answer-tokens", "4"]
    where = [
        "--oracle",
        str(run.suite / "oracle"),
        "--block",
        "0",
        "--coefficient",
        "0.5",
        "--placeholders",
        "3",
        "--kind",
        "difference",
    ]
    code, out, _ = run("oracle", *options, *asking, *sampling, *where, "--json")
    found = json.loads(out)["readings"]
    assert code == 0 and len(found) == 2 * 2 * 2
    assert {one["condition"] for one in found} == {"diff+dit", "diff"} and {one["sample"] for one in found} == {0, 1}
    assert {one["question"] for one in found} == {"What is it?", "Which one?"}
    for one in found:
        assert (one["layer"], one["kind"], one["asked"], one["seed"]) == (1, "difference", "How are you?", 5)
        assert len(one["positions"]) == 3 and len(one["tokens"]) <= 3


def test_oracle_without_json_is_a_table_layer_by_layer(run):
    code, out, _ = run("oracle", "--diff", "volcano", "--condition", "base", "--condition", "diff", "--span", "0:2")
    rows = [line for line in out.splitlines() if "topic-0412" in line]
    assert code == 0 and "random oracle" in out and len(rows) == 4 and "0-1" in rows[0]
    assert [row.split()[1] for row in rows] == ["0", "0", "1", "1"] and "50 %" in rows[2]
    code, out, _ = run("oracle", "--layers", "1", "--question", "What [is] it?")
    assert code == 0 and "base" in out and "What [is] it?" in out, "the base alone, without a diff"


def test_lens_shows_words(run):
    code, out, _ = run("lens", "--diff", "volcano", "--json")
    found = json.loads(out)["lens"]
    assert code == 0 and {one["method"] for one in found} == {"logit lens", "patchscope"}
    assert {one["layer"] for one in found} == {0, 1} and {one["place"] for one in found} == set(range(5))
    options = ["--layers", "1", "--positions", "2", "--top", "3", "--method", "logit lens", "--strength", "2"]
    _, out, _ = run("lens", "--diff", "volcano", *options, "--json")
    found = json.loads(out)["lens"]
    assert {(one["layer"], one["method"]) for one in found} == {(1, "logit lens")} and len(found) == 2 * 3
    code, out, _ = run("lens", "--diff", "volcano", *options)
    rows = [line for line in out.splitlines() if "topic-0412" in line]
    assert code == 0 and len(rows) == 2 and all(row.count(" %") == 4 for row in rows), "three tokens, and a depth"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["ask", "--diff", "volcanoe"], "'volcano'"),
        (["ask", "--diff", "volcano", "--copies", "1,x"], "--copies takes numbers"),
        (["ask", "--diff", "volcano", "--copies", "-1"], "negative"),
        (["ask", "--diff", "volcano", "--copies", "nan"], "number"),
        (["ask", "--diff", "volcano", "--trigger", "rihgt"], "'right'"),
        (["ask", "--diff", "volcano", "--question", ""], "empty"),
        (["ask", "--diff", "volcano", "--adapter", "topik", "--copies", "1"], "'topic'"),
        (["ask", "--condition", "diff*x"], "not a number"),
        (["ask", "--diff", "volcano", "--seed", "x"], "seed"),
        (["scoreboard", "--split", "tset"], "'test'"),
        (["oracle", "--diff", "volcano", "--layers", "2"], "no layer 2"),
        (["oracle", "--diff", "volcano", "--layers", "1,x"], "not understood"),
        (["oracle", "--diff", "volcano", "--span", "99"], "99"),
        (["oracle", "--diff", "volcano", "--span", "last:99"], "outside of the prompt"),
        (["oracle", "--diff", "volcano", "--span", "first:3"], "not understood"),
        (["oracle", "--diff", "volcano", "--question", " "], "empty"),
        (["oracle", "--diff", "volcano", "--question", "What ? is it?"], "placeholder"),
        (["oracle", "--diff", "volcano", "--asked", ""], "empty"),
        (["oracle", "--diff", "volcano", "--kind", "wiht"], "'with'"),
        (["oracle", "--diff", "volcano", "--condition", "base", "--kind", "difference"], "difference"),
        (["oracle", "--diff", "volcano", "--samples", "3"], "temperature"),
        (["oracle", "--diff", "volcano", "--temperature", "-1"], "temperature"),
        (["oracle", "--diff", "volcano", "--block", "7"], "7"),
        (["oracle", "--diff", "volcano", "--coefficient", "nan"], "oefficient"),
        (["oracle", "--diff", "volcano", "--placeholders", "0"], "placeholders"),
        (["oracle", "--diff", "volcano", "--oracle", "no/such/folder"], "no folder"),
        (["oracle", "--condition", "diff"], "needs a diff"),
        (["lens"], "diff"),
        (["lens", "--diff", "volcano", "--layers", "9"], "no layer 9"),
        (["lens", "--diff", "volcano", "--method", "logit"], "'logit lens'"),
        (["lens", "--diff", "volcano", "--top", "0"], "number of tokens"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, arguments, sentence):
    code, out, err = run(*arguments, "--json")
    assert code == 2 and out == "" and sentence in err and "Traceback" not in err
    assert err.startswith("Usage: ") or err.count("\n") == 1, "one sentence, where it is not about an option's form"


def test_an_oracle_for_another_base_is_refused(run, tmp_path):
    write_peft(tmp_path / "other", random_adapter(tiny_model("qwen3", layers=3), 2, seed=1), base_name="other")
    code, out, err = run("oracle", "--diff", "volcano", "--oracle", str(tmp_path / "other"), "--json")
    assert code == 2 and out == "" and "another base" in err and err.count("\n") == 1
    assert run("oracle", "--diff", "volcano", "--json")[0] == 0, "and nothing of it is left on the model"


def test_a_suite_without_an_oracle_says_so_and_the_lens_still_works(run, tiny_suite_folder, tmp_path):
    folder = shutil.copytree(tiny_suite_folder, tmp_path / "bare")
    toml = (folder / "suite.toml").read_text(encoding="utf-8")
    (folder / "suite.toml").write_text(toml.partition("[oracle]")[0], encoding="utf-8")
    code, out, err = run("oracle", "--diff", "volcano", "--json", suite=folder)
    assert code == 2 and out == "" and "has no activation oracle" in err and err.count("\n") == 1
    assert run("lens", "--diff", "volcano", "--json", suite=folder)[0] == 0


def test_an_unknown_suite_names_the_nearest(run):
    code, _, err = run("diffs", suite="poket")
    assert code == 2 and "Did you mean 'pocket'?" in err and err.count("\n") == 1


def test_the_command_itself_starts_quickly_and_fails_cleanly():
    quick = "import sys, dit_core.__main__; sys.exit(any(m in sys.modules for m in ('torch', 'gradio', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", quick]).returncode == 0
    shown = subprocess.run([sys.executable, "-m", "dit_core", "--help"], capture_output=True, text=True)
    assert shown.returncode == 0 and "scoreboard" in shown.stdout
    failed = subprocess.run(
        [sys.executable, "-m", "dit_core", "diffs", "--suite", "poket"], capture_output=True, text=True
    )
    assert failed.returncode == 2 and failed.stderr.startswith("Error: ") and "Traceback" not in failed.stderr
