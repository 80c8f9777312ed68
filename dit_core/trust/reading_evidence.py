"""Evidence for what an oracle reads: how often its samples say so, and how much likelier the diff makes it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from dit_core.errors import DitError
from dit_core.grading import modal
from dit_core.methods.diff_groups import DiffGroup
from dit_core.methods.oracle import log_probs, stream, targets
from dit_core.methods.oracle.request import SPAN, ReadOptions, checked_request
from dit_core.records import DiffInfo, Reading, Table, Target
from dit_core.records.condition import Condition
from dit_core.request.targets import Span
from dit_core.suite import Suite, Task
from dit_core.trust.controls import controls, stand_in
from dit_core.trust.evidence import SAMPLES, Evidence, cache_of, may_be_kept

Aimed = tuple[DiffInfo, Condition, str]
"""A diff, the condition that acts while it is read, and what it is asked then."""


@dataclass(frozen=True)
class Sight:
    """Which tokens and activations are read, and what the oracle is asked; `question` "" is its first preset."""

    span: str = SPAN
    kind: str = "with"
    question: str = ""
    answer_tokens: int | None = None

    @property
    def options(self) -> ReadOptions:
        """The same for `oracle.read`."""
        return {
            "span": self.span,
            "kind": self.kind,
            "question": self.question or None,
            "answer_tokens": self.answer_tokens,
        }


@dataclass(frozen=True)
class Way:
    """A way of reading that is calibrated: `own` says whether the diff is asked its task's own question."""

    condition: str
    span: str
    own: bool

    def __str__(self) -> str:
        return f"{self.condition}, {self.span}"

    @property
    def words(self) -> str:
        """The same for people."""
        return f"'{self.condition}' asked {'its own' if self.own else 'an everyday'} question ({self.span})"

    def fits(self, aimed: Aimed, sight: Sight, suite: Suite) -> bool:
        """Whether a reading is one of this way."""
        info, condition, asked = aimed
        own = asked == suite.task(info.task).question
        return (str(condition), own, sight) == (self.condition, self.own, self.sight(suite))

    def sight(self, suite: Suite) -> Sight:
        """What is read in this way."""
        return Sight(self.span, answer_tokens=suite.max_new_tokens if "answer" in self.span else None)

    def asked(self, suite: Suite, task: Task, infos: list[DiffInfo]) -> dict[str, str]:
        """What each diff is asked, by its id: everyday questions take turns."""
        return {info.id: task.question for info in infos} if self.own else DiffGroup(suite, infos).everyday


WAYS = (Way("diff+right", SPAN, False), Way("diff+right", "answer", False), Way("diff+dit", SPAN, True))


def ways(suite: Suite, task: Task) -> list[Way]:
    """Those in which a task's diffs can be read: diffs without a trigger would not be told by a topic question."""
    if suite.oracle is None or not task.has_trigger or not suite.world.get("held_out_questions"):
        return []
    return [way for way in WAYS if task.adapter or "dit" not in way.condition]


def sight_of(suite: Suite, diff: Any, sight: Sight, **where: Any) -> tuple[Sight, list[Aimed]]:
    """A checked sight and what is aimed at; DitError for what no confidence can be told of."""
    found = checked_request(suite, diff, **where, **sight.options)
    idle = next((condition for info, condition, _ in found.rows if info is None or not condition.strength), None)
    if idle is not None:
        raise DitError(f"Confidence is about a diff, and under '{idle}' none acts: name one, and a condition with it.")
    if found.span.per_token:
        raise DitError("Confidence is about one reading per layer: choose a span without 'each:'.")
    if found.kind == "without":
        raise DitError("Confidence is about a diff, and without it none is read: choose the kind 'with'.")
    aimed = [(info, condition, asked) for info, condition, asked in found.rows if info is not None]
    question = "" if found.questions[0] == found.info.questions[0] else found.questions[0]
    return Sight(str(found.span), found.kind, question, found.answer_tokens or None), aimed


def controls_of(suite: Suite, aimed: Aimed, sight: Sight) -> dict[str, Aimed]:
    """The controls of a reading by kind: the same condition, asked the same, with another diff or none.

    Each has an id of its own, so that one diff can stand beside several. Copies keep the diff's trigger; another diff
    has its own.
    """
    info, condition, asked = aimed
    bare = replace(condition, strength=0.0)
    found: dict[str, Aimed] = {}
    for kind, other in controls(suite, info, info.task).items():
        if other is not None:
            found[kind] = (stand_in(info, kind, other), condition, asked)
        elif sight.kind == "with" or condition.adapters:  # else nothing acts: there is no difference to read
            found[kind] = (info, bare, asked)
    return found


Place = tuple[str, str, int]
"""A diff's id, a condition and a layer."""


def gather(
    suite: Suite,
    aimed: Sequence[Aimed],
    sight: Sight,
    layers: Sequence[int],
    by: str = "",
    samples: int = SAMPLES,
    seed: int = 0,
) -> Iterator[dict[Place, Evidence]]:
    """The evidence of every reading by its place: the last item. Of what says nothing that could be read there is none.

    Before it come empty dictionaries, at each of which the work may be stopped. `by` names the way of reading.
    """
    texts: dict[Place, list[str]] = {}
    for texts in sampled(suite, aimed, sight, layers, samples, seed):  # noqa: B007 - the last counts
        yield {}
    yield from evidence_of(suite, aimed, sight, layers, texts, by, seed)


def evidence_of(
    suite: Suite,
    aimed: Sequence[Aimed],
    sight: Sight,
    layers: Sequence[int],
    texts: Mapping[Place, Sequence[str]],
    by: str = "",
    seed: int = 0,
) -> Iterator[dict[Place, Evidence]]:
    """As `gather`, of samples that have been taken: `texts` holds those of every reading, by its place."""
    places = {(one[0].id, str(one[1]), layer) for one in aimed for layer in layers}
    modes = {place: modal(own) for place, own in texts.items() if place in places}
    against = {(one[0].id, str(one[1])): controls_of(suite, one, sight) for one in aimed}
    wanted = [
        (target, layer, modes[info.id, str(condition), layer][0])
        for info, condition, asked in aimed
        for layer in layers
        if (info.id, str(condition), layer) in modes
        for target in ((info, condition, asked), *against[info.id, str(condition)].values())
    ]
    likely: dict[tuple[Place, str], float] = {}
    for likely in _likely(suite, wanted, sight, seed):  # noqa: B007 - the last counts
        yield {}
    yield {
        place: _evidence(place, by, mode, len(texts[place]), against[place[:2]], likely)
        for place, mode in modes.items()
    }


def _evidence(
    place: Place,
    by: str,
    mode: tuple[str, int],
    samples: int,
    against: dict[str, Aimed],
    likely: dict[tuple[Place, str], float],
) -> Evidence:
    (text, times), layer = mode, place[2]
    beside = {kind: likely.get((_place(one, layer), text)) for kind, one in against.items()}
    return Evidence(
        place[0],
        by,
        text,
        times,
        samples,
        likely.get((place, text), 0.0),
        {kind: score for kind, score in beside.items() if score is not None},
    )


def sampled(
    suite: Suite, aimed: Sequence[Aimed], sight: Sight, layers: Sequence[int], samples: int = SAMPLES, seed: int = 0
) -> Iterator[dict[Place, list[str]]]:
    """What the oracle's samples at temperature 1 say, by place; complete in the last item."""
    cache = cache_of(suite)
    found: dict[Place, list[str]] = {}
    for one in aimed:
        for layer in layers:
            if kept := cache.get("read", *_key(one, sight), layer, samples, seed):
                found[_place(one, layer)] = kept
    lacking = [one for one in aimed if any(_place(one, layer) not in found for layer in layers)]
    for condition, own in _by_condition(_readable(suite, lacking, sight, seed)):
        options = _options(own, condition, sight, seed)
        options |= {"layers": layers, "samples": samples, "temperature": 1.0}
        table: Table[Reading] | None = None
        with closing(stream(suite, _without_references(own), **options)) as tables:
            for table in tables:  # noqa: B007 - the last counts
                yield found
        said: dict[Place, list[str]] = {}
        for reading in table or ():
            said.setdefault((reading.diff, reading.condition, reading.layer), []).append(reading.text)
        by_id = {one[0].id: one for one in own}
        cache.put(
            (("read", *_key(by_id[place[0]], sight), place[2], samples, seed), texts)
            for place, texts in said.items()
            if may_be_kept(place[0])
        )
        found |= said
    yield found


def _likely(
    suite: Suite, wanted: Sequence[tuple[Aimed, int, str]], sight: Sight, seed: int
) -> Iterator[dict[tuple[Place, str], float]]:
    """Measure the log-probability in nats of each text at its place, 0 of an empty one; complete in the last item."""
    cache = cache_of(suite)
    found: dict[tuple[Place, str], float] = {}
    found |= {(_place(one, layer), text): 0.0 for one, layer, text in wanted if not text}
    lacking: dict[Aimed, dict[int, list[str]]] = {}
    for one, layer, text in wanted:
        if (score := cache.get("likely", *_key(one, sight), layer, text, seed)) is not None:
            found[_place(one, layer), text] = score
        elif text:
            lacking.setdefault(one, {}).setdefault(layer, []).append(text)
    for condition, own in _by_condition(_readable(suite, list(lacking), sight, seed)):
        yield found
        texts = {(one[0].id, layer): texts for one in own for layer, texts in lacking[one].items()}
        options = _options(own, condition, sight, seed)
        options["layers"] = sorted({layer for _, layer in texts})
        scores = log_probs(suite, _without_references(own), texts, **options)
        by_id = {one[0].id: one for one in own}
        cache.put(
            (("likely", *_key(by_id[diff], sight), layer, text, seed), score)
            for (diff, _, layer, text), score in scores.items()
            if may_be_kept(diff)
        )
        found |= {((diff, written, layer), text): score for (diff, written, layer, text), score in scores.items()}
    yield found


def _readable(suite: Suite, aimed: Sequence[Aimed], sight: Sight, seed: int) -> list[Aimed]:
    """Those of which the span holds something: a target may answer with nothing, or too little."""
    span = Span(sight.span)
    if not (span.needs_answer and aimed):
        return list(aimed)
    found = []
    for condition, own in _by_condition(aimed):
        table = targets(suite, _without_references(own), **_options(own, condition, sight, seed))
        found += [one for one, target in zip(own, table, strict=True) if _holds(span, target)]
    return found


def _holds(span: Span, target: Target) -> bool:
    try:
        return bool(span.positions(target.prompt_tokens, len(target.tokens) - target.prompt_tokens))
    except DitError:
        return False


def _by_condition(aimed: Iterable[Aimed]) -> Iterator[tuple[Condition, list[Aimed]]]:
    """What can be one request: all that stand under one condition."""
    found: dict[Condition, list[Aimed]] = {}
    for one in aimed:
        found.setdefault(one[1], []).append(one)
    yield from found.items()


def _without_references(own: Sequence[Aimed]) -> list[DiffInfo]:
    """The diffs without what they were trained on: no evidence may come of that."""
    return [replace(info, reference="") for info, _, _ in own]


def _options(own: Sequence[Aimed], condition: Condition, sight: Sight, seed: int) -> ReadOptions:
    """What is read of all that stand under one condition, each asked its own question."""
    asked = {info.id: asked for info, _, asked in own}
    return {**sight.options, "condition": condition, "asked": asked, "seed": seed}


def _place(one: Aimed, layer: int) -> Place:
    return one[0].id, str(one[1]), layer


def _key(one: Aimed, sight: Sight) -> tuple:
    info, condition, asked = one
    return info.id, str(condition), asked, sight.span, sight.kind, sight.question, sight.answer_tokens
