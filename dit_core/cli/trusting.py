"""The commands that say how far an answer can be trusted: of one diff, and of a whole suite."""

from typing import TYPE_CHECKING, Annotated

import typer

from dit_core.cli.shared import AsJson, SuiteName, print_json, print_rows, progress
from dit_core.errors import DitError

if TYPE_CHECKING:
    from dit_core.records import Confidence, ReadingConfidence


def confidence(
    diff: Annotated[list[str], typer.Option(help="Id or reference of a diff; may be given several times.")],
    adapter: Annotated[str | None, typer.Option(help="A DIT adapter; by default that of the diff's task.")] = None,
    samples: Annotated[int, typer.Option(help="Answers per diff and control.")] = 16,
    seed: int = 0,
    suite: SuiteName = "pocket",
    as_json: AsJson = False,
) -> None:
    """How far a verbalization can be trusted: samples, controls, and the probability that it is right."""
    from dit_core.suite import load_suite
    from dit_core.trust import confidence as found

    table = found(load_suite(suite), diff, adapter=adapter, samples=samples, seed=seed)
    if as_json:
        return print_json(table)
    for one in table:
        _print_confidence(f"{one.diff}, adapter {one.adapter}", one)


def reading_confidence(
    diff: Annotated[list[str], typer.Option(help="Id or reference of a diff; may be given several times.")],
    condition: Annotated[list[str] | None, typer.Option(help="Like 'diff+right'; by default 'diff+dit'.")] = None,
    layers: Annotated[str, typer.Option(help="'all', or numbers like 0,3-5.")] = "all",
    asked: Annotated[str | None, typer.Option(help="What the condition is asked; by default the task's own.")] = None,
    span: Annotated[str, typer.Option(help="Tokens to read: prompt, last:10, 7, 3:9, answer, answer:3.")] = "last:10",
    kind: Annotated[str, typer.Option(help="Activations: with, or difference.")] = "with",
    question: Annotated[str | None, typer.Option(help="To the oracle; by default its first preset.")] = None,
    answer_tokens: Annotated[int | None, typer.Option(help="Of the condition's answer, where it is read.")] = None,
    samples: Annotated[int, typer.Option(help="Readings per diff and control.")] = 16,
    seed: int = 0,
    suite: SuiteName = "pocket",
    as_json: AsJson = False,
) -> None:
    """How far an oracle's reading can be trusted: samples, controls, and the probability that it is right."""
    from dit_core.suite import load_suite
    from dit_core.trust import stream_reading_confidence

    tables = stream_reading_confidence(
        load_suite(suite),
        diff,
        condition=condition or "diff+dit",
        layers=layers,
        asked=asked,
        span=span,
        kind=kind,
        question=question,
        answer_tokens=answer_tokens,
        samples=samples,
        seed=seed,
    )
    *_, table = tables
    if as_json:
        return print_json(table)
    for one in table:
        _print_confidence(f"{one.diff}, {one.condition}, layer {one.layer}", one)


def _print_confidence(title: str, one: "Confidence | ReadingConfidence") -> None:
    rows = [["this diff", one.diff, one.text, f"{one.times} of {one.samples}", "", f"{one.log_prob:.1f}"]]
    for own in one.controls:
        times, same = (f"{own[key]} of {own['samples']}" for key in ("times", "same"))
        rows.append([own["kind"], own["diff"], own["text"], times, same, f"{own['log_prob']:.1f}"])
    print_rows(title, ["", "diff", "says", "times", "same answer", "log p"], rows)
    print(one.sentence)
    print(one.why if one.probability is None else f"Probability that it is right: {one.probability:.3f}")


def calibrate(
    suite: SuiteName = "pocket",
    of: Annotated[str, typer.Option(help="'answers' of DIT adapters, or 'readings' of the oracle.")] = "answers",
    anew: Annotated[bool, typer.Option("--anew", help="Fit and measure it anew, and keep it with the suite.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far a suite's probabilities can be believed, measured on its test diffs."""
    from dit_core.suite import load_suite
    from dit_core.trust import SUBJECTS, read_calibration, renew

    if of not in SUBJECTS:
        raise DitError(f"There is no calibration of '{of}': choose {' or '.join(SUBJECTS)}.")
    opened = load_suite(suite)
    if anew:
        with progress() as tell:
            renew(opened, tell=tell, of=of)
    calibration, table = read_calibration(opened, of)
    if as_json:
        print_json(table)
        return
    recipe = calibration.recipe
    print_rows(
        f"{opened.name}, {of}: fitted on {recipe['trials']} trials of split '{recipe['split']}', measured on others",
        ["test trials", "n", "right", "calibration error (10 bins of equal numbers)", "AUROC", "Brier"],
        [
            [one.of, one.n, one.right, _figure(one, "ece"), _figure(one, "auroc"), _figure(one, "brier")]
            for one in table
        ],
    )


def _figure(record, name: str) -> str:
    value, interval = getattr(record, name), getattr(record, f"{name}_interval")
    if value is None or interval is None:
        return "not defined"
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"
