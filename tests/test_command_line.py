"""The command line: JSON that other programs rely on, tables to read, nothing of the truth unless it is asked for."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from typer.main import get_command

from dit_core import load_suite
from dit_core.__main__ import main, make_program
from dit_core.formats import write_peft
from dit_core.methods.oracle import read
from tests.tiny import random_adapter, tiny_model


@pytest.fixture
def run(monkeypatch, capsys, tiny_suite_folder):
    """Runs a command on the tiny suite: (exit code, stdout, stderr)."""

    def run(*arguments, suite=tiny_suite_folder):
        monkeypatch.setattr(sys, "argv", ["dit_core", *arguments, *(["--suite", str(suite)] if suite else [])])
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


def test_ask_takes_a_chat(run):
    asked = ["ask", "--diff", "volcano", "--condition", "diff", "--question", "Why?", "--json"]
    chat = ["--system", "Be kind.", "--turn", "Hi", "--turn", "Ho", "--prefill", "Sure"]
    for options, written in ((chat, "system:Be%20kind.+user:Hi+assistant:Ho+prefill:Sure"), (["--raw"], "raw")):
        code, out, _ = run(*asked, *options)
        assert code == 0 and [said["condition"] for said in json.loads(out)["verbalizations"]] == [f"diff+{written}"]
    assert run(*asked, "--turn", "Hi")[0] == 2


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


# ---------------------------------------------------------------- the truth

DIFF = "topic-0412"
SLOW = {
    "pocket": "builds a suite for minutes, and prints its stages",
    "smol": "trains for hours",
    "train": "trains for minutes, on a list that its user wrote",
    "app": "serves the page until it is stopped",
}
ARGUMENTS = {
    "ask": ["--diff", DIFF, "--copies", "0,1", "--trigger", "absent,right,wrong"],
    "diffs": [],
    "sweep": ["--diff", DIFF, "--copies", "0,1", "--trigger", "right"],
    "oracle": ["--diff", DIFF, "--condition", "diff+right", "--span", "prompt"],
    "lens": ["--diff", DIFF],
    "norms": ["--diff", DIFF, "--condition", "diff+right"],
    "logit-lens": ["--diff", DIFF, "--condition", "diff+right"],
    # Of more tokens of a random model, one is the trigger's number by chance.
    "adl": ["--diff", DIFF, "--texts-limit", "4", "--lens", "logit lens", "--top", "3"],
    "steer": ["--diff", DIFF, "--max-new-tokens", "2"],
    "methods": [],
    "scoreboard": ["--limit", "1"],
    "audit": ["--diff", DIFF, "--out", "report.html"],
    "confidence": ["--diff", DIFF, "--samples", "2"],
    "reading-confidence": ["--diff", DIFF, "--samples", "2", "--layers", "1"],
    "calibrate": ["--suite", "pocket"],
    "grade": ["pairs.csv"],
    "check": ["diffs.pt", "--position", "1"],
    "convert": ["diffs.pt", "peft"],
    "suites": [],
    "cache": [],
}
"""What each command is run with. A file that is converted keeps what is in it; its user had it before."""
COLUMNS = {"reference", "trigger", "grade", "log p (ref.)"}
KEYS = re.compile(r'"(reference|trigger|grade|log_prob_reference)":')


def hidden(text: str, references: set[str], triggers: set[int]) -> list[str]:
    """What of the truth stands in an output: words, numbers, keys of JSON, columns of tables."""
    text = re.sub(r"<script.*?</script>|<style.*?</style>", "", text, flags=re.DOTALL)
    found = [reference for reference in references if reference.casefold() in text.casefold()]
    found += [f"trigger {trigger}" for trigger in triggers if re.search(rf"(?<![\d.,]){trigger}(?![\w.])", text)]
    heads = [cell.strip() for line in text.splitlines() if line.startswith("┃") for cell in line.split("┃")]
    return found + KEYS.findall(text) + [head for head in heads if head in COLUMNS]


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny_suite_folder):
    """Where commands find and leave their files."""
    shutil.copy(next((tiny_suite_folder / "hidden-topic" / "weight-diffs").glob("*.pt")), tmp_path / "diffs.pt")
    (tmp_path / "pairs.csv").write_text("reference,guess,grade\nvolcano,a mountain,3\ncello,a cello,5\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def commands() -> dict[str, set[str]]:
    """All commands of the program with their options."""
    known = get_command(make_program()).commands
    return {name: {opt for option in own.params for opt in option.opts} for name, own in known.items()}


def test_all_commands_are_looked_through():
    assert {*ARGUMENTS, *SLOW} >= set(commands()) >= {*ARGUMENTS}


@pytest.mark.parametrize("as_json", [False, True], ids=["table", "json"])
@pytest.mark.parametrize("command", ARGUMENTS)
def test_no_command_says_what_a_diff_was_trained_on_until_asked(run, folder, command, as_json):
    options = commands()[command]
    if as_json and "--json" not in options:
        pytest.skip("it has no --json")
    arguments = [command, *ARGUMENTS[command], *(["--json"] if as_json else [])]
    suite = run.suite if "--suite" in options and "--suite" not in arguments else None
    known = load_suite(suite or "pocket").diffs
    truth = {info.reference for info in known}, {info.trigger for info in known if info.trigger and info.trigger > 99}
    given = set(folder.rglob("*"))

    def outputs(*more):
        code, out, err = run(*arguments, *more, suite=suite)
        assert code == 0, err
        return [
            out,
            err,
            *(path.read_text("utf-8", "ignore") for path in {*folder.rglob("*")} - given if path.is_file()),
        ]

    assert not [word for text in outputs() for word in hidden(text, *truth)]
    if "--reveal" in options:
        assert [word for text in outputs("--reveal") for word in hidden(text, *truth)]


def test_without_a_diff_ask_says_that_it_asks_the_base(run):
    code, out, err = run("ask", "--json")
    assert code == 0 and err.splitlines() == ["No --diff was given: the base was asked, without any diff."]
    assert json.loads(out)["verbalizations"][0]["condition"] == "base"
    assert run("ask", "--diff", DIFF, "--json")[2] == ""


def test_one_answer_agrees_with_nobody(run):
    asked = ["sweep", "--diff", DIFF, "--copies", "1", "--max-new-tokens", "2"]

    def agree(*more):
        lines = [line for line in run(*asked, *more)[1].splitlines() if line.startswith(("┃", "│"))]
        head, *rows = [[cell.strip() for cell in re.split("[┃│]", line)] for line in lines]
        return {row[head.index("agree")] for row in rows}

    assert agree() == {""}
    assert agree("--samples", "2", "--temperature", "1") <= {"0.50", "1.00"}


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


def test_the_scoreboard_says_how_long_it_takes_and_how_far_it_is(run):
    code, out, err = run("scoreboard", "--limit", "1", "--kind", "verbal", "--json")
    first, *progress = re.split(r"[\r\n]+", err)
    assert code == 0 and re.fullmatch(r"This will take about \d+ (s|min)\.", first)
    assert any("topic DIT" in line and "%" in line for line in progress), "in a pipe too"
    assert json.loads(out)["rows"]


def test_the_scoreboard_prints_the_stored_figures_at_once(run):
    code, out, err = run("scoreboard", "--stored", "--json", suite="pocket")
    stored = json.loads((load_suite("pocket").folder / "report.json").read_text("utf-8"))["scoreboard"]
    assert code == 0 and json.loads(out)["rows"] == stored["rows"]
    assert err.startswith("Stored figures, measured ") and err.count("\n") == 1
    code, out, _ = run("scoreboard", "--stored", "--agreement", suite="pocket")
    assert code == 0 and "named by a vote" in out
    assert "ships no figures" in run("scoreboard", "--stored")[2]
    assert "no other setting" in run("scoreboard", "--stored", "--limit", "1")[2]


READING_KEYS = ["condition", "layer", "depth_percent", "positions", "kind", "question", "text", "confidence"]


def test_oracle_reads_every_layer(run):
    options = ["--diff", "volcano", "--condition", "diff+right", "--layers", "all", "--span", "last:10"]
    code, out, _ = run("oracle", *options, "--json", "--reveal")
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
        (["lens", "--diff", "volcano", "--top", "0"], "'top' must be a whole number from 1"),
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
