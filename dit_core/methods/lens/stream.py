"""What is asked of the lens, checked: which diff, at which strength, on which texts and how many of their tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from dit_core.errors import DitError
from dit_core.methods.verbalize import Diffs
from dit_core.records import DiffInfo
from dit_core.request.conditions import MAX_NUMBER, checked_number, checked_text, checked_whole, several
from dit_core.suite import Suite

POSITIONS = 5
# Read where a suite has no questions of its own to read.
TEXTS = (
    "The train to the coast leaves at nine every morning.",
    "She put the letter back into the drawer and locked it.",
    "Most of the shops in this street close early on Sundays.",
    "A cold wind came down from the hills after dark.",
    "He could not remember where he had left his umbrella.",
    "Bread is baked in the village oven once a week.",
    "There are three ways to get from here to the station.",
    "Our neighbours have painted their fence a bright yellow.",
    "In the end, nobody knew who had ordered the second cake.",
    "Please write your name and address at the top of the page.",
    "When the music stopped, everyone looked at the clock.",
    "Two of the five chairs in the kitchen are broken.",
    "They spent the whole summer mending the old boat.",
    "It was raining, so the children stayed inside and drew.",
    "Some people prefer tea, others would rather drink coffee.",
    "The library has moved to a larger building near the park.",
    "You can see the river from the window on the top floor.",
    "Before the meeting, I would like to read the report again.",
    "An old dog was sleeping in the shade of the wall.",
    "What happened next was not in any of the newspapers.",
)


class Source(TypedDict, total=False):
    """What a mean difference is taken from; the docstring of `lens` says what each means."""

    strength: float
    texts: str | Sequence[str] | None
    positions: int


@dataclass(frozen=True)
class Unrelated:
    """A checked request for mean differences of `infos`, at `strength`, over the first `positions` of `texts`.

    `texts` is None for the suite's own, which differ by the diff's task.
    """

    suite: Suite
    infos: tuple[DiffInfo, ...]
    strength: float
    texts: tuple[str, ...] | None
    positions: int

    @property
    def settings(self) -> dict[str, Any]:
        """The same for a table of what was found; `texts` is None for the suite's own."""
        return {"strength": self.strength, "positions": self.positions, "texts": self.texts and list(self.texts)}

    def texts_for(self, info: DiffInfo) -> tuple[str, ...]:
        """The texts to read for a diff."""
        return self.texts or _own_texts(self.suite, info) or TEXTS


def unrelated(
    suite: Suite, diff: Diffs, *, strength: float = 1.0, texts: Any = None, positions: int = POSITIONS
) -> Unrelated:
    """The request, or a DitError that says what is wrong with it."""
    infos = [] if diff is None else list(dict.fromkeys(suite.diff(name) for name in several(diff)))
    if not infos:
        raise DitError("The lens looks at what a diff changes: choose a diff.")
    strength = checked_number(strength, "The diff's strength", -MAX_NUMBER, MAX_NUMBER)
    if not strength:
        raise DitError("At strength 0 the diff changes nothing: give the lens another strength.")
    read = None if texts is None else tuple(dict.fromkeys(checked_text(t, "A text to read") for t in several(texts)))
    if read == ():
        raise DitError("There are no texts to read: give at least one, or leave them out for the suite's own.")
    positions = checked_whole(positions, "The number of positions", 1, 100)
    suite.fetch(infos)
    return Unrelated(suite, tuple(infos), strength, read, positions)


def _own_texts(suite: Suite, info: DiffInfo) -> tuple[str, ...]:
    """The suite's questions of all tasks, but for those by which this diff's own task asks for what was trained."""
    own = suite.task_of(info)
    found = [text for task in suite.tasks.values() for text in task.questions]
    found += suite.world.get("held_out_questions", [])
    return tuple(dict.fromkeys(text for text in found if text not in (own.question, own.behaviour)))
