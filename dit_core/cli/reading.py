"""Commands that look inside: an activation oracle's readings, and the activation difference lens."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dit_core.cli.output import AsJson, Reveal, SuiteName, print_json, print_rows, progress_bar

if TYPE_CHECKING:
    from dit_core.records import LensToken, Reading, Table

Layers = Annotated[str, typer.Option(help="'all', or numbers like 0,3-5.")]


def oracle(
    diff: Annotated[list[str] | None, typer.Option(help="Id or reference of a diff; repeatable.")] = None,
    condition: Annotated[list[str] | None, typer.Option(help="Like 'diff+right'; repeatable.")] = None,
    layers: Layers = "all",
    span: Annotated[str, typer.Option(help="Tokens to read: prompt, last:10, 7, 3:9, answer:3, each:prompt.")] = (
        "last:10"
    ),
    question: Annotated[list[str] | None, typer.Option(help="To the oracle; repeatable.")] = None,
    asked: Annotated[str | None, typer.Option(help="What the condition is asked; by default the task's own.")] = None,
    kind: Annotated[str, typer.Option(help="Activations: with, without, or difference.")] = "with",
    samples: Annotated[int, typer.Option(help="Answers per reading; needs a temperature.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.0,
    max_new_tokens: Annotated[int, typer.Option(help="Of the oracle's answer.")] = 10,
    answer_tokens: Annotated[int | None, typer.Option(help="Of the condition's answer, where it is read.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise, and of the digits around triggers.")] = 0,
    oracle: Annotated[str | None, typer.Option(help="A PEFT LoRA's folder or hub id; else the suite's own.")] = None,
    block: Annotated[int | None, typer.Option(help="Decoder block to inject at; by default the oracle's.")] = None,
    coefficient: Annotated[float, typer.Option(help="How strongly, as a share of what is there.")] = 1.0,
    placeholders: Annotated[int | None, typer.Option(help="In the prompt; by default one per token.")] = None,
    suite: SuiteName = "pocket",
    reveal: Reveal = False,
    as_json: AsJson = False,
) -> None:
    """Read the layers of diffs under conditions through an activation oracle."""
    from dit_core.methods.oracle import stream
    from dit_core.suite import load_suite

    tables = stream(
        load_suite(suite),
        diff or None,
        condition=condition or None,
        layers=layers,
        span=span,
        question=question or None,
        asked=asked,
        kind=kind,
        samples=samples,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        answer_tokens=answer_tokens,
        seed=seed,
        oracle=oracle,
        block=block,
        coefficient=coefficient,
        placeholders=placeholders,
    )
    with progress_bar() as show:
        for table in tables:
            show(len(table), table.extra["n_readings"], "readings")
    if as_json:
        return print_json(table, reveal)
    trained = ", ".join(map(str, table.extra.get("trained_layers", ["unknown"])))
    print_rows(
        f"{table.suite}, oracle {table.extra['oracle']}, trained at layers {trained}",
        ["layer", "depth", "diff", "condition", "tokens", "question", "text", "confidence"]
        + (["grade", "log p (ref.)"] if reveal else []),
        [_reading_row(reading, reveal) for reading in table],
    )


def lens(
    diff: Annotated[list[str] | None, typer.Option(help="Id or reference of a diff; repeatable.")] = None,
    layers: Layers = "all",
    positions: Annotated[int, typer.Option(help="Tokens to read at the start of each text.")] = 5,
    top: Annotated[int, typer.Option(help="Tokens to show per layer, position and method.")] = 5,
    method: Annotated[list[str] | None, typer.Option(help="'logit lens', 'patchscope'; repeatable; else both.")] = None,
    strength: Annotated[float, typer.Option(help="Of the diff.")] = 1.0,
    suite: SuiteName = "pocket",
    as_json: AsJson = False,
) -> None:
    """Show the words in what a diff changes in the activations of unrelated texts."""
    from dit_core.methods.lens import difference_lens
    from dit_core.methods.lens.tokens import METHODS
    from dit_core.suite import load_suite

    table = difference_lens(
        load_suite(suite),
        diff or None,
        layers=layers,
        positions=positions,
        top=top,
        methods=method or METHODS,
        strength=strength,
    )
    if as_json:
        return print_json(table)
    print_rows(f"{table.suite}, lens", ["diff", "method", "layer", "depth", "token", "likeliest"], _lens_rows(table))


def _reading_row(reading: "Reading", reveal: bool) -> list[Any]:
    first, last = reading.positions[0], reading.positions[-1]
    log_prob = reading.log_prob_reference
    truth = [reading.grade, None if log_prob is None else f"{log_prob:.2f}"]
    return [
        reading.layer,
        f"{reading.depth_percent:g} %",
        reading.diff,
        reading.condition,
        first if first == last else f"{first}-{last}",
        reading.question,
        reading.text,
        f"{100 * reading.confidence:.0f} %",
        *(truth if reveal else []),
    ]


def _lens_rows(table: "Table[LensToken]") -> list[list[Any]]:
    """Return one row per layer, position and method: its tokens in order, with their probabilities."""
    rows: dict[tuple[Any, ...], list[str]] = {}
    for record in table:
        where = (record.diff, record.method, record.layer, f"{record.depth_percent:g} %", record.position)
        rows.setdefault(where, []).append(f"{record.token.strip() or repr(record.token)} {100 * record.weight:.1f} %")
    return [[*where, ", ".join(tokens)] for where, tokens in rows.items()]
