"""Serves JupyterLab for a test, on a free port of this machine alone and with a token; it ends with the test."""

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.serving import free_port

SECONDS = 120  # for its start, on a machine that has other things to do


@contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab over `folder`, `{}` in it standing for a file's name, while the context is open."""
    port, token = free_port(), secrets.token_hex(16)
    own = {f"JUPYTER_{what}_DIR": str(folder / f".{what.lower()}") for what in ("CONFIG", "DATA", "RUNTIME")}
    own |= {f"JUPYTERLAB_{what}_DIR": str(folder / f".{what.lower()}") for what in ("SETTINGS", "WORKSPACES")}
    here = str(Path(__file__).parent.parent)
    environment = {**os.environ, **own, "PYTHONPATH": here, "JUPYTER_PREFER_ENV_PATH": "1"}
    options = {
        "ip": "127.0.0.1",
        "port": port,
        "IdentityProvider.token": token,
        "ServerApp.root_dir": folder,
        "ServerApp.port_retries": 0,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.news_url": "",
        "LabApp.expose_app_in_browser": True,
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with (folder / "log.txt").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait(f"http://127.0.0.1:{port}/api?token={token}", server, folder / "log.txt")
            yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}&reset"
        finally:
            server.terminate()  # it ends its kernels
            server.wait(30)


def _wait(address: str, server: subprocess.Popen, log: Path) -> None:
    """Until the server answers."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            urlopen(address, timeout=2)
            return
        except (URLError, OSError):
            time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")
