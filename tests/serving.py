"""Serves the page for a test, in this process, on a free port of this machine alone."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dit_core.suite import Suite
from dit_core.ui import page
from dit_core.ui.server.public import Server


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def served(suite: Suite, **options: Any) -> Iterator[str]:
    """The address of a page over `suite` while the context is open; `options` are its server's."""
    demo = page.launch(suite, str(suite.folder), Server(**options), port=free_port(), block=False)
    try:
        yield demo.local_url
    finally:
        demo.close(verbose=False)
        suite.worker.run(lambda: None)  # what still runs there ends before the process may


def mcp_tools(address: str) -> dict[str, str]:
    """What an MCP client finds at a page: the tools' descriptions by name."""
    import asyncio

    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def visit() -> dict[str, str]:
        async with (
            streamablehttp_client(f"{address}gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return {tool.name: f"{tool.description} {tool.inputSchema}" for tool in (await session.list_tools()).tools}

    return asyncio.run(visit())
