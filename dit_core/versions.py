"""What a result was made with: versions of this package, of Python, and of what computes."""

import platform
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "transformers", "peft")


@lru_cache
def versions() -> dict[str, str]:
    """The versions by name; those of packages that are not installed are left out. Imports none of them."""
    from dit_core import __version__

    found = {"dit_core": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
