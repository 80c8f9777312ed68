"""The command that varies copies, strength or layers."""

from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote

import typer

from dit_core.cli.shared import AsJson, SuiteName, numbers, print_json, print_rows, progress

if TYPE_CHECKING:
    from dit_core.records import SweepPoint


def sweep(
    preset: Annotated[
        str | None, typer.Option(help="What varies: a name below, or the beginning of one; by default a copies one.")
    ] = None,
    diff: Annotated[str | None, typer.Option(help="Id or reference of a diff.")] = None,
    step: Annotated[float, typer.Option(help="Of copies, where the preset varies them.")] = 0.5,
    copies: Annotated[str | None, typer.Option(help="Instead of the preset's: numbers, like 0,0.25,1.")] = None,
    strength: Annotated[str | None, typer.Option(help="Instead of the preset's: numbers, like -1,0,1.")] = None,
    trigger: Annotated[str, typer.Option(help="absent, right, wrong, or own:TEXT (percent-encoded).")] = "absent",
    adapter: Annotated[list[str] | None, typer.Option(help="DIT adapters; repeatable. All defaults if none.")] = None,
    samples: Annotated[int, typer.Option(help="Answers per setting; more than one needs a temperature.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.0,
    question: Annotated[str | None, typer.Option(help="By default that of the adapter's task.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(help="Of an answer.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    suite: SuiteName = "pocket",
    reveal: Annotated[bool, typer.Option("--reveal", help="Also the reference's log-probability.")] = False,
    as_json: AsJson = False,
) -> None:
    """Vary copies, strength or layers. Presets: copies without a diff, copies with the diff, strength of the diff,
    copies and strength, layers of the adapter."""
    from dit_core.suite import load_suite
    from dit_core.sweeps.presets import planned
    from dit_core.sweeps.run import stream_sweep

    held = load_suite(suite)
    preset = preset or ("copies with the diff" if diff else "copies without a diff")
    own = {"copies": numbers(copies, "--copies"), "strength": numbers(strength, "--strength")}
    what = planned(held, preset, diff, adapter or [], step, **own)
    asked = {"question": question, "trigger": unquote(trigger), "samples": samples, "seed": seed}
    sampling = {"temperature": temperature, "max_new_tokens": max_new_tokens}
    with progress() as tell:
        for table in stream_sweep(held, **what, **asked, **sampling):
            total = table.extra["n_answers"]
            tell(int(table.extra["progress"] * total), total, "answer")
    if as_json:
        return print_json(table, reveal)
    told = [table.suite, "values of your own" if any(own.values()) else preset]
    print_rows(
        ", ".join(told if trigger == "absent" else [*told, f"trigger {trigger}"]),
        ["adapter", "copies", "strength", "layers", "says", "agree", "like 1 copy"],
        [_row(one) for one in table],
    )


def _row(one: "SweepPoint") -> list:
    layers = "all" if one.layers is None else f"{one.layers[0]}-{one.layers[1]}"
    alike = "" if one.similarity is None else f"{one.similarity:.2f}"
    return [one.adapter, f"{one.copies:g}", f"{one.strength:g}", layers, one.text, f"{one.modal_share:.2f}", alike]
