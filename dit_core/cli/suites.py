"""Commands on suites and what they fetched: the catalogue, what a suite takes, and the cache."""

from typing import Annotated

import typer

from dit_core.cli.shared import AsJson, print_json, print_rows
from dit_core.hub import format_bytes


def suites(
    name: Annotated[str | None, typer.Argument(help="Say what this suite takes to load, and whether it fits.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16.")] = None,
    quantize: Annotated[str | None, typer.Option(help="8bit or 4bit, on an NVIDIA GPU.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the suites by name; with a name, say what its base downloads and needs, and what there is."""
    from dit_core.records import Table
    from dit_core.suite.catalog import listings

    if name is not None:
        return _needs(name, dtype, quantize, as_json)
    found = Table("", "suites", tuple(listings()))
    if as_json:
        return print_json(found)
    rows = [[one.name, one.title, one.base, format_bytes(one.gigabytes * 1e9), one.oracle and "yes"] for one in found]
    print_rows("Suites", ["name", "what", "base", "weights", "oracle"], rows)


def cache(
    remove: Annotated[list[str] | None, typer.Option(help="Delete this repository; repeatable.")] = None,
    as_json: AsJson = False,
) -> None:
    """List what was fetched from the hub and is kept on this disk, or delete some of it."""
    from dit_core.hub.cache import cached_repositories
    from dit_core.hub.cache import delete_repositories as delete
    from dit_core.records import Table

    if remove:
        print(f"Freed {format_bytes(delete(remove))}.")
        return
    found = cached_repositories()
    if as_json:
        return print_json(Table("", "cached", tuple(found)))
    rows = [[one.repo, format_bytes(one.size), len(one.revisions), one.last_used] for one in found]
    print_rows("On this disk", ["repository", "size", "revisions", "last used"], rows)
    print(f"{format_bytes(sum(one.size for one in found))} in all.")


def _needs(name: str, dtype: str | None, quantize: str | None, as_json: bool) -> None:
    from dit_core.records import Table
    from dit_core.suite import load_suite

    suite = load_suite(name, dtype, quantize)
    found = suite.needs()
    if as_json:
        print_json(Table(suite.name, "needs", (found,), {"revisions": suite.revisions}))
    else:
        print(found)
    found.check()
