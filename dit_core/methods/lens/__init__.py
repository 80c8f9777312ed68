"""Lens: what a diff does to the residual stream, seen without an oracle.

Its mean change of unrelated texts as words (`lens`), how these changes resemble each other (`similarities`), what the
base writes when one is added to it (`steer`); and, for conditions of the comparison, how the next token climbs through
the layers (`next_tokens`) and where a diff acts (`norms`). Method of the first three: arXiv 2510.13900.
"""

import sys
from types import ModuleType
from typing import Any

from dit_core.methods.lens.difference import similarities
from dit_core.methods.lens.next_token import next_tokens
from dit_core.methods.lens.norms import norms
from dit_core.methods.lens.steering import steer
from dit_core.methods.lens.tokens import lens, patchscope
from dit_core.records import LensToken, Table

__all__ = ["lens", "next_tokens", "norms", "patchscope", "similarities", "steer"]


class _Room(ModuleType):
    """The room called as its function: Python binds the name to the room, whichever of the two was meant."""

    def __call__(self, *args: Any, **options: Any) -> Table[LensToken]:
        return lens(*args, **options)


sys.modules[__name__].__class__ = _Room
