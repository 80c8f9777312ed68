"""Counts what a suite's base model is made to compute."""

from collections.abc import Iterator
from contextlib import contextmanager

from dit_core.suite import Suite


@contextmanager
def forward_passes(suite: Suite) -> Iterator[list[int]]:
    """Collect the number of rows of every forward pass of the base within the context."""
    rows: list[int] = []

    def count(_, positional, named):
        rows.append(len(next(value for value in (*positional, *named.values()) if hasattr(value, "shape"))))

    hook = suite.model.base.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield rows
    finally:
        hook.remove()
