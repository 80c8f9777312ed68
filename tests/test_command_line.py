"""The command line: JSON that other programs rely on, tables to read, and one sentence with exit code 2."""

import json
import subprocess
import sys

import pytest

from dit_core.__main__ import main


@pytest.fixture
def run(monkeypatch, capsys, tiny_suite_folder):
    """Runs a command on the tiny suite: (exit code, stdout, stderr)."""

    def run(*arguments, suite=tiny_suite_folder):
        monkeypatch.setattr(sys, "argv", ["dit_core", *arguments, "--suite", str(suite)])
        with pytest.raises(SystemExit) as left:
            main()
        shown = capsys.readouterr()
        return left.value.code, shown.out, shown.err

    return run


def test_ask_answers_every_combination(run):
    code, out, _ = run("ask", "--diff", "volcano", "--copies", "0,1,2", "--trigger", "absent,right", "--json")
    answer = json.loads(out)
    assert code == 0 and list(answer) == ["schema_version", "suite", "verbalizations"]
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
    assert code == 0 and list(board) == ["schema_version", "suite", "split", "rows"]
    assert {row["measure"] for row in board["rows"]} == {"exact", "mean_grade", "mentions", "equals_base"}
    code, out, _ = run("scoreboard", "--limit", "1", "--split", "train")
    assert code == 0 and "published" in out and "Qwen3-4B" in out and "train diffs" in out


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
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(run, arguments, sentence):
    code, out, err = run(*arguments, "--json")
    assert code == 2 and out == "" and sentence in err and "Traceback" not in err


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
