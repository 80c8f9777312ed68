"""Many adapters of one shape, trained in one batch: every row goes through the adapter it names.

Method: arXiv 2510.05092 trains its weight diffs this way, with a leading task dimension on every factor.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dit_core.engine.compatibility import is_linear, linear_size
from dit_core.engine.model import decoder_blocks
from dit_core.formats import Adapter


class AdapterBank(nn.Module):
    """`count` LoRA adapters of `rank` on all linear layers of the decoder blocks of `base`.

    Factors per module: A [count, rank, in], B [count, out, rank]; the update is `y += (x @ A.T @ B.T) / rank`.
    """

    def __init__(self, base: PreTrainedModel, count: int, rank: int, seed: int = 0) -> None:
        super().__init__()
        self.rank = rank
        self.count = count
        generator = torch.Generator().manual_seed(seed)
        device = next(base.parameters()).device
        self.factors = nn.ParameterDict()
        for name, module in linear_layers(base).items():
            inputs, outputs = linear_size(module)
            A = torch.randn(count, rank, inputs, generator=generator) / math.sqrt(inputs)
            self.factors[f"{name}:A".replace(".", "/")] = nn.Parameter(A.to(device))
            self.factors[f"{name}:B".replace(".", "/")] = nn.Parameter(torch.zeros(count, outputs, rank, device=device))

    def pair(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the factors A [count, rank, in] and B [count, out, rank] of a module."""
        key = name.replace(".", "/")
        return self.factors[f"{key}:A"], self.factors[f"{key}:B"]

    @contextmanager
    def rows(self, base: PreTrainedModel, numbers: Tensor | None = None) -> Iterator[None]:
        """Put the adapters on `base` for the time of the context: row i of a batch goes through adapter `numbers[i]`.

        `numbers` [rows] are below `count`; a bank of one adapter needs none.
        """
        with ExitStack() as stack:
            for name, module in linear_layers(base).items():
                A, B = (factor if numbers is None else factor[numbers] for factor in self.pair(name))
                stack.callback(module.register_forward_hook(partial(_add, A=A, B=B, rank=self.rank)).remove)
            yield

    def adapter(self, number: int) -> Adapter:
        """Return adapter `number` for writing to a file, in bf16 as shipped."""
        factors = {}
        for key in self.factors:
            if key.endswith(":A"):
                name = key.removesuffix(":A").replace("/", ".")
                A, B = (factor[number].detach().to("cpu", torch.bfloat16) for factor in self.pair(name))
                factors[name] = (A, B)
        return Adapter(factors, dict.fromkeys(factors, 1 / self.rank))

    def load(self, number: int, adapter: Adapter) -> None:
        """Put a stored adapter, of the bank's rank or a lower one, in the place of number `number`."""
        with torch.no_grad():
            for name, (A, B) in adapter.factors.items():
                own_A, own_B = (factor[number].zero_() for factor in self.pair(name))
                own_A[: len(A)].copy_(A)
                own_B[:, : len(A)].copy_(B * (self.rank * adapter.scaling[name]))


def linear_layers(base: PreTrainedModel) -> dict[str, nn.Module]:
    """Return all linear layers of the decoder blocks by name; the unembedding is none of them."""
    path, blocks = decoder_blocks(base)
    return {f"{path}.{name}": module for name, module in blocks.named_modules() if is_linear(module)}


def _add(module: nn.Module, inputs: tuple[Tensor], output: Tensor, *, A: Tensor, B: Tensor, rank: int) -> Tensor:
    # By rows also where a family feeds its layer [rows * positions, in].
    x = inputs[0].reshape(len(A), -1, A.shape[-1])
    low = x @ A.to(x.dtype).transpose(-1, -2)
    added = low @ B.to(x.dtype).transpose(-1, -2)
    return output + added.to(output.dtype).view_as(output) / rank
