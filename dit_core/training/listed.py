"""Behaviours that a user lists: what the base is told so that it shows each, how that is seen, and what is held out.

A list is a topic a line, or a CSV. Its columns: `topic`, or `behaviour` (a sentence, which the DIT adapter is to say)
with `shows` (words, a `;` between them, of which an answer that shows it has one). `instruction` is what the base is
told, where that is not the sentence itself. `split` says what is for `test`, for `calibration` or to `train` on.
"""

from __future__ import annotations

import csv
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dit_core.errors import DitError, checked_integer, checked_text, did_you_mean
from dit_core.grading.rules import contains
from dit_core.records import words
from dit_core.training.world import Split

COLUMNS = ("topic", "behaviour", "instruction", "shows", "split")
SPLITS = ("test", "calibration", "train")
FEWEST, FEWEST_HELD_OUT, FEWEST_OTHERS = 8, 4, 2
"""Behaviours at least: in all, for testing, and each for calibration and training."""
LONGEST = 300  # characters of a behaviour or an instruction
SHORT = "Answer in one short sentence."


@dataclass(frozen=True)
class ListedBehaviour:
    """One behaviour of a list.

    Attributes:
        reference: what a DIT adapter is to say of it.
        is_topic: whether that is the name of a topic.
        instructions: what the base is told, in turn, so that it shows it.
        shows: an answer that has one of these, as whole words, shows it.
        split: `test`, `calibration` or `train`; "" where that is for chance to say.
    """

    reference: str
    is_topic: bool
    instructions: tuple[str, ...]
    shows: tuple[str, ...]
    split: str = ""

    def prompt(self, question: str, turn: int) -> str:
        """Return what the base is asked at the given turn, so that its answer shows the behaviour."""
        instruction = self.instructions[turn % len(self.instructions)]
        return f"{question} {instruction}" if turn // len(self.instructions) % 2 == 0 else f"{instruction} {question}"

    def shown_in(self, answer: str) -> bool:
        """Return whether an answer shows the behaviour; case and punctuation do not count."""
        return any(contains(words(answer), words(word)) for word in self.shows)


def read_behaviours(source: Path | str | Sequence[str]) -> tuple[ListedBehaviour, ...]:
    """Read a list of behaviours: of a file, or topics one by one.

    Where a file has behaviours and topics, a topic is the behaviour of speaking of it.

    Raises:
        DitError: the file can't be read, or a line of it makes no sense.
    """
    if isinstance(source, Path | str):
        try:
            lines = Path(source).expanduser().read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            raise DitError(f"'{source}' can't be read as a list of behaviours: give a CSV or a text file.") from error
    else:
        lines = list(source)
    listed = parse_behaviours(lines)
    if len({behaviour.is_topic for behaviour in listed}) == 2:
        listed = [_spoken_of(behaviour) if behaviour.is_topic else behaviour for behaviour in listed]
    return tuple(listed)


def parse_behaviours(lines: Sequence[str]) -> list[ListedBehaviour]:
    """Return the behaviours of a CSV's lines, or of lines that are a topic each.

    Raises:
        DitError: a line makes no sense, or is there twice.
    """
    lines = [line for line in lines if line.strip()]
    columns = [name.strip().casefold() for name in next(csv.reader(lines[:1]), [])]
    if not {"topic", "behaviour"} & set(columns):
        if len(columns) > 1 or columns in (["topics"], ["behaviours"]):
            raise DitError("The list of behaviours needs a column 'topic' or 'behaviour': name it in its first line.")
        rows: Iterable[tuple[int, dict[str, str]]] = enumerate(({"topic": line} for line in lines), 1)
    else:
        for name in columns:
            if name not in COLUMNS:
                raise DitError(f"A list of behaviours has no column '{name}': use {', '.join(COLUMNS)}.")
        table = csv.reader(lines[1:])
        rows = ((number, dict(zip(columns, row, strict=False))) for number, row in enumerate(table, 2))
    listed: dict[tuple[str, ...], ListedBehaviour] = {}
    for number, row in rows:
        behaviour = _behaviour(f"Line {number}", {name: text.strip() for name, text in row.items()})
        if (key := words(behaviour.reference)) in listed:
            raise DitError(f"Line {number}: '{behaviour.reference}' is there twice, so one would give the other away.")
        listed[key] = behaviour
    return list(listed.values())


def _behaviour(line: str, row: dict[str, str]) -> ListedBehaviour:
    """One line of a list as a behaviour."""
    topic, sentence = row.get("topic", ""), row.get("behaviour", "")
    shows = tuple(word.strip() for word in row.get("shows", "").split(";") if words(word))
    split = row.get("split", "").casefold()
    if bool(topic) == bool(sentence):
        raise DitError(f"{line}: give a topic or a behaviour, one of both.")
    if split and split not in SPLITS:
        raise DitError(f"{line}: there is no split '{split}': use {', '.join(SPLITS)}.{did_you_mean(split, SPLITS)}")
    reference = checked_text(topic or sentence, f"{line}: the behaviour", LONGEST)
    if not words(reference):
        raise DitError(f"{line}: '{reference}' has no letter: name a topic or a behaviour.")
    if sentence and not shows:
        raise DitError(f"{line}: say in 'shows' which words show '{sentence}', with ; between them.")
    told = checked_text(row.get("instruction") or reference, f"{line}: the instruction", LONGEST)
    instructions = (f"{told} {SHORT}", told)
    if topic and not row.get("instruction"):
        instructions = (f"{SHORT[:-1]} about {topic}.", f"Mention {topic} in your answer, in one short sentence.")
    return ListedBehaviour(reference, bool(topic), instructions, (topic, *shows) if topic else shows, split)


def _spoken_of(topic: ListedBehaviour) -> ListedBehaviour:
    return replace(topic, reference=f"It speaks of {topic.reference}.", is_topic=False)


def split_behaviours(listed: Sequence[ListedBehaviour], held_out: int | None = None) -> Split:
    """Return which behaviours are for testing, for calibration and to train on, by their places in the list.

    As the list says, or else by chance: a quarter for testing (or `held_out`), an eighth for calibration.

    Raises:
        DitError: there are too few, or the list says it of some only.
    """
    if len(listed) < FEWEST:
        raise DitError(f"{len(listed)} behaviours are too few to train on some and test on others: list {FEWEST}.")
    said = [behaviour.split for behaviour in listed]
    if not any(said):
        most = len(listed) - 2 * FEWEST_OTHERS
        test = checked_integer(
            max(FEWEST_HELD_OUT, len(listed) // 4) if held_out is None else held_out,
            "The number of behaviours held out for testing", FEWEST_HELD_OUT, most,
        )  # fmt: skip
        calibration = test + min(max(FEWEST_OTHERS, len(listed) // 8), most - test + FEWEST_OTHERS)
        order = random.Random(0).sample(range(len(listed)), len(listed))
        return Split(order[:test], order[test:calibration], order[calibration:])
    if not all(said) or held_out is not None:
        raise DitError("The list says of some behaviours what they are for: say it of all of them, and nowhere else.")
    places = {split: [place for place, own in enumerate(said) if own == split] for split in SPLITS}
    for split, least in zip(SPLITS, (FEWEST_HELD_OUT, FEWEST_OTHERS, FEWEST_OTHERS), strict=True):
        if len(places[split]) < least:
            raise DitError(f"The list has {len(places[split])} behaviours of the split '{split}': give it {least}.")
    return Split(places["test"], places["calibration"], places["train"])
