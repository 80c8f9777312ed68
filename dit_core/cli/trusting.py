"""The commands that say how far an answer can be trusted: of one diff, and of a whole suite."""

from typing import Annotated

import typer

from dit_core.cli.shared import AsJson, SuiteName, print_json, print_rows, progress


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
        print_json(table)
        return
    for one in table:
        rows = [["this diff", one.diff, one.answer, f"{one.times} of {one.samples}", "", f"{one.log_prob:.1f}"]]
        for own in one.controls:
            times, same = (f"{own[key]} of {own['samples']}" for key in ("times", "same"))
            rows.append([own["kind"], own["diff"], own["answer"], times, same, f"{own['log_prob']:.1f}"])
        print_rows(f"{one.diff}, adapter {one.adapter}", ["", "diff", "says", "times", "same answer", "log p"], rows)
        print(one.sentence)
        print(one.why if one.probability is None else f"Probability that it is right: {one.probability:.3f}")


def calibrate(
    suite: SuiteName = "pocket",
    anew: Annotated[bool, typer.Option("--anew", help="Fit and measure it anew, and keep it with the suite.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far a suite's probabilities can be believed, measured on its test diffs."""
    from dit_core.suite import load_suite
    from dit_core.trust import read_calibration, renew

    opened = load_suite(suite)
    if anew:
        with progress() as tell:
            renew(opened, tell=tell)
    calibration, table = read_calibration(opened)
    if as_json:
        print_json(table)
        return
    recipe = calibration.recipe
    print_rows(
        f"{opened.name}: fitted on {recipe['trials']} trials of the split '{recipe['split']}', measured on the others",
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
