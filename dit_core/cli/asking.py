"""Commands that ask: which diffs there are, what they say, and what they say as copies, strength or layers vary."""

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

import typer

from dit_core.cli.output import AsJson, Reveal, SuiteName, numbers, print_json, print_rows, progress_bar, say

if TYPE_CHECKING:
    from dit_core.records import SweepPoint


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
    """Ask diffs under conditions: every combination is answered, all in one batch. Without --diff, ask the base."""
    from dit_core.methods.verbalize import ask as verbalize
    from dit_core.suite import load_suite

    table = verbalize(
        load_suite(suite),
        diff or None,
        condition=condition or None,
        strength=numbers(strength, "--strength"),
        copies=numbers(copies, "--copies"),
        trigger=None if trigger is None else [unquote(part) for part in trigger.split(",")],
        adapter=adapter.split(",") if adapter else None,
        question=question or None,
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        seed=seed,
    )
    if not diff:
        say("No --diff was given: the base was asked, without any diff.")
    if as_json:
        return print_json(table)
    print_rows(
        table.suite,
        ["diff", "condition", "question", "text"],
        [[answer.diff, answer.condition, answer.question, answer.text] for answer in table],
    )


def diffs(reveal: Reveal = False, suite: SuiteName = "pocket", as_json: AsJson = False) -> None:
    """List the diffs of a suite."""
    from dit_core.suite import load_suite

    table = load_suite(suite).diffs
    if as_json:
        return print_json(table, reveal)
    columns = ["id", "task", "split", "rank", *(["reference", "trigger"] if reveal else [])]
    print_rows(table.suite, columns, [[getattr(info, column) for column in columns] for info in table])


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
    from dit_core.sweeps import stream_sweep
    from dit_core.sweeps.presets import planned

    loaded = load_suite(suite)
    preset = preset or ("copies with the diff" if diff else "copies without a diff")
    own_copies, own_strength = numbers(copies, "--copies"), numbers(strength, "--strength")
    tables = stream_sweep(
        loaded,
        **planned(loaded, preset, diff, adapter or [], step, own_copies, own_strength),
        question=question,
        trigger=unquote(trigger),
        samples=samples,
        seed=seed,
        temperature=temperature,
        max_new_tokens=max_new_tokens,
    )
    with progress_bar() as show:
        for table in tables:
            total = table.extra["n_answers"]
            show(int(table.extra["progress"] * total), total, "answers")
    if as_json:
        return print_json(table, reveal)
    title = [table.suite, "values of your own" if own_copies or own_strength else preset]
    title += [] if trigger == "absent" else [f"trigger {trigger}"]
    columns = ["adapter", "copies", "strength", "layers", "text", "agree", "like 1 copy"]
    columns += ["log p (ref.)"] if reveal else []
    print_rows(", ".join(title), columns, [_sweep_row(point, samples, reveal) for point in table])


def _sweep_row(point: "SweepPoint", samples: int, reveal: bool) -> list[Any]:
    row = [
        point.adapter,
        f"{point.copies:g}",
        f"{point.strength:g}",
        "all" if point.layers is None else f"{point.layers[0]}-{point.layers[1]}",
        point.text,
        f"{point.modal_share:.2f}" if samples > 1 else "",  # one answer agrees with itself
        "" if point.similarity is None else f"{point.similarity:.2f}",
    ]
    log_prob = point.log_prob_reference
    return [*row, *(["" if log_prob is None else f"{log_prob:.2f}"] if reveal else [])]
