"""The one adapter in memory that every file format is turned into."""

from dataclasses import dataclass

from torch import Tensor

from dit_core.formats.files import Wrong


@dataclass(frozen=True)
class Adapter:
    """Low-rank changes of named modules: `ΔW[name] = scaling[name] * B @ A`.

    `factors[name]` is (A [rank, in], B [out, rank]); names are those of `model.named_modules()`.
    """

    factors: dict[str, tuple[Tensor, Tensor]]
    scaling: dict[str, float]

    @property
    def rank(self) -> int:
        """The largest rank among the modules."""
        return max(A.shape[0] for A, _ in self.factors.values())

    @property
    def n_params(self) -> int:
        """Numbers in all factors together."""
        return sum(A.numel() + B.numel() for A, B in self.factors.values())

    def norms(self) -> dict[str, float]:
        """Frobenius norm of each ΔW, from the factors' Gram matrices (ΔW itself is never built)."""
        found = {}
        for name, (A, B) in self.factors.items():
            A, B = A.double(), B.double()
            square = ((B.T @ B) * (A @ A.T)).sum().clamp_min(0)
            found[name] = abs(self.scaling[name]) * float(square.sqrt())
        return found


def checked(factors: dict[str, tuple[Tensor, Tensor]], scaling: dict[str, float]) -> Adapter:
    """An adapter, or the first thing that is wrong with its factors."""
    for name, (A, B) in factors.items():
        if A.shape[0] != B.shape[1] or 0 in (*A.shape, *B.shape):
            raise Wrong(f"the factors of '{name}' do not fit each other: {list(A.shape)} and {list(B.shape)}")
        if not (A.is_floating_point() and B.is_floating_point() and A.isfinite().all() and B.isfinite().all()):
            raise Wrong(f"the factors of '{name}' are not finite numbers")
    return Adapter(factors, scaling)
