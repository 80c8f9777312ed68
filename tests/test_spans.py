"""Spans mean the positions they say, and those that can't be are refused in a sentence."""

import pytest

from dit_core.errors import DitError
from dit_core.request.conditions import Span


@pytest.mark.parametrize(
    ("text", "positions"),
    [
        ("prompt", range(12)),
        ("last:10", range(2, 12)),
        ("last:12", range(12)),
        ("last:1", [11]),
        ("7", [7]),
        ("0", [0]),
        ("3:9", range(3, 9)),
        ("answer", range(12, 16)),
        ("answer:3", range(12, 15)),
        ("answer:4", range(12, 16)),
        # Numbers may reach into the answer.
        ("13", [13]),
        ("10:16", range(10, 16)),
    ],
)
def test_a_span_is_its_positions(text, positions):
    assert Span(text).positions(12, 4) == [tuple(positions)]
    assert Span(f" each:{text} ").positions(12, 4) == [(position,) for position in positions]
    assert (str(Span(f" {text}\n")), Span(text).per_token, Span(f"each:{text}").per_token) == (text, False, True)
    assert Span(text).needs_answer == Span(f"each:{text}").needs_answer == text.startswith("answer")
    assert Span(text) == Span(f"{text} ")


def test_a_number_is_a_span_of_one_token():
    assert Span(7) == Span("7") and Span(7).positions(8) == [(7,)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("last:13", "'last:13' reaches outside of the prompt, which has 12 tokens"),
        ("12", "'12' reaches outside of the prompt, which has 12 tokens"),
        ("3:13", "reaches outside of the prompt"),
        ("0:999999999", "reaches outside of the prompt"),
        ("each:11:13", "'each:11:13' reaches outside"),
        ("last:0", "holds no token"),
        ("9:3", "holds no token"),
        ("answer", "the answer is empty"),
        ("answer:2", "outside of the answer, which has 0 tokens"),
        ("answer:0", "can't be read"),
    ],
)
def test_what_is_not_there_is_refused(text, message):
    with pytest.raises(DitError, match=message):
        Span(text).positions(12)


def test_the_message_counts_prompt_and_answer_where_there_are_both():
    with pytest.raises(DitError, match="outside of the prompt and answer, which has 16 tokens"):
        Span("16").positions(12, 4)
    with pytest.raises(DitError, match="outside of the answer, which has 4 tokens"):
        Span("answer:5").positions(12, 4)


@pytest.mark.parametrize(
    "text",
    ["", "last", "last:", "last:-1", "-1", "3:", ":3", "3:4:5", "each:", "each:each:3", "1.5", "²", "answer:x", "all"]
    + ["last:10;", "9" * 5000, "last:" + "9" * 5000, None, True, ("3",)],
)
def test_what_is_no_span_is_refused_with_the_forms_there_are(text):
    with pytest.raises(DitError, match="not understood: write 'prompt', 'last:10'"):
        Span(text)
