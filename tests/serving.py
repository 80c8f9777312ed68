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
