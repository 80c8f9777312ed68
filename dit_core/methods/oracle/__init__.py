"""Activation oracles: a LoRA that answers questions about activations put into its own residual stream.

`read` takes conditions of a diff, reads what their residual stream holds at every layer asked for, and lets the oracle
say in words what is in it. All conditions are one batch of the target, all readings few batches of the oracle.
Method: arXiv 2512.15674 (Activation Oracles), its prompt and its norm-matched injection.
"""

from dit_core.methods.oracle.likelihood import lifts, log_probs
from dit_core.methods.oracle.reading import read, stream, targets
from dit_core.methods.oracle.request import oracle_prompt

__all__ = ["lifts", "log_probs", "oracle_prompt", "read", "stream", "targets"]
