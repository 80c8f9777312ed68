"""Tables: what they become, and what they keep to themselves until it is revealed."""

import csv
import io
import json
import typing
from dataclasses import fields, replace
from types import NoneType, UnionType

import pytest

from dit_core import records
from dit_core.errors import DitError, did_you_mean
from dit_core.records import DiffInfo, Finding, Record, Score, Table, Verbalization, records_from_json

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


# ---------------------------------------------------------------- and back


KINDS = [kind for kind in vars(records).values() if isinstance(kind, type) and issubclass(kind, Record)]
KINDS.remove(Record)


def example(kind: typing.Any, none: bool) -> typing.Any:
    """A value of a type as it is annotated; None wherever it may be, or nowhere."""
    plain = {str: "\u00e9 \u201cx\u201d\n", int: 7, float: -0.125, bool: True, typing.Any: {"a": [1, None]}}
    if kind in plain:
        return plain[kind]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is UnionType:
        return None if none and NoneType in args else example(args[0], none)
    if origin is tuple:
        return tuple(example(one, none) for one in (args[:1] * 3 if args[-1] is ... else args))
    if origin is list:
        return [example(args[0], none)] * 2
    assert origin is dict, kind
    return {"key": example(args[1], none)}


def example_of(record: type, none: bool = False) -> Record:
    hints = typing.get_type_hints(record)
    return record(**{field.name: example(hints[field.name], none) for field in fields(record)})


@pytest.mark.parametrize("none", [False, True])
@pytest.mark.parametrize("record", KINDS)
def test_every_kind_of_record_comes_back_from_json(record, none):
    table = Table("pocket", "rows", (example_of(record), example_of(record, none)), {"split": "test", "n": [1]})
    assert Table.from_json(table.to_json(reveal=True), record, "rows") == table
    text = json.dumps(table.to_json(reveal=True))
    assert Table.from_json(text, record, "rows") == Table.from_json(text.encode(), record, "rows") == table
    assert json.dumps(Table.from_json(text, record, "rows").to_json(reveal=True)) == text


def test_numbers_and_truths_stay_what_they_are():
    made = Finding("m", "t", "", None, "d", ("a",), {"exact": (True, None), "mean_grade": (4, 2.5), "lift": (1.0,)})
    (found,) = records_from_json(json.loads(json.dumps(Table("x", "f", (made,)).to_json(reveal=True)))["f"], Finding)
    assert found == made and [list(map(type, own)) for own in found.values.values()] == [
        [bool, NoneType],
        [int, float],
        [float],
    ]


def test_what_a_table_was_made_with_stays():
    older = Table("pocket", "verbalizations", (SAID,)).to_json() | {"versions": {"dit_core": "0.0.1"}}
    assert Table.from_json(older, Verbalization, "verbalizations").to_json() == older


ROW = records.as_dict(DIFF, reveal=True)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{name: value for name, value in ROW.items() if name != "task"}], "'task' of DiffInfo record 1 is missing"),
        ([ROW, records.as_dict(DIFF)], "'reference' of DiffInfo record 2 is left out: write the table with `reveal`"),
        ([ROW | {"x" * 99: 1}], f"'{'x' * 40}' of DiffInfo record 1 is unknown"),
        ([ROW | {"rank": "1"}], "'rank' of DiffInfo record 1 is wrong"),
        ([ROW | {"rank": 1.5}], "'rank'"),
        ([ROW | {"rank": True}], "'rank'"),
        ([ROW | {"rank": None}], "'rank'"),
        ([ROW | {"rank": [1]}], "'rank'"),
        ([ROW | {"id": 3}], "'id'"),
        ([ROW | {"id": "\ud800"}], "no DiffInfo records"),
        ([3], "no DiffInfo records"),
        ({"a": ROW}, "no DiffInfo records"),
        ("text", "no DiffInfo records"),
        (None, "no DiffInfo records"),
        ([{1, 2}], "no DiffInfo records"),
    ],
)
def test_what_is_no_record_is_refused_in_a_sentence(rows, words):
    for read in (
        lambda: records_from_json(rows, DiffInfo),
        lambda: Table.from_json({"suite": "x", "diffs": rows}, DiffInfo, "diffs"),
    ):
        with pytest.raises(DitError) as raised:
            read()
        assert words in str(raised.value) and "\n" not in str(raised.value) and str(raised.value).endswith(".")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400, "0.5", True])
@pytest.mark.parametrize("name", ["value", "interval"])
def test_numbers_are_finite(name, value):
    row = records.as_dict(SCORE) | {name: [value, value] if name == "interval" else value}
    with pytest.raises(DitError, match=f"'{name}' of Score record 1"):
        records_from_json([row], Score)


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "[]", "3", "null", b"\xff\xfe", "{}", '{"suite": "x"}', '{"diffs": []}', "[" * 100_000),
        *('{"suite": 1, "diffs": []}', '{"suite": "x", "diffs": [], "schema_version": 2}', None, 3, []),
        '{"suite": "x", "diffs": ' + "[" * 5000 + "]" * 5000 + "}",
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(content):
    with pytest.raises(DitError) as raised:
        Table.from_json(content, DiffInfo, "diffs")
    assert "\n" not in str(raised.value) and str(raised.value).endswith(".") and len(str(raised.value)) < 200


def test_a_record_whose_fields_lie_is_refused():
    """Each field of each kind of record in turn holds what it never may."""
    for record in KINDS:
        row = records.as_dict(example_of(record), reveal=True)
        for name in row:
            with pytest.raises(DitError, match=f"'{name}' of {record.__name__} record 1 is wrong"):
                records_from_json([row | {name: {"key": {"key": [[]]}}}], record)


def test_near_names_are_offered():
    topics = ["volcano", "violin", "steam train", "geyser"]
    assert did_you_mean("Vulcano", topics) == " Did you mean 'volcano'?"
    assert did_you_mean("steam", topics).startswith(" Did you mean 'steam train'")
    assert did_you_mean("xyz", topics) == "" and did_you_mean("a", []) == ""
    assert did_you_mean("violins", ["violin", "violinist"]) == " Did you mean 'violin' or 'violinist'?"
