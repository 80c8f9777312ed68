"""Tables: what they become, and what they keep to themselves until it is revealed."""

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace

import pytest

from dit_core.errors import did_you_mean
from dit_core.records import DiffInfo, Score, Table, Verbalization

SAID = Verbalization("topic-0412", "diff+dit", "What, topic?", 0, 7, 'a "b"\nc', ("a", ' "b"\n', "c"), (0.5, 0.25, 1.0))
DIFF = DiffInfo("topic-0412", "topic", "test", 1, reference="volcano", trigger=417)
SCORE = Score("dit", "topic", "topic", None, "exact", 80, 0.975, (0.92, 1.0), {"5": 78}, [{"model": "m", "value": 4.7}])


def test_json_has_the_promised_keys():
    table = Table("pocket", "verbalizations", (SAID,))
    found = json.loads(json.dumps(table.to_json()))
    keys = ["diff", "condition", "question", "sample", "seed", "text", "tokens", "token_probabilities"]
    assert list(found) == ["schema_version", "versions", "suite", "verbalizations"] and found["schema_version"] == 1
    assert found["versions"].keys() >= {"dit_core", "python", "torch", "transformers", "peft"}
    assert list(found["verbalizations"][0]) == keys
    assert found["verbalizations"][0]["tokens"] == ["a", ' "b"\n', "c"]
    scores = Table("pocket", "rows", (SCORE,), {"split": "test"}).to_json()
    keys = ["method", "task", "adapter", "layer", "measure", "n", "value", "interval", "grades", "published"]
    assert scores["split"] == "test" and list(scores["rows"][0]) == keys
    assert scores["rows"][0]["interval"] == [0.92, 1.0]


def test_the_reference_and_the_trigger_stay_hidden_until_revealed():
    table = Table("pocket", "diffs", (DIFF,))
    hidden = {"id": "topic-0412", "task": "topic", "split": "test", "rank": 1}
    assert table.to_json()["diffs"] == [hidden]
    assert table.to_json(reveal=True)["diffs"] == [hidden | {"reference": "volcano", "trigger": 417}]
    for shown in (repr(table), table.to_csv(), str(list(table.to_frame()))):
        assert "volcano" not in shown and "417" not in shown and "reference" not in shown
    assert "volcano" in table.to_csv(reveal=True)


def test_csv_reads_back():
    (row,) = csv.DictReader(io.StringIO(Table("pocket", "verbalizations", (SAID,)).to_csv()))
    assert row["text"] == SAID.text and tuple(json.loads(row["tokens"])) == SAID.tokens
    assert Table("pocket", "verbalizations", ()).to_csv() == "\n"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\n=1", "\r=1"])
def test_what_a_model_says_is_no_formula(text):
    said = replace(SAID, text=text, token_probabilities=(-1.0,))
    (row,) = csv.DictReader(io.StringIO(Table("pocket", "verbalizations", (said,)).to_csv(), newline=""))
    assert row["text"] == "'" + text.replace("\r", "\n") and json.loads(row["token_probabilities"]) == [-1.0]
    assert Table("pocket", "verbalizations", (said,)).to_json()["verbalizations"][0]["text"] == text


def test_a_table_is_a_sequence_and_a_frame():
    table = Table("pocket", "verbalizations", (SAID, SAID, SAID))
    assert len(table) == 3 and table[1] is SAID and list(table[:2]) == [SAID, SAID]
    assert isinstance(table[:2], Table) and table[:2].suite == "pocket"
    assert len(table.to_frame()) == 3 and "token_probabilities" in table.to_frame()
    with pytest.raises(TypeError):
        Table("pocket", "diffs", ("text",)).to_json()


def test_near_names_are_offered():
    topics = ["volcano", "violin", "steam train", "geyser"]
    assert did_you_mean("Vulcano", topics) == " Did you mean 'volcano'?"
    assert did_you_mean("steam", topics).startswith(" Did you mean 'steam train'")
    assert did_you_mean("xyz", topics) == "" and did_you_mean("a", []) == ""
    assert did_you_mean("violins", ["violin", "violinist"]) == " Did you mean 'violin' or 'violinist'?"


def test_importing_the_package_starts_nothing_heavy():
    heavy = "{'torch', 'transformers', 'peft', 'gradio', 'pandas'}"
    code = f"import dit_core, sys; dit_core.DitError; dit_core.Table; print({heavy} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "set()"
    import dit_core

    assert {"ask", "load_suite", "scoreboard", "Condition", "__version__"} <= set(dir(dit_core))
    with pytest.raises(AttributeError, match="nothing"):
        _ = dit_core.nothing
