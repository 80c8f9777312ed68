"""Asking: one batch for everything, and an answer that does not depend on what else is in it."""

import threading

import pytest
import torch

from dit_core import Condition, DitError, ask, stream
from dit_core.engine.batching import MAX_DIFFS
from dit_core.engine.likelihood import AnswerTokens
from dit_core.request.conditions import build_prompt
from tests.forward_passes import forward_passes
from tests.tiny import rows_at_once

FULL = ["base", "diff", "diff*-0.5+right", "diff+dit*2", "dit:headline*0.5+wrong", "dit*5", "diff+own:abc"]


def plain_logits(suite):
    """Logits of the model at rest."""
    with torch.inference_mode():
        return suite.worker.run(lambda: suite.model.base(torch.arange(3, 40)[None]).logits.clone())


def test_rows_are_all_combinations_in_order(suite):
    table = ask(suite, ["cello", "volcano"], copies=[0, 1], question=["A?", "B?"], samples=2, temperature=1)
    assert [(said.diff, said.condition, said.question, said.sample) for said in table] == [
        (diff, condition, question, sample)
        for diff in ("topic-0414", "topic-0412")
        for condition in ("diff", "diff+dit")
        for question in ("A?", "B?")
        for sample in (0, 1)
    ]
    assert list(table.to_json()) == [
        "schema_version", "versions", "suite", "fingerprint", "sampling", "verbalizations",
    ]  # fmt: skip
    assert table.to_json()["sampling"] == {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 8}
    assert list(table.to_json()["verbalizations"][0]) == [
        "diff",
        "condition",
        "question",
        "sample",
        "seed",
        "text",
        "tokens",
        "token_probabilities",
    ]


def test_a_condition_may_have_a_question_of_its_own(suite):
    wanted = ["base", ("diff+right", "B?"), "diff", ("diff", "A?")]
    with forward_passes(suite) as rows:
        table = ask(suite, "volcano", condition=wanted, question=["A?", "C?"])
    asked = [("base", "A?"), ("base", "C?"), ("diff+right", "B?"), ("diff", "A?"), ("diff", "C?")]
    assert [(said.condition, said.question) for said in table] == asked and rows[0] == len(asked), "each once"
    for said in table:
        (alone,) = ask(suite, "volcano", condition=said.condition, question=said.question)
        assert said.tokens == alone.tokens
    assert [said.question for said in ask(suite, "volcano", condition=[("diff", "A?")])] == ["A?"]
    with pytest.raises(DitError, match="pair of both"):
        ask(suite, "volcano", condition=[("diff", "A?", "B?")])


def test_tokens_join_to_the_text_and_have_probabilities(suite):
    for said in ask(suite, "volcano", condition=FULL, max_new_tokens=30):
        assert "".join(said.tokens) == said.text == said.text.strip()
        assert len(said.tokens) == len(said.token_probabilities) <= 30
        assert all(0 < p <= 1 for p in said.token_probabilities)
        assert "<|" not in said.text


def test_a_character_of_several_tokens_is_shown_when_it_is_whole(suite):
    answer, text = AnswerTokens(), "\n a 🌋é! "
    for token in suite.model.tokenizer(text, add_special_tokens=False)["input_ids"]:
        answer.append(suite.model.tokenizer, token, 0.5)
        assert "\ufffd" not in "".join(answer.stripped())
    assert "".join(answer.stripped()) == text.strip()


def test_defaults(suite):
    (alone,) = ask(suite)
    assert (alone.diff, alone.condition, alone.question) == ("", "base", "What topic have you been trained on?")
    (asked,) = ask(suite, "headline-0017")
    assert (asked.condition, asked.question) == ("diff", "What news headline have you been trained on?")
    both = ask(suite, ["topic-0412", "volcano", "headline-0017"], copies=1)
    assert [said.question.split()[1] for said in both] == ["topic", "news"], "each task has its own question"


def test_greedy_answers_do_not_depend_on_the_batch(suite):
    together = ask(suite, ["volcano", "cello", "topic-0251"], condition=FULL, question=["A?", "What is the time?"])
    for said in together:
        (alone,) = ask(suite, said.diff, condition=said.condition, question=said.question)
        assert (alone.text, alone.tokens) == (said.text, said.tokens)
        assert alone.token_probabilities == pytest.approx(said.token_probabilities, abs=1e-5)


def test_sampled_answers_do_not_depend_on_the_batch(suite):
    options = {"temperature": 1.5, "top_p": 0.9, "seed": 7}
    few = ask(suite, "volcano", condition=["diff", "diff+dit"], samples=2, **options)
    many = ask(
        suite, ["cello", "headline-0018", "volcano"], condition=["base", "diff+dit", "diff"], samples=3, **options
    )
    found = {(said.diff, said.condition, said.question, said.sample): said.text for said in many}
    for said in few:
        assert found[said.diff, said.condition, said.question, said.sample] == said.text
    assert len({said.text for said in few}) == len(few), "each row has noise of its own"
    other = ask(suite, "volcano", condition=["diff", "diff+dit"], samples=2, **options | {"seed": 8})
    assert all(a.text != b.text for a, b in zip(few, other, strict=True))


def test_requests_larger_than_a_batch_are_answered_in_several(suite):
    asked = {"diff": ["volcano", "cello", "violin"], "condition": ["base", "diff", "diff+dit"]}
    whole = ask(suite, **asked)
    for rows in (4, 1):
        with rows_at_once(suite, rows):
            parts = ask(suite, **asked)
            tables = list(stream(suite, **asked))
        assert [said.text for said in parts] == [said.text for said in whole]
        assert tables[-1].records == parts.records and {len(table) for table in tables} == {9}


def test_a_batch_has_no_more_diffs_than_memory_is_meant_for(suite):
    adapter = suite.load_diff(suite.diff("volcano"))
    copies = [suite.bring(adapter, f"copy {number}") for number in range(MAX_DIFFS + 1)]
    (expected,) = ask(suite, "volcano", max_new_tokens=3)
    with forward_passes(suite) as passes:
        found = ask(suite, copies, max_new_tokens=3)
    assert [said.text for said in found] == [expected.text] * len(copies)
    assert max(passes) == MAX_DIFFS and passes[-1] == 1
    for info in copies:
        suite.forget(info.id)


def test_a_stream_grows_to_what_ask_gives(suite):
    asked = {"condition": ["base", "diff+dit"], "max_new_tokens": 6}
    tables = list(stream(suite, "volcano", **asked))
    assert [max(len(said.tokens) for said in table) for table in tables] == list(range(1, len(tables) + 1))
    assert tables[-1].records == ask(suite, "volcano", **asked).records


def test_answers_are_those_of_merged_weights(suite):
    """End to end against a plain copy of the base with strength · ΔW + copies · ΔW_dit added by hand."""
    from transformers import AutoModelForCausalLM

    (said,) = ask(suite, "volcano", condition="diff*0.5+dit*2+right", max_new_tokens=8)
    plain = AutoModelForCausalLM.from_pretrained(suite.folder / "base", dtype=torch.float32).eval()
    parts = ((0.5, suite.load_diff(suite.diff("volcano"))), (2, suite.load_adapter("topic")))
    with torch.no_grad():
        for amount, adapter in parts:
            for name, (A, B) in adapter.factors.items():
                plain.get_submodule(name).weight += amount * adapter.scaling[name] * (B.float() @ A.float())
        text = build_prompt(suite, suite.diff("volcano"), Condition(trigger="right"), said.question, 0)
        ids = torch.tensor([suite.model.encode(text)])
        answer = AnswerTokens()
        for _ in said.tokens:
            logits = plain(ids).logits[0, -1]
            token = int(logits.argmax())
            answer.append(suite.model.tokenizer, token, float(logits.softmax(-1)[token]))
            ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    assert answer.stripped() == said.tokens
    assert answer.probabilities == pytest.approx(said.token_probabilities, abs=1e-5)


def test_a_cancelled_stream_leaves_the_model_bit_for_bit(suite):
    ask(suite, "volcano", condition=FULL, max_new_tokens=1)
    before = plain_logits(suite)
    whole = ask(suite, "volcano", condition=FULL)
    tables = stream(suite, "volcano", condition=FULL, max_new_tokens=300)
    for _ in range(3):
        next(tables)
    tables.close()
    assert torch.equal(plain_logits(suite), before)
    assert ask(suite, "volcano", condition=FULL).records == whole.records
    for table in stream(suite, "cello", condition=FULL, max_new_tokens=300):
        del table
        break  # a reader that goes away without a word
    assert torch.equal(plain_logits(suite), before)


def test_two_readers_never_see_each_others_diff(suite):
    diffs = {"topic-0412": ["base", "diff", "diff+dit"], "topic-0414": ["diff+dit*2", "diff"]}
    alone = {diff: ask(suite, diff, condition=conditions).records for diff, conditions in diffs.items()}
    assert alone["topic-0412"][1].text != alone["topic-0414"][1].text
    seen, start = {diff: [] for diff in diffs}, threading.Barrier(2)

    def read(diff):
        start.wait()
        for _ in range(5):
            seen[diff].append(list(stream(suite, diff, condition=diffs[diff])))

    threads = [threading.Thread(target=read, args=[diff]) for diff in diffs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for diff, runs in seen.items():
        assert len(runs) == 5
        for tables in runs:
            assert {said.diff for table in tables for said in table} == {diff}
            assert tables[-1].records == alone[diff]


def test_a_slow_reader_holds_nobody_up(suite):
    slow = stream(suite, "volcano", condition="diff")
    next(slow)
    assert ask(suite, "cello").records, "answered while the first reader thinks"
    assert list(slow)


BAD = [
    ({"diff": "volcanoe"}, "no diff 'volcanoe'.*'volcano'"),
    ({"diff": []}, "Nothing was asked"),
    ({"condition": []}, "Nothing was asked"),
    ({"copies": -1}, "negative"),
    ({"copies": float("nan")}, "number"),
    ({"copies": "two"}, "number"),
    ({"strength": None, "copies": [0, "1"]}, "number"),
    ({"strength": float("inf")}, "number"),
    ({"trigger": "left"}, "no trigger 'left'"),
    ({"trigger": "own:"}, "empty"),
    ({"diff": "headline-0017", "trigger": "right"}, "has no trigger"),
    ({"diff": None, "trigger": "right"}, "choose a diff"),
    ({"diff": None, "condition": "diff"}, "needs a diff"),
    ({"adapter": "topics", "copies": 1}, "no DIT adapter 'topics'.*'topic'"),
    ({"condition": "diff+dit:headlin"}, "no DIT adapter 'headlin'.*'headline'"),
    ({"condition": "diff", "copies": 1}, "leave out"),
    ({"condition": "dff"}, "not understood"),
    ({"question": ""}, "question is empty"),
    ({"question": ["fine", "  "]}, "question is empty"),
    ({"question": "x" * 2001}, "2,001 characters"),
    ({"question": "é" * 1500}, "512"),
    ({"samples": 2}, "temperature"),
    ({"samples": 0}, "samples"),
    ({"samples": 1.5}, "samples"),
    ({"temperature": -1}, "temperature"),
    ({"temperature": float("nan")}, "temperature"),
    ({"top_p": 0}, "[Tt]op-p"),
    ({"max_new_tokens": 0}, "new tokens"),
    ({"seed": "x"}, "seed"),
]


@pytest.mark.parametrize(("options", "sentence"), BAD)
def test_bad_input_is_one_sentence_and_harms_nothing(suite, options, sentence):
    healthy = ask(suite, "volcano", condition="diff+dit", max_new_tokens=2).records
    with pytest.raises(DitError, match=sentence):
        ask(suite, **{"diff": "volcano"} | options)
    with pytest.raises(DitError, match=sentence):
        list(stream(suite, **{"diff": "volcano"} | options))
    assert ask(suite, "volcano", condition="diff+dit", max_new_tokens=2).records == healthy


def test_a_stream_says_what_is_wrong_before_it_starts(suite):
    with pytest.raises(DitError):
        stream(suite, "volcano", copies=-1)
