"""Commands on files: what is in one, and the same thing in another layout."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dit_core.cli.shared import AsJson, print_json, print_rows
from dit_core.errors import DitError

if TYPE_CHECKING:
    from dit_core.formats import Adapter, StoredAdapter
    from dit_core.records import ModuleChange, Table
    from dit_core.suite import Suite

Position = Annotated[int, typer.Option(help="Which diff, of a file or folder of many; the first is 0.")]
MaybeSuite = Annotated[str | None, typer.Option("--suite", help="Name of a suite, or the path of its folder.")]


def check(
    path: Annotated[Path, typer.Argument(help="Any file, folder or zip of a diff or an adapter.")],
    position: Position = 0,
    suite: MaybeSuite = None,
    as_json: AsJson = False,
) -> None:
    """Say what is in a diff or adapter; with --suite, also whether it fits that base and how much it changes."""
    from dit_core.engine.changes import report
    from dit_core.engine.compatibility import likely_base, linear_shapes
    from dit_core.formats import KINDS, open_adapter_file
    from dit_core.records import Table
    from dit_core.suite import load_suite

    with open_adapter_file(path) as found:
        entry = found.read(position)
        held = suite and load_suite(suite)
        changes = held.worker.run(lambda: report(entry.adapter, held.model)) if held else report(entry.adapter)
        base = likely_base(linear_shapes(entry.adapter))
        extra = {"path": str(path), "layout": found.kind, "count": found.count, "position": position}
        extra |= {"rank": entry.adapter.rank, "parameters": entry.adapter.n_params}
        extra |= {"base": entry.base, "likely_base": base, "fits": True if held else None}
    if as_json:
        return print_json(Table(held.name if held else "", changes.kind, changes.records, extra))
    place = f", number {position} of {found.count}" if found.count > 1 else ""
    print_rows(f"{KINDS[found.kind]}{place}", ["module type", "modules", "rank", "parameters", "norm"], _types(changes))
    if entry.base:
        print(f"Its file names the base {entry.base!r}.")  # a stranger's text: no control characters
    print(f"By its shapes it was made for {base}." if base else "Its shapes are of no base that is known here.")
    if held:
        print(f"It fits the suite '{held.name}'{'' if changes.records else ', and changes nothing of its base'}.")


def convert(
    path: Annotated[Path, typer.Argument(help="Any file, folder or zip of a diff or an adapter.")],
    out: Annotated[Path, typer.Argument(help="A name that ends in .pt for the published layout, else a PEFT folder.")],
    position: Position = 0,
    dit: Annotated[bool, typer.Option("--dit", help="Write a .pt as a DIT adapter's, whose pairs are turned.")] = False,
    rank: Annotated[int | None, typer.Option(help="Approximate whole weights at this rank; needs --suite.")] = None,
    base: Annotated[str | None, typer.Option(help="Name of the base, for a PEFT folder.")] = None,
    topic: Annotated[str | None, typer.Option(help="What the diff was trained on, for the published layout.")] = None,
    trigger: Annotated[int | None, typer.Option(help="The diff's trigger, for the published layout.")] = None,
    suite: MaybeSuite = None,
) -> None:
    """Write any diff or adapter as a PEFT folder or in the published layout; what it holds stays bit for bit."""
    from dit_core.formats import open_adapter_file, write_dit_adapter, write_peft, write_weight_diffs

    if out.exists():
        raise DitError(f"'{out}' is there already: choose another name.")
    with open_adapter_file(path) as found:
        entry = found.read(position)
        adapter = entry.adapter if rank is None else _approximated(entry, rank, suite)
        if out.suffix != ".pt":
            write_peft(out, adapter, entry.base if base is None else base)
        elif dit or found.kind == "dit":
            write_dit_adapter(out, adapter)
        else:
            known = (entry.topic or "") if topic is None else topic, entry.trigger if trigger is None else trigger
            write_weight_diffs(out, [(adapter, *known)])
    print(f"Wrote '{out}': {_size(adapter)}.")


def _approximated(entry: "StoredAdapter", rank: int, suite: str | None) -> "Adapter":
    from dit_core.engine.changes import approximate
    from dit_core.suite import load_suite

    if suite is None:
        raise DitError("An approximation needs the base that the weights differ from: name its suite with --suite.")
    held: Suite = load_suite(suite)
    adapter, kept = held.worker.run(lambda: approximate(entry.adapter, rank, held.model))
    print(f"Rank {rank} keeps {100 * kept:.1f} % of the norm of what the weights changed.")
    return adapter


def _size(adapter: "Adapter") -> str:
    kind = f"rank {adapter.rank}" if adapter.rank else "whole weights"
    return f"{kind}, {adapter.n_params:,} parameters"


def _types(changes: "Table[ModuleChange]") -> list[list]:
    """A row per module type: how many, their ranks, parameters, and the norm of all of them together."""
    rows = []
    for type in dict.fromkeys(change.type for change in changes):
        some = [change for change in changes if change.type == type]
        ranks = sorted({"whole" if change.rank is None else str(change.rank) for change in some})
        parameters = f"{sum(change.parameters for change in some):,}"
        rows.append([type, len(some), ", ".join(ranks), parameters, _together(some)])
    return rows


def _together(some: "list[ModuleChange]") -> str:
    """The norm of several changes, and their mean share of the base's, as far as they are known."""
    if any(change.norm is None for change in some):
        return "needs --suite"
    norm = f"{sum(change.norm**2 for change in some) ** 0.5:.4g}"
    shares = [change.relative for change in some if change.relative is not None]
    return f"{norm} ({100 * sum(shares) / len(shares):.2g} % of the base's)" if shares else norm
