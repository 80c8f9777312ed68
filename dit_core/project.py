"""Where the project is published, and what every notebook starts with because of it: one place for the address.

There is no public address yet. Until there is, the owner's name holds a "_", which no account can have: nobody can be
fetched from by mistake. A fork needs no edit here: `make notebooks` asks `repository`.
"""

import os
import re
import subprocess
from pathlib import Path

REPOSITORY = "owner_/dit-explorer"
BRANCH = "main"
COLAB = "https://colab.research.google.com"
_GITHUB = re.compile(r"(?:https://|git@|ssh://git@)github\.com[:/]([\w-]+/[\w.-]+?)(?:\.git)?/?")


def repository() -> str:
    """`owner/name` on GitHub: as DIT_REPOSITORY says, else as this clone's `origin` does, else the placeholder."""
    if wanted := os.environ.get("DIT_REPOSITORY"):
        return wanted
    here, ask = Path(__file__).parent, ["git", "remote", "get-url", "origin"]
    try:
        told = subprocess.run(ask, cwd=here, capture_output=True, text=True).stdout.strip()
    except OSError:  # no git
        told = ""
    found = _GITHUB.fullmatch(told)
    return found[1] if found else REPOSITORY


def badge(notebook: str, repository: str) -> str:
    """The "Open in Colab" line, in Markdown, of a notebook in `notebooks/`."""
    picture, link = f"{COLAB}/assets/colab-badge.svg", f"{COLAB}/github/{repository}/blob/{BRANCH}/notebooks/{notebook}"
    return f"[![Open in Colab]({picture})]({link})"


def setup(repository: str) -> str:
    """The first cell of every notebook."""
    return _SETUP.replace("{address}", f"https://github.com/{repository}")


# Torch is taken out of the requirements and held at the version that is there: Colab's own fits its GPU.
_SETUP = """\
# On Colab: fetches the code and installs what is missing, all but torch. Elsewhere: does nothing.
import sys

if "google.colab" in sys.modules:
    import os
    import subprocess
    from importlib.metadata import version
    from pathlib import Path

    address = "{address}"
    if not Path("dit-explorer").exists():
        subprocess.run(["git", "clone", "--quiet", "--depth=1", address, "dit-explorer"], check=True)
    os.chdir("dit-explorer")
    sys.path.insert(0, os.getcwd())
    wanted = [line for line in Path("requirements.txt").read_text().split() if not line.startswith("torch")]
    Path("/tmp/kept.txt").write_text(f"torch=={version('torch')}")
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *wanted, "-c", "/tmp/kept.txt"], check=True)
    from google.colab import output

    output.enable_custom_widget_manager()  # for the explorer's plot"""
