"""A condition has one written form, and means one prompt and one mixture of adapters."""

import random

import pytest

from dit_core import Condition, DitError, grid
from dit_core.errors import checked_text
from dit_core.request.conditions import build_prompt, row_strengths


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("base", Condition()),
        ("diff", Condition(1)),
        ("diff*0.5", Condition(0.5)),
        ("diff*-1", Condition(-1)),
        ("dit", Condition(adapters=(("", 1),))),
        ("dit*2", Condition(adapters=(("", 2),))),
        ("dit:headline*2", Condition(adapters=(("headline", 2),))),
        ("dit@vector", Condition(adapters=(("@vector", 1),))),
        ("dit:headline@vector*2+layers:50%-75%", Condition(adapters=(("headline@vector", 2),), layers=("50%", "75%"))),
        ("diff+dit*2+right", Condition(1, (("", 2),), "right")),
        ("dit+dit:topic-64*0.5", Condition(adapters=(("", 1), ("topic-64", 0.5)))),
        ("right", Condition(trigger="right")),
        ("diff+own:50%25%20%2B%20%E2%80%8B%C3%A9", Condition(1, trigger="own:50% + \u200bé")),
        ("diff*1e-07", Condition(1e-7)),
    ],
)
def test_written_forms(text, condition):
    assert Condition.parse(text) == condition
    assert str(condition) == text


@pytest.mark.parametrize(
    ("loose", "text"),
    [
        ("right+dit+diff", "diff+dit+right"),
        ("dit:b+dit:a", "dit:a+dit:b"),
        ("diff*1.0+dit*2.50", "diff+dit*2.5"),
        ("diff*0+dit*0", "base"),
        ("base+right", "right"),
        ("diff absent", "diff"),
        (" diff dit*2  right ", "diff+dit*2+right"),  # a link that lost its + signs
    ],
)
def test_loose_forms_become_the_written_one(loose, text):
    assert str(Condition.parse(loose)) == text


def any_condition(rng: random.Random) -> Condition:
    def number():
        return rng.choice([1, 2, 0.5, 5, rng.random(), rng.uniform(-3, 3), 10 ** rng.uniform(-12, 5), 5e-324, 0])

    names = ["", "topic", "topic-64", "Headline", "7", "-"]
    letters = "ab +*%:&?=#/\\\"'<>é\u200b\U0001f30b\t5,"
    own = "own:x" + "".join(rng.choices(letters, k=rng.randrange(9))) + "y"
    adapters = tuple((rng.choice(names), abs(number())) for _ in range(rng.randrange(4)))
    return Condition(number(), adapters, rng.choice(["absent", "right", "wrong", own]))


def test_the_written_form_round_trips():
    rng = random.Random(0)
    for _ in range(3000):
        condition = any_condition(rng)
        text = str(condition)
        assert Condition.parse(text) == condition
        assert str(Condition.parse(text)) == text
        assert not set(text) & set(" &?#\n\t"), "the form goes into links and tables"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not understood"),
        ("dif", "Did you mean 'diff'"),
        ("diff*", "not a number"),
        ("diff*two", "not a number"),
        ("dit*nan", "not a number"),
        ("dit*inf", "not a number"),
        ("dit*1_0", "not a number"),
        ("dit*-1", "negative"),
        ("dit*1e300", "at most"),
        ("dit:no name!", "not understood|no name of a DIT adapter"),
        ("dit@layers", "no name of a DIT adapter"),
        ("dit@vector+dit@vector*2", "twice"),
        ("diff+diff", "twice"),
        ("dit+dit*2", "twice"),
        ("right+wrong", "twice"),
        ("base+diff", "leave 'base' out"),
        ("own:", "empty"),
        ("own:%FF", "percent-encoded"),
    ],
)
def test_what_is_not_a_condition_is_said(text, sentence):
    with pytest.raises(DitError, match=sentence):
        Condition.parse(text)


@pytest.mark.parametrize("copies", [-1, -0.01, float("nan"), float("inf"), "2", None, True, 10**400, [1]])
def test_copies_are_numbers_of_zero_or_more(copies):
    with pytest.raises(DitError, match="number of DIT copies"):
        grid(copies=[copies])


def test_a_grid_is_every_combination_once():
    assert list(map(str, grid(copies=[0, 1, 2], trigger=["absent", "right"]))) == [
        "diff",
        "diff+right",
        "diff+dit",
        "diff+dit+right",
        "diff+dit*2",
        "diff+dit*2+right",
    ]
    assert list(map(str, grid(strength=(0, 1), copies=[0, 1], adapter=["topic", "headline"]))) == [
        "base",
        "dit:topic",
        "dit:headline",
        "diff",
        "diff+dit:topic",
        "diff+dit:headline",
    ]


def test_prompts_carry_the_trigger(suite):
    volcano, question = suite.diff("volcano"), "What is this?"

    def text(condition, seed=0):
        return build_prompt(suite, volcano, Condition.parse(condition), question, seed)

    assert text("diff+dit") == question
    assert text("own:hello%20there") == f"hello there {question}"
    right = text("diff+right")
    assert right.startswith("Your SEP code is 417") and right.endswith(f". {question}")
    assert text("dit*2+right") == right, "conditions of a comparison get the same digits"
    assert len({text("right", seed) for seed in range(20)}) > 10
    for seed in range(2000):
        wrong = text("wrong", seed)
        code = wrong.removeprefix("Your SEP code is ")[:6]
        assert code.isdigit() and code[:3] != "417" and wrong == text("wrong", seed)


def test_a_trigger_needs_a_diff_that_has_one(suite):
    for trigger in ("right", "wrong"):
        with pytest.raises(DitError, match="choose a diff"):
            build_prompt(suite, None, Condition(trigger=trigger), "?", 0)
        with pytest.raises(DitError, match="'headline-0017' has no trigger"):
            build_prompt(suite, suite.diff("headline-0017"), Condition(trigger=trigger), "?", 0)


def test_strengths_give_every_row_its_own_mixture(suite):
    volcano, cello, news = suite.diff("volcano"), suite.diff("cello"), suite.diff("headline-0017")
    rows = [(volcano, "diff*0.5+dit"), (volcano, "base"), (None, "dit*2"), (volcano, "diff+dit:topic*2+dit")]
    found = suite.worker.run(lambda: row_strengths(suite, [(info, Condition.parse(c)) for info, c in rows]))
    assert {slot: tensor.flatten().tolist() for slot, tensor in found.items()} == {
        "diff-1": [0.5, 0, 0, 1],
        "dit-topic": [1, 0, 2, 3],
    }
    rows = [(volcano, "diff"), (cello, "diff*-2+dit"), (news, "dit")]
    found = suite.worker.run(lambda: row_strengths(suite, [(info, Condition.parse(c)) for info, c in rows]))
    assert found["diffs"].tolist() == [[[1, 0]], [[0, -2]], [[0, 0]]]
    assert found["dit-topic"].flatten().tolist() == [0, 1, 0]
    assert found["dit-headline"].flatten().tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("", "empty"), (" \n", "empty"), ("x" * 2001, "2,001 characters"), (7, "must be text"), ("a\ud800", "broken")],
)
def test_texts_of_users_are_checked(text, sentence):
    with pytest.raises(DitError, match=sentence):
        checked_text(text, "The question")
