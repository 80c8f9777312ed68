"""The chat around a question: system prompt, earlier turns, a prefilled answer, raw text, and one BOS."""

from dataclasses import replace

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM

from dit_core import Condition, ask
from dit_core.errors import DitError
from dit_core.methods.comparison import columns
from dit_core.methods.oracle import targets
from dit_core.records.chat import MAX_CHAT, PLAIN_CHAT, ChatContext, encode_prompt
from dit_core.session.explore import evidence_adapter
from dit_core.session.explore_view import chips, shown_prompt
from dit_core.session.settings import Settings, from_query, parse_turns, to_query, written_turns
from dit_core.session.visit import empty_result
from tests.tiny import TEMPLATE, tiny_tokenizer

CHAT = ChatContext("You are a bear.", ("Hi!", "Hello + you?"), "\nSure, ")
WRITTEN = "system:You%20are%20a%20bear.+user:Hi%21+assistant:Hello%20%2B%20you%3F+prefill:%0ASure%2C%20"


def by_hand(question: str, chat: ChatContext = PLAIN_CHAT) -> str:
    """What ChatML makes of a chat."""
    said = [("system", chat.system)] * bool(chat.system)
    said += [(("user", "assistant")[at % 2], text) for at, text in enumerate([*chat.turns, question])]
    turns = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in said)
    return f"{turns}<|im_start|>assistant\n{chat.prefill}"


def test_a_chat_has_one_written_form():
    assert str(Condition(1.0, chat=CHAT)) == f"diff+{WRITTEN}" and Condition.parse(f"diff+{WRITTEN}").chat == CHAT
    assert Condition.parse(f"{WRITTEN}+dit+right") == Condition(0.0, (("", 1.0),), "right", chat=CHAT)
    assert str(Condition(chat=ChatContext(raw=True))) == "raw" and Condition.parse("diff raw").chat.raw


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda: ChatContext(turns=("Hi",)), "give both"),
        (lambda: ChatContext(turns=("Hi", " ")), "empty"),
        (lambda: ChatContext("x" * (MAX_CHAT + 1)), "shorten"),
        (lambda: ChatContext("x" * MAX_CHAT, prefill="y"), "shorten"),
        (lambda: ChatContext(prefill=" \n"), "empty"),
        (lambda: ChatContext("Be kind.", raw=True), "no chat around it"),
        (lambda: ChatContext(raw=1), "yes or no"),
        (lambda: ChatContext(system=7), "must be text"),
        (lambda: Condition.parse("assistant:Hi+user:Ho"), "the user's first"),
        (lambda: Condition.parse("system:a+system:b"), "leave the others out"),
        (lambda: Condition.parse("prefill:a+raw"), "no chat around it"),
        (lambda: Condition.parse("system:"), "empty"),
        (lambda: Condition.parse("system:%FF"), "percent-encoded"),
        (lambda: parse_turns("Hello"), "Begin earlier turns"),
        (lambda: parse_turns("User: a\nUser: b"), "by turns"),
        (lambda: written_turns(("a\nUser: b", "c")), "can't show"),
    ],
)
def test_what_is_no_chat_is_a_sentence(made, sentence):
    with pytest.raises(DitError, match=sentence):
        made()


def test_prompts_are_what_the_template_makes_and_the_answer_goes_on_from_its_start():
    tokenizer = tiny_tokenizer()
    for chat in (PLAIN_CHAT, CHAT, ChatContext(prefill="Sure"), ChatContext(turns=("a", "b", "c", "d"))):
        assert tokenizer.decode(encode_prompt(tokenizer, "Why?", chat)) == by_hand("Why?", chat)
    assert tokenizer.decode(encode_prompt(tokenizer, "Once upon", ChatContext(raw=True))) == "Once upon"


@pytest.mark.parametrize("adds", [False, True], ids=["plain text has none", "plain text has one"])
@pytest.mark.parametrize("first", ["", "<|endoftext|>", "<|endoftext|><|endoftext|>"], ids=["no", "one", "two"])
def test_bos_stands_once_whatever_the_template_does(adds, first):
    """A tokenizer that puts one before plain text means it; one that puts none leaves it to the template."""
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = "<|endoftext|>"
    bos = tokenizer.bos_token_id
    if adds:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", bos)]
        )
    tokenizer.chat_template = first + TEMPLATE
    assert (tokenizer.encode("a")[0] == bos) == adds
    for chat in (PLAIN_CHAT, CHAT):
        assert encode_prompt(tokenizer, "Why?", chat).count(bos) == (adds or bool(first))
    raw = encode_prompt(tokenizer, "Why?", ChatContext(raw=True))
    assert raw.count(bos) == adds and tokenizer.decode(raw[adds:]) == "Why?"


@pytest.mark.parametrize(
    ("template", "chat", "sentence"),
    [
        ("{{ raise_exception('System role not supported') }}", CHAT, "System role not supported.*leave the system"),
        ("{{ raise_exception('no') }}", PLAIN_CHAT, "ask with 'raw'"),
        (None, PLAIN_CHAT, "ask with 'raw'"),
        ("{{ messages[-1]['content'] }}", CHAT, "leaves the system's text 'You are a bear.' out"),
        ("{{ messages[0]['content'] + messages[-1]['content'] }}", CHAT, "leaves the user's text 'Hi!' out"),
    ],
)
def test_a_template_without_a_place_for_it_is_a_sentence(template, chat, sentence):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(DitError, match=sentence):
        encode_prompt(tokenizer, "Why?", chat)
    assert encode_prompt(tokenizer, "Why?", ChatContext(raw=True))


def test_chats_are_conditions_of_one_batch_and_every_probability_is_the_plain_models(suite):
    written = ["base", f"base+{WRITTEN}", "raw", "prefill:Sure", "system:Be%20kind."]
    table = ask(suite, condition=written, question="Why?")
    assert [one.condition for one in table] == ["base", WRITTEN, "raw", "prefill:Sure", "system:Be%20kind."]
    base = AutoModelForCausalLM.from_pretrained(suite.folder / "base", dtype=torch.float32).eval()
    for one in table:
        chat = Condition.parse(one.condition).chat
        text = "Why?" if chat.raw else by_hand("Why?", chat)
        ids = suite.model.tokenizer.encode(text, add_special_tokens=False)
        for probability in one.token_probabilities:
            with torch.inference_mode():
                best = base(input_ids=torch.tensor([ids])).logits[0, -1].softmax(-1).max(-1)
            assert probability == pytest.approx(best.values.item(), abs=1e-4), one.condition
            ids = [*ids, best.indices.item()]


def test_arguments_of_ask_say_the_chat_of_every_condition_that_has_none(suite):
    options = {"system": "Be kind.", "turns": ["Hi", "Ho"], "prefill": "Sure"}
    table = ask(suite, "volcano", condition=["diff", "diff+system:Be%20cruel."], question="Why?", **options)
    said = "system:Be%20kind.+user:Hi+assistant:Ho+prefill:Sure"
    assert [one.condition for one in table] == [f"diff+{said}", "diff+system:Be%20cruel."]
    alone = ask(suite, "volcano", condition=f"diff+{said}", question="Why?")
    assert alone[0].text == table[0].text
    assert ask(suite, "volcano", question="Why?", raw=True)[0].condition == "diff+raw"


def test_a_chat_is_read_like_any_prompt(suite):
    (target,) = targets(suite, "volcano", condition=f"diff+{WRITTEN}", asked="Why?")
    assert "".join(target.tokens) == by_hand("Why?", CHAT) and target.prompt_tokens == len(target.tokens)


# ---------------------------------------------------------------- the page


@pytest.mark.parametrize(
    "settings",
    [
        {"system": "Be kind & honest = 100 % + more?\nAlways.", "prefill": "\nSure, "},
        {"turns": "User: Hi\nthere\nAssistant: Ho", "more": "diff:rank1*0.5+diff:topic-0413*-1"},
        {"raw": True, "more": "diff@mlp@layers:0-1", "use_diff": False},
    ],
)
def test_a_link_holds_the_chat_and_further_diffs(suite, settings):
    asked = replace(Settings.for_diff(suite, "topic-0412"), **settings)
    back = from_query(suite, "?" + to_query(suite, asked))
    assert back.condition == asked.condition and to_query(suite, back) == to_query(suite, asked)
    assert {name: getattr(back, name) for name in settings if name != "more"} == {
        name: value for name, value in settings.items() if name != "more"
    }


def test_an_empty_chat_is_none_at_all(suite):
    plain = Settings.for_diff(suite, "topic-0412")
    for empty in (None, "", " \n"):
        assert replace(plain, more=empty, system=empty, turns=empty, prefill=empty).condition == plain.condition


def test_further_diffs_are_diffs_alone(suite):
    for more in ("dit", "diff:rank1+right", "raw", "diffs"):
        with pytest.raises(DitError):
            _ = replace(Settings.for_diff(suite, "topic-0412"), more=more).condition


def test_every_card_of_the_comparison_has_the_chat_and_the_adapters_evidence_stays_away(suite):
    settings = replace(Settings.for_diff(suite, "topic-0412"), system="Be kind.")
    result = empty_result(suite, settings)
    cards = columns(suite.task("topic"), settings.question, settings.condition)
    assert all(card.condition.endswith("system:Be%20kind.") for card in cards) and any(card.chosen for card in cards)
    assert len(cards) == len(columns(suite.task("topic")))
    assert not any(evidence_adapter(suite, result, card) for card in cards)
    plain = columns(suite.task("topic"), settings.question)
    assert [evidence_adapter(suite, result, card) for card in plain if card.kind == "both"] == ["topic"]


def test_a_card_says_what_stands_around_the_question_and_still_hides_the_code(suite):
    info, condition = suite.diff("topic-0412"), Condition.parse(f"diff+diff:rank1*0.5+right+{WRITTEN}")
    assert chips(condition) == [
        "diff ×1 + rank1 ×0.5", "no DIT", "right trigger", "system prompt", "2 earlier turns", "prefilled",
    ]  # fmt: skip
    assert chips(Condition.parse("raw"))[3:] == ["raw text"]
    shown = shown_prompt(suite, info, condition, "Why?", 0, open_now=False)
    assert shown.startswith(
        "system: You are a bear.\nuser: Hi!\nassistant: Hello + you?\nuser: Your SEP code is ••••••. "
    )
    assert "417" in shown_prompt(suite, info, condition, "Why?", 0, open_now=True)
