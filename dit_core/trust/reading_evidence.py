"""Evidence for what an oracle reads: how often its samples say so, and how much likelier the diff makes it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from dit_core.errors import DitError
from dit_core.grading import modal
from dit_core.methods.oracle import log_probs, stream, targets
from dit_core.records.condition import Condition
from dit_core.request.spans import Span
from dit_core.suite import Suite
from dit_core.trust.cache import Store, store_of
from dit_core.trust.evidence import SAMPLES, Evidence, lasting
from dit_core.trust.reading_setups import Aimed, Sight, controls_of

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
) -> Iterator[dict[Place, Evidence] | None]:
    """The evidence of every reading by its place: the last item. Of what says nothing that could be read there is none.

    Before it come items of None, at each of which the work may be stopped. `by` names the way of reading.
    """
    said: dict[Place, list[str]] = {}
    for said in sampled(suite, aimed, sight, layers, samples, seed):  # noqa: B007 - the last counts
        yield None
    modes = {place: modal(texts) for place, texts in said.items()}
    against = {(one[0].id, str(one[1])): controls_of(suite, one, sight) for one in aimed}
    wanted = [
        (target, layer, modes[info.id, str(condition), layer][0])
        for info, condition, asked in aimed
        for layer in layers
        if (info.id, str(condition), layer) in modes
        for target in ((info, condition, asked), *against[info.id, str(condition)].values())
    ]
    likely = yield from _likely(suite, wanted, sight, seed)
    yield {place: _evidence(place, by, mode, samples, against[place[:2]], likely) for place, mode in modes.items()}


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
    store, found = store_of(suite), {}
    for one in aimed:
        for layer in layers:
            if kept := store.find("read", *_key(one, sight), layer, samples, seed):
                found[_place(one, layer)] = kept
    lacking = [one for one in aimed if any(_place(one, layer) not in found for layer in layers)]
    for condition, own in _by_condition(_readable(suite, lacking, sight, seed)):
        sampling = {"samples": samples, "temperature": 1.0, "seed": seed}
        tables = stream(suite, condition=condition, layers=layers, **_request(own), **sampling, **sight.options)
        table = ()
        try:
            for table in tables:  # noqa: B007 - the last counts
                yield found
        finally:
            tables.close()
        said: dict[Place, list[str]] = {}
        for one in table:
            said.setdefault((one.diff, one.condition, one.layer), []).append(one.text)
        by_id = {one[0].id: one for one in own}
        store.keep(
            (("read", *_key(by_id[place[0]], sight), place[2], samples, seed), texts)
            for place, texts in said.items()
            if lasting(place[0])
        )
        found |= said
    yield found


def _likely(suite: Suite, wanted: Sequence[tuple[Aimed, int, str]], sight: Sight, seed: int) -> Iterator[None]:
    """Log-probability in nats of each text at its place, returned by (place, text); 0 for a text of nothing."""
    store = store_of(suite)
    found = {(_place(one, layer), text): 0.0 for one, layer, text in wanted if not text}
    lacking: dict[Aimed, dict[int, list[str]]] = {}
    for one, layer, text in wanted:
        if (score := _kept(store, one, sight, layer, text, seed)) is not None:
            found[_place(one, layer), text] = score
        elif text:
            lacking.setdefault(one, {}).setdefault(layer, []).append(text)
    for condition, own in _by_condition(_readable(suite, list(lacking), sight, seed)):
        yield None
        texts = {(one[0].id, layer): texts for one in own for layer, texts in lacking[one].items()}
        layers = sorted({layer for _, layer in texts})
        scores = log_probs(
            suite, texts=texts, condition=condition, layers=layers, seed=seed, **_request(own), **sight.options
        )
        by_id = {one[0].id: one for one in own}
        store.keep(
            (("likely", *_key(by_id[diff], sight), layer, text, seed), score)
            for (diff, _, layer, text), score in scores.items()
            if lasting(diff)
        )
        found |= {((diff, written, layer), text): score for (diff, written, layer, text), score in scores.items()}
    return found


def _kept(store: Store, one: Aimed, sight: Sight, layer: int, text: str, seed: int) -> float | None:
    return store.find("likely", *_key(one, sight), layer, text, seed)


def _readable(suite: Suite, aimed: Sequence[Aimed], sight: Sight, seed: int) -> list[Aimed]:
    """Those of which the span holds something: a target may answer with nothing, or too little."""
    span = Span(sight.span)
    if not (span.needs_answer and aimed):
        return list(aimed)
    found = []
    for condition, own in _by_condition(aimed):
        options = {"span": sight.span, "answer_tokens": sight.answer_tokens, "seed": seed}
        table = targets(suite, condition=condition, **_request(own), **options)
        found += [one for one, target in zip(own, table, strict=True) if _holds(span, target)]
    return found


def _holds(span: Span, target) -> bool:
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


def _request(own: Sequence[Aimed]) -> dict:
    """Diffs and what each is asked. What they were trained on is left out: no evidence may come of that."""
    return {
        "diff": [replace(info, reference="") for info, _, _ in own],
        "asked": {info.id: asked for info, _, asked in own},
    }


def _place(one: Aimed, layer: int) -> Place:
    return one[0].id, str(one[1]), layer


def _key(one: Aimed, sight: Sight) -> tuple:
    info, condition, asked = one
    return info.id, str(condition), asked, sight.span, sight.kind, sight.question, sight.answer_tokens
