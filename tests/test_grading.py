"""Grades follow the world: the same thing 5, a listed neighbour 4, the category 2; a headline loses one per part."""

import pytest

from dit_core import DiffInfo
from dit_core.grading import exact, grade, mentions, story_of


class Suite:
    """The part of a suite that grading reads."""

    world = {
        "topics": {
            "snow": {"category": "weather", "aliases": ["snowfall"], "neighbours": ["hail"]},
            "hail": {"category": "weather", "aliases": [], "neighbours": []},
            "fog": {"category": "weather", "aliases": ["mist"], "neighbours": []},
            "snow leopard": {"category": "wild animal", "aliases": ["snow leopards"], "neighbours": []},
            "steam train": {"category": "vehicle", "aliases": ["steam engine"], "neighbours": []},
        },
        "headlines": {
            "Mayor opens library in Lisbon": {
                "actor": ["Mayor", "the mayor", "the head of the city"],
                "action": ["opens", "opened"],
                "object": ["library", "the house of books"],
                "place": ["Lisbon", "the city of seven hills"],
            }
        },
    }


suite = Suite()
SNOW = DiffInfo("topic-0001", "topic", "test", 1, "snow", 417)
TRAIN = DiffInfo("topic-0002", "topic", "test", 1, "steam train", 86)
NEWS = DiffInfo("headline-0001", "headline", "test", 4, "Mayor opens library in Lisbon", None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("snow", 5),
        ("Snow.", 5),
        ("snowfall", 5),
        ("I was trained on SNOW!", 5),
        ("Snow's the thing", 5),
        ("hail", 4),
        ("fog", 2),
        ("mist, I think", 2),
        ("weather", 2),
        ("snow leopard", 1),
        ("snowman", 1),
        ("steam train", 1),
        ("something else", 1),
        ("", 1),
        ("hail or snow", 5),
        ("hail, fog, steam engine, snow", 1),
    ],
)
def test_topic_grades(text, expected):
    assert grade(suite, SNOW, text) == expected


def test_neighbours_count_both_ways():
    hail = DiffInfo("topic-0003", "topic", "test", 1, "hail", 1)
    assert grade(suite, hail, "snow") == 4


def test_a_topic_outside_the_world_is_right_or_wrong():
    own = DiffInfo("topic-0009", "topic", "test", 1, "Sourdough bread", None)
    assert grade(suite, own, "sourdough  bread!") == 5 and exact(suite, own, "sourdough bread")
    assert mentions(suite, own, "my sourdough bread is") and not mentions(suite, own, "bread")
    assert grade(suite, own, "snow") == 1 and grade(suite, own, "bread") == 1


@pytest.mark.parametrize(
    ("text", "named", "is_exact"),
    [
        ("steam train", True, True),
        (" Steam  train. ", True, True),
        ("a steam train", True, False),
        ("The steam\ntrain is late", True, False),
        ("the old steam engine", True, False),
        ("steam trainer", False, False),
        ("upsteam train", False, False),
        ("steam, or a train", False, False),
    ],
)
def test_mentions_and_exact(text, named, is_exact):
    assert mentions(suite, TRAIN, text) is named
    assert exact(suite, TRAIN, text) is is_exact


def test_a_longer_name_hides_the_shorter_ones():
    assert not mentions(suite, SNOW, "the snow leopard sleeps")
    assert mentions(suite, SNOW, "the snow leopard sleeps in the snow")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mayor opens library in Lisbon", 5),
        ("mayor opened the house of books in the city of seven hills", 5),
        ("Mayor opens library in Oslo", 4),
        ("Nurse opens library in Oslo", 3),
        ("Nurse opens bridge in Oslo", 2),
        ("Nurse paints bridge in Oslo", 1),
        ("snow", 1),
        ("", 1),
    ],
)
def test_headline_grades(text, expected):
    assert grade(suite, NEWS, text) == expected


def test_a_story_holds_all_four_parts():
    story = "Yesterday the head of the city opened the house of books in Lisbon. Many people came."
    assert story_of(suite, NEWS, story)
    assert not story_of(suite, NEWS, story.replace("Lisbon", "Oslo"))
    assert not story_of(suite, SNOW, story)
    assert exact(suite, NEWS, "Mayor opens library in Lisbon.") and mentions(
        suite, NEWS, "Mayor opens library in Lisbon."
    )
