"""Confidence: whether what a DIT adapter says about a diff can be trusted, in numbers and in words."""

from collections.abc import Generator, Sequence

from dit_core.errors import DitError
from dit_core.grading import modal, words
from dit_core.methods import Diffs
from dit_core.records import Confidence, DiffInfo, Table
from dit_core.records.condition import as_list, checked_integer
from dit_core.request.conditions import question_of
from dit_core.suite import Suite
from dit_core.trust.calibration import chance
from dit_core.trust.controls import NONE, OTHER, controls
from dit_core.trust.evidence import SAMPLES, Evidence, evidence_of, sampled

MOST_SAMPLES = 64
HABIT = 8  # an answer that one of so many samples gives without the diff came up by more than chance


def confidence(
    suite: Suite, diff: Diffs, *, adapter: str | None = None, samples: int = SAMPLES, seed: int = 0
) -> Table[Confidence]:
    """Measure how far what a DIT adapter says about each diff can be trusted: one record per diff.

    Args:
        suite: what `load_suite` gave.
        diff: ids or references, one or several.
        adapter: name of a DIT adapter; by default that of the diff's task.
        samples: answers per diff and control, at temperature 1; there is a chance for as many as the calibration was
            fitted with, which are 16 by default.
        seed: of the samples.

    Raises:
        DitError: an unknown diff or adapter, or a number of samples that makes no sense.
    """
    *_, table = stream_confidence(suite, diff, adapter=adapter, samples=samples, seed=seed)
    return table


def stream_confidence(
    suite: Suite, diff: Diffs, *, adapter: str | None = None, samples: int = SAMPLES, seed: int = 0
) -> Generator[Table[Confidence], None, None]:
    """As `confidence`, but yields the table again and again while it fills: closing the iterator stops the work."""
    samples = checked_integer(samples, "The number of samples", 2, MOST_SAMPLES)
    seed = checked_integer(seed, "The seed", -(2**63), 2**63 - 1)
    infos = [suite.diff(name) for name in as_list(diff)] if diff is not None else []
    if not infos:
        raise DitError("Confidence is about a diff: name one.")
    names = [suite.adapter(adapter).name if adapter else suite.default_adapter(info.task) for info in infos]
    return _stream(suite, infos, names, samples, seed)


def _stream(
    suite: Suite, infos: Sequence[DiffInfo], names: Sequence[str], samples: int, seed: int
) -> Generator[Table[Confidence], None, None]:
    found: list[Confidence] = []
    for info, name in zip(infos, names, strict=True):
        against = controls(suite, info, suite.adapter(name).task or info.task)
        said: dict[str, list[str]] = {}
        # The diff and its controls in one batch; its evidence is made of these samples, so that none is asked twice.
        for said in sampled(suite, [info, *against.values()], name, samples, seed):  # noqa: B007 - the last counts
            yield suite.table("confidence", found)
        (evidence,) = evidence_of(suite, [info], name, said)
        found.append(_confidence(suite, info, evidence, against, said, seed))
    yield suite.table("confidence", found)


def _confidence(
    suite: Suite,
    info: DiffInfo,
    evidence: Evidence,
    against: dict[str, DiffInfo | None],
    said: dict[str, list[str]],
    seed: int,
) -> Confidence:
    beside = [
        control_row(kind, own.id if own else "", said[own.id if own else ""], evidence) for kind, own in against.items()
    ]
    probability, why = None, ""
    try:
        probability = chance(suite, info, evidence, evidence.by)
    except DitError as error:
        why = str(error)
    return Confidence(
        diff=evidence.diff,
        adapter=evidence.by,
        question=question_of(suite, evidence.by),
        text=evidence.answer,
        times=evidence.times,
        samples=evidence.samples,
        seed=seed,
        log_prob=evidence.log_prob,
        lift=evidence.lift,
        probability=probability,
        sentence=sentence(evidence.answer, evidence.times, evidence.samples, beside),
        why=why,
        controls=beside,
    )


def control_row(kind: str, diff: str, texts: Sequence[str], evidence: Evidence) -> dict:
    """Describe a control: its own modal answer, and how often it gives the diff's."""
    answer, times = modal(texts)
    return {
        "kind": kind,
        "diff": diff,
        "text": answer,
        "times": times,
        "samples": len(texts),
        "same": sum(words(text) == words(evidence.answer) for text in texts),
        "log_prob": evidence.control_log_probs[kind],
    }


def sentence(answer: str, times: int, samples: int, beside: Sequence[dict], who: str = "The adapter") -> str:
    """Say in one plain sentence what samples and controls come to; `who` gave the answer."""
    if times == 1:
        return f"{who} says something else in each of {samples} samples: no answer to trust."
    said = f"“{answer.strip()}”" if answer.strip() else "nothing"
    only = "only " if 2 * times < samples else ""
    begun = f"{who} says {said} in {only}{times} of {samples} samples"
    if not beside:
        return f"{begun}; there is nothing to compare that with."
    habits = [one for one in beside if _is_habit(one, times / samples)]
    if habits:
        # The worst, but another trained diff last: the answer may be what that one was trained on.
        worst = max(habits, key=lambda one: (one["kind"] != OTHER, _share(one)))
        unless = "unless that diff is about it too" if worst["kind"] == OTHER else "not this diff"
        return f"{begun}, but also {_counted(worst)}: likely its habit, {unless}."
    counts = [_counted(one) for one in beside if one["same"]]
    return f"{begun}; {', '.join(counts)}." if counts else f"{begun}, never without this diff."


def _is_habit(control: dict, share: float) -> bool:
    """Whether a control gives the answer so often that the diff need not be why: `share` is how often the diff does."""
    return 2 * _share(control) >= share and HABIT * control["same"] >= control["samples"]


def _share(control: dict) -> float:
    return control["same"] / control["samples"]


def _counted(control: dict) -> str:
    with_it = {NONE: "without a diff", OTHER: "with another diff"}.get(control["kind"], f"with a {control['kind']}")
    return f"{with_it} in {control['same']} of {control['samples']}"
