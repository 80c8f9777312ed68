"""Commands that say how far an answer, a probability or a grade can be trusted."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dit_core.cli.output import (
    AsJson,
    GraderModel,
    GraderName,
    JudgeCache,
    JudgeUrl,
    SuiteName,
    print_json,
    print_rows,
    progress_bar,
)
from dit_core.errors import DitError

if TYPE_CHECKING:
    from dit_core.grading.grades import GraderAgreement
    from dit_core.records import Confidence, Reliability


def confidence(
    diff: Annotated[list[str], typer.Option(help="Id or reference of a diff; may be given several times.")],
    adapter: Annotated[str | None, typer.Option(help="A DIT adapter; by default that of the diff's task.")] = None,
    method: Annotated[
        str | None, typer.Option(help="Of any method that gives answers, with its default options, instead.")
    ] = None,
    samples: Annotated[int, typer.Option(help="Answers per diff and control.")] = 16,
    seed: int = 0,
    suite: SuiteName = "pocket",
    as_json: AsJson = False,
) -> None:
    """Show how far a verbalization can be trusted: samples, controls, and the probability that it is right."""
    from dit_core import trust
    from dit_core.suite import load_suite

    loaded = load_suite(suite)
    if method:
        table = trust.method_confidence(loaded, method, diff)
    else:
        table = trust.confidence(loaded, diff, adapter=adapter, samples=samples, seed=seed)
    if as_json:
        return print_json(table)
    for record in table:
        _print_confidence(f"{record.diff}, {method or f'adapter {record.adapter}'}", record)


def reading_confidence(
    diff: Annotated[list[str], typer.Option(help="Id or reference of a diff; may be given several times.")],
    condition: Annotated[list[str] | None, typer.Option(help="Like 'diff+right'; by default 'diff+dit'.")] = None,
    layers: Annotated[str, typer.Option(help="'all', or numbers like 0,3-5 or 25%,50%.")] = "all",
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
    """Show how far an oracle's reading can be trusted: samples, controls, and the probability that it is right."""
    from dit_core import trust
    from dit_core.suite import load_suite

    table = trust.reading_confidence(
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
    if as_json:
        return print_json(table)
    for record in table:
        _print_confidence(f"{record.diff}, {record.condition}, layer {record.layer}", record)


def calibrate(
    suite: SuiteName = "pocket",
    of: Annotated[str, typer.Option(help="'answers' of DIT adapters, or 'readings' of the oracle.")] = "answers",
    anew: Annotated[bool, typer.Option("--anew", help="Fit and measure it anew, and keep it with the suite.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far a suite's probabilities can be believed, measured on its test diffs."""
    from dit_core.suite import load_suite
    from dit_core.trust import FILES, read_calibration, recalibrate

    if of not in FILES:
        raise DitError(f"There is no calibration of '{of}': choose {' or '.join(FILES)}.")
    loaded = load_suite(suite)
    if anew:
        with progress_bar() as show:
            recalibrate(loaded, on_progress=show, of=of)
    calibration = read_calibration(loaded, of)
    table = calibration.table(loaded, of)
    if as_json:
        return print_json(table)
    recipe = calibration.recipe
    print_rows(
        f"{loaded.name}, {of}: fitted on {recipe.trials} trials of split '{recipe.split}', measured on others",
        ["test trials", "n", "right", "calibration error (10 bins of equal numbers)", "AUROC", "Brier"],
        [
            [record.of, record.n, record.right, *(_figure(record, name) for name in ("ece", "auroc", "brier"))]
            for record in table
        ],
    )


def grade(
    file: Annotated[Path, typer.Argument(help="A CSV with the columns reference, guess and grade.")],
    grader: GraderName = "rules",
    model: GraderModel = None,
    base_url: JudgeUrl = None,
    cache: JudgeCache = None,
    suite: Annotated[str | None, typer.Option(help="Whose world decides (rules), or whose base judges.")] = None,
    as_json: AsJson = False,
) -> None:
    """Grade the pairs of a file anew, and show how well that agrees with their grades."""
    from dit_core.grading import grader as grader_of
    from dit_core.grading.grades import grader_agreement, read_graded
    from dit_core.suite import load_suite

    pairs = read_graded(file)
    chosen = grader_of(grader, model=model, suite=load_suite(suite) if suite else None, base_url=base_url, cache=cache)
    with progress_bar() as show:
        grades = chosen.grade_all([(pair.reference, pair.guess) for pair in pairs], show)
    result = grader_agreement([pair.grade for pair in pairs], [grade for grade in grades if grade])
    if as_json:
        print(json.dumps({"grader": chosen.name, **asdict(result)}, indent=2))
        return
    _print_agreement(result, f"{file.name}, graded by {chosen.name}")


def _print_confidence(title: str, record: "Confidence") -> None:
    times = f"{record.times} of {record.samples}"
    rows = [["this diff", record.diff, record.text, times, "", _nats(record.log_prob)]]
    for control in record.controls:
        times, same = (f"{control[key]} of {control['samples']}" for key in ("times", "same"))
        rows.append([control["kind"], control["diff"], control["text"], times, same, _nats(control["log_prob"])])
    print_rows(title, ["", "diff", "text", "times", "same text", "log p"], rows)
    print(record.sentence)
    print(record.why if record.probability is None else f"Probability that it is right: {record.probability:.3f}")


def _nats(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _figure(record: "Reliability", name: str) -> str:
    value, interval = getattr(record, name), getattr(record, f"{name}_interval")
    if value is None or interval is None:
        return "not defined"
    return f"{value:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _print_agreement(result: "GraderAgreement", title: str) -> None:
    figures = {
        "Spearman": result.spearman,
        "mean absolute error": result.mean_absolute_error,
        "ROC area (grade 4 or 5)": result.roc_area,
        "quadratic kappa": result.quadratic_kappa,
        "exact": result.exact,
        "within one": result.within_one,
    }
    shown = ["not defined" if value is None else f"{value:.3f}" for value in figures.values()]
    print_rows(title, ["pairs", *figures], [[result.n, *shown]])
    grades = range(1, len(result.confusion) + 1)
    print_rows(
        "given (rows) and found (columns)",
        ["", *map(str, grades)],
        [[given, *row] for given, row in zip(grades, result.confusion, strict=True)],
    )
