"""The command that varies copies, strength or layers."""

from typing import TYPE_CHECKING, Annotated

import typer

from dit_core.cli.shared import AsJson, SuiteName, print_json, print_rows, progress

if TYPE_CHECKING:
    from dit_core.records import Swept


def sweep(
    preset: Annotated[str, typer.Option(help="What varies: a name, or the beginning of one; see the list below.")] = (
        "copies without a diff"
    ),
    diff: Annotated[str | None, typer.Option(help="Id or reference of a diff.")] = None,
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
    from dit_core.experiments.sweep import planned, stream_sweep
    from dit_core.suite import load_suite

    held = load_suite(suite)
    what = planned(held, preset, diff, adapter or [])
    sampling = {"samples": samples, "temperature": temperature, "max_new_tokens": max_new_tokens, "seed": seed}
    with progress() as tell:
        for table in stream_sweep(held, question=question, **what, **sampling):
            tell(table.extra["n_tokens"], max_new_tokens or held.max_new_tokens, "token")
    if as_json:
        return print_json(table, reveal)
    print_rows(
        f"{table.suite}, {preset}",
        ["adapter", "copies", "strength", "layers", "says", "agree", "like 1 copy"],
        [_row(one) for one in table],
    )


def _row(one: "Swept") -> list:
    layers = "all" if one.layers is None else f"{one.layers[0]}-{one.layers[1]}"
    alike = "" if one.similarity is None else f"{one.similarity:.2f}"
    return [one.adapter, f"{one.copies:g}", f"{one.strength:g}", layers, one.text, f"{one.modal_share:.2f}", alike]
