"""From evidence to a record: the modal answer beside its controls, a sentence about both, and a probability."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

from dit_core.errors import DitError, checked_integer
from dit_core.grading import modal, words
from dit_core.records import Confidence, Table
from dit_core.suite import Suite
from dit_core.trust.control_diffs import NONE, OTHER
from dit_core.trust.evidence import Evidence, Query, Subject, evidence_of, sample

MAX_SAMPLES = 64
HABIT = 8  # an answer that one of so many samples gives without the diff came up by more than chance


def checked_samples(samples: Any) -> int:
    """Check a number of samples; DitError where it makes no sense."""
    return checked_integer(samples, "The number of samples", 2, MAX_SAMPLES)


def assess(
    suite: Suite, kind: str, groups: Iterable[tuple[Subject, Sequence[Query]]], samples: int
) -> Generator[Table[Confidence], None, None]:
    """Measure how far the answers to queries can be trusted, group by group: yield the table while it fills.

    `kind` is the table's. The queries of a group are sampled together with their controls; their evidence is made of
    these samples, so that none is drawn twice. A query without an answer has no record.
    """
    records: list[Confidence] = []
    for subject, queries in groups:
        controls = {query: subject.controls(query) for query in queries}
        targets = list(dict.fromkeys([*queries, *(own for named in controls.values() for own in named.values())]))
        texts: dict[Query, list[str]] = {}
        evidence: dict[Query, Evidence] = {}
        for texts in sample(subject, targets, samples):  # noqa: B007 - the last counts
            yield suite.table(kind, records)
        for evidence in evidence_of(subject, queries, texts):  # noqa: B007
            yield suite.table(kind, records)
        records += [_record(subject, query, own, controls[query], texts) for query, own in evidence.items()]
        yield suite.table(kind, records)


def _record(
    subject: Subject,
    query: Query,
    evidence: Evidence,
    controls: Mapping[str, Query],
    texts: Mapping[Query, Sequence[str]],
) -> Confidence:
    rows = [_control(kind, own, texts[own], evidence) for kind, own in controls.items() if own in texts]
    probability, why = None, ""
    try:
        probability = subject.probability(query, evidence)
    except DitError as error:
        why = str(error)
    return Confidence(
        diff=query.info.id if query.info else "",
        condition=str(query.condition),
        asked=query.asked,
        layer=query.layer,
        **subject.describe(query),
        text=evidence.text,
        times=evidence.times,
        samples=evidence.samples,
        seed=subject.seed,
        log_prob=evidence.log_prob,
        lift=evidence.lift,
        probability=probability,
        sentence=sentence(evidence.text, evidence.times, evidence.samples, rows, subject.speaker),
        why=why,
        controls=rows,
    )


def _control(kind: str, query: Query, texts: Sequence[str], evidence: Evidence) -> dict[str, Any]:
    """Describe a control: its own modal answer, and how often it gives the diff's."""
    text, times = modal(texts)
    return {
        "kind": kind,
        "diff": query.info.id if query.info and kind != NONE else "",
        "text": text,
        "times": times,
        "samples": len(texts),
        "same": sum(words(own) == words(evidence.text) for own in texts),
        "log_prob": evidence.control_log_probs.get(kind),
    }


def sentence(
    text: str, times: int, samples: int, controls: Sequence[Mapping[str, Any]], speaker: str = "The adapter"
) -> str:
    """Say in one plain sentence what samples and controls come to; `speaker` gave the answer."""
    if times == 1 < samples:
        return f"{speaker} says something else in each of {samples} samples: no answer to trust."
    quoted = f"“{text.strip()}”" if text.strip() else "nothing"
    only = "only " if 2 * times < samples else ""
    beginning = f"{speaker} says {quoted} in {only}{times} of {samples} samples"
    if not controls:
        return f"{beginning}; there is nothing to compare that with."
    habits = [control for control in controls if _is_habit(control, times / samples)]
    if habits:
        # The worst, but another trained diff last: the answer may be what that one was trained on.
        worst = max(habits, key=lambda control: (control["kind"] != OTHER, _share(control)))
        unless = "unless that diff is about it too" if worst["kind"] == OTHER else "not this diff"
        return f"{beginning}, but also {_counted(worst)}: likely its habit, {unless}."
    counts = [_counted(control) for control in controls if control["same"]]
    return f"{beginning}; {', '.join(counts)}." if counts else f"{beginning}, never without this diff."


def _is_habit(control: Mapping[str, Any], share: float) -> bool:
    """Return whether a control gives the answer so often that the diff, giving it in a `share`, need not be why."""
    return 2 * _share(control) >= share and HABIT * control["same"] >= control["samples"]


def _share(control: Mapping[str, Any]) -> float:
    return float(control["same"] / control["samples"])


def _counted(control: Mapping[str, Any]) -> str:
    kind = {NONE: "without a diff", OTHER: "with another diff"}.get(control["kind"], f"with a {control['kind']}")
    return f"{kind} in {control['same']} of {control['samples']}"
