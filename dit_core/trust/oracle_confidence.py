"""Confidence of a reading: whether what an oracle reads of a diff can be trusted, in numbers and in words."""

from collections.abc import Generator, Sequence
from typing import TypedDict, Unpack

from dit_core.engine.activations import parse_layers
from dit_core.errors import DitError
from dit_core.methods import Diffs, Layers
from dit_core.methods.oracle.request import SPAN, oracle_info
from dit_core.records import ReadingConfidence, Table
from dit_core.records.condition import checked_integer
from dit_core.request.targets import Questions
from dit_core.suite import Suite
from dit_core.suite.offload import at_model
from dit_core.trust.answer_confidence import MOST_SAMPLES, control_row, sentence
from dit_core.trust.calibration import ORACLE, READINGS, chance, read
from dit_core.trust.evidence import SAMPLES, Evidence
from dit_core.trust.reading_evidence import Aimed, Place, Sight, controls_of, evidence_of, sampled, sight_of, ways

CONDITION = "diff+dit"


class ReadingConfidenceOptions(TypedDict, total=False):
    """What `reading_confidence` takes beside the suite and the diff; its docstring says what each means."""

    condition: str | Sequence[str]
    layers: Layers
    asked: Questions
    span: str
    kind: str
    question: str | None
    answer_tokens: int | None
    samples: int
    seed: int


def reading_confidence(
    suite: Suite, diff: Diffs, **options: Unpack[ReadingConfidenceOptions]
) -> Table[ReadingConfidence]:
    """Measure how far what the suite's oracle reads can be trusted: one record per diff × condition × layer.

    Args:
        suite: what `load_suite` gave.
        diff: ids or references, one or several.
        condition: conditions with a diff, in their written form; `diff+dit` by default.
        layers: `all` (the default), numbers, or text like `0,3-5`.
        asked: what the diffs are asked, one text or texts by diff id; by default the question of the diff's task.
        span: the tokens to read, as `Span` writes them, without `each:`; `last:10` by default.
        kind: `with` the condition (the default), or its `difference` to the base.
        question: what the oracle is asked; by default its first preset.
        answer_tokens: of the diff's answer, where the span reads it; the suite's own number by default.
        samples: readings per diff and control, at temperature 1; there is a chance for as many as the calibration was
            fitted with, which are 16 by default.
        seed: of the samples.

    Raises:
        DitError: what was asked makes no sense for this suite, or a file of it is missing or damaged.
    """
    *_, table = stream_reading_confidence(suite, diff, **options)
    return table


def stream_reading_confidence(
    suite: Suite,
    diff: Diffs,
    *,
    condition: str | Sequence[str] = CONDITION,
    layers: Layers = "all",
    asked: Questions = None,
    span: str = SPAN,
    kind: str = "with",
    question: str | None = None,
    answer_tokens: int | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Generator[Table[ReadingConfidence], None, None]:
    """As `reading_confidence`, but yields the table again and again while it fills: closing it stops the work."""
    samples = checked_integer(samples, "The number of samples", 2, MOST_SAMPLES)
    seed = checked_integer(seed, "The seed", -(2**63), 2**63 - 1)
    wanted = Sight(span, kind, question or "", answer_tokens)
    sight, aimed = sight_of(suite, diff, wanted, condition=condition, asked=asked, seed=seed)
    return _stream(suite, aimed, sight, _layers(suite, layers), samples, seed)


@at_model
def _layers(suite: Suite, layers: Layers) -> list[int]:
    return suite.worker.run(lambda: parse_layers(suite.model, layers))


def _stream(
    suite: Suite, aimed: Sequence[Aimed], sight: Sight, layers: Sequence[int], samples: int, seed: int
) -> Generator[Table[ReadingConfidence], None, None]:
    done: list[ReadingConfidence] = []
    for one in aimed:
        against = controls_of(suite, one, sight)
        said: dict[Place, list[str]] = {}
        found: dict[Place, Evidence] = {}
        # The diff and its controls together; its evidence is made of these samples, so that none is asked twice.
        for said in sampled(suite, [one, *against.values()], sight, layers, samples, seed):  # noqa: B007
            yield suite.table("reading_confidence", done)
        for found in evidence_of(suite, [one], sight, layers, said, seed=seed):  # noqa: B007
            yield suite.table("reading_confidence", done)
        for layer in layers:
            if evidence := found.get((one[0].id, str(one[1]), layer)):
                texts = {kind: (own[0].id, said.get((own[0].id, str(own[1]), layer))) for kind, own in against.items()}
                done.append(_confidence(suite, one, sight, layer, evidence, texts, seed))
        yield suite.table("reading_confidence", done)


def _confidence(
    suite: Suite,
    aimed: Aimed,
    sight: Sight,
    layer: int,
    evidence: Evidence,
    texts: dict[str, tuple[str, list[str] | None]],
    seed: int,
) -> ReadingConfidence:
    info, condition, asked = aimed
    shown = {kind: ("" if diff == info.id else diff) for kind, (diff, _) in texts.items()}
    beside = [control_row(kind, shown[kind], own, evidence) for kind, (_, own) in texts.items() if own]
    probability, why = None, ""
    try:
        probability = _calibrated(suite, aimed, sight, layer, evidence)
    except DitError as error:
        why = str(error)
    return ReadingConfidence(
        diff=info.id,
        condition=str(condition),
        asked=asked,
        layer=layer,
        span=sight.span,
        kind=sight.kind,
        question=sight.question or oracle_info(suite).questions[0],
        text=evidence.answer,
        times=evidence.times,
        samples=evidence.samples,
        seed=seed,
        log_prob=evidence.log_prob,
        lift=evidence.lift,
        probability=probability,
        sentence=sentence(evidence.answer, evidence.times, evidence.samples, beside, "The oracle"),
        why=why,
        controls=beside,
    )


def _calibrated(suite: Suite, aimed: Aimed, sight: Sight, layer: int, evidence: Evidence) -> float:
    """The probability that a reading is right; DitError where the suite's calibration does not stand for it."""
    info, condition, _ = aimed
    known = read(suite, READINGS)[0].recipe
    fitting = [way for way in ways(suite, suite.task(info.task)) if str(way) in known["by"]]
    if not any(way.fits(aimed, sight, suite) for way in fitting):
        stands = ", ".join(way.words for way in fitting) or "other diffs"
        raise DitError(f"No chance is known for this reading: it was measured for {stands}.")
    if layer not in known["layers"]:
        raise DitError(f"No chance is known at layer {layer}: the oracle was not trained there.")
    adapters = [suite.task(info.task).adapter] if condition.adapters else []
    return chance(suite, info, evidence, ORACLE, *adapters, of=READINGS)
