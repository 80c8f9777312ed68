"""Commands that ask: what there is, and what it says."""

from typing import Annotated
from urllib.parse import unquote

import typer

from dit_core.cli.shared import AsJson, SuiteName, numbers, print_json, print_rows


def ask(
    diff: Annotated[list[str] | None, typer.Option(help="Id or reference of a diff; repeatable.")] = None,
    condition: Annotated[list[str] | None, typer.Option(help="Like 'diff+dit*2+right'; repeatable.")] = None,
    strength: Annotated[str | None, typer.Option(help="Of the diff: numbers, like 0,0.5,1.")] = None,
    copies: Annotated[str | None, typer.Option(help="Of the DIT adapter: numbers, like 0,1,2.")] = None,
    trigger: Annotated[str | None, typer.Option(help="Out of absent,right,wrong,own:TEXT (percent-encoded).")] = None,
    adapter: Annotated[str | None, typer.Option(help="Names of DIT adapters, like topic,topic-64.")] = None,
    question: Annotated[list[str] | None, typer.Option(help="Instead of the task's own; repeatable.")] = None,
    samples: Annotated[int, typer.Option(help="Answers per combination; needs a temperature.")] = 1,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Sample among the likeliest tokens of this probability.")] = 1.0,
    max_new_tokens: Annotated[int | None, typer.Option(help="Of an answer; by default as the suite says.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise, and of the digits around triggers.")] = 0,
    suite: SuiteName = "pocket",
    as_json: AsJson = False,
) -> None:
    """Ask diffs under conditions: every combination is answered, all in one batch."""
    from dit_core.methods.verbalize import ask as verbalize
    from dit_core.suite import load_suite

    table = verbalize(
        load_suite(suite),
        diff or None,
        condition=condition or None,
        strength=numbers(strength, "--strength"),
        copies=numbers(copies, "--copies"),
        trigger=None if trigger is None else [unquote(part) for part in trigger.split(",")],
        adapter=adapter and adapter.split(","),
        question=question or None,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    if as_json:
        return print_json(table)
    print_rows(
        table.suite,
        ["diff", "condition", "question", "answer"],
        [[said.diff, said.condition, said.question, said.text] for said in table],
    )


def diffs(
    reveal: Annotated[bool, typer.Option("--reveal", help="Also show what each was trained on.")] = False,
    suite: SuiteName = "pocket",
    as_json: AsJson = False,
) -> None:
    """List the diffs of a suite."""
    from dit_core.suite import load_suite

    table = load_suite(suite).diffs
    if as_json:
        return print_json(table, reveal)
    columns = ["id", "task", "split", "rank", *(["reference", "trigger"] if reveal else [])]
    print_rows(table.suite, columns, [[getattr(info, column) for column in columns] for info in table])
