"""Lens: what a diff does to the residual stream, seen without an oracle.

Its mean change of unrelated texts as words (`difference_lens`), how these changes resemble each other
(`similarities`), what the base writes when one is added to it (`steer`); and, for conditions of the comparison, how the
next token climbs through the layers (`next_tokens`) and where a diff acts (`norms`). Method of the first three:
Activation Difference Lens, arXiv 2510.13900.
"""

from dit_core.methods.lens.difference import similarities
from dit_core.methods.lens.difference_norms import norms
from dit_core.methods.lens.next_token import next_tokens
from dit_core.methods.lens.steering import steer
from dit_core.methods.lens.tokens import difference_lens, patchscope

__all__ = ["difference_lens", "next_tokens", "norms", "patchscope", "similarities", "steer"]
