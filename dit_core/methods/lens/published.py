"""The activation difference lens as published: means over very many texts, and three ways to put them into words.

The mean activations of the base and of the base with a diff, at each of the first tokens of texts that have nothing to
do with it, and the difference of both, are read by logit lens and by patchscope, and the diff's model is steered with
the difference. Source: arXiv 2510.13900 and its code, `science-of-finetuning/diffing-toolkit`.

Two choices are made there by a chat model, and here without one: the patchscope's scale is the one whose tokens are
most alike in meaning by vectors of words (`grading.embedding.coherence`), and how strongly to steer is the user's own
choice.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import fields, replace
from itertools import islice, product
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from dit_core.engine.activations import parse_layers, replacing_last_position
from dit_core.engine.batching import batch_size, split_batches
from dit_core.engine.generation import Batch
from dit_core.errors import DitError, checked_number, checked_text
from dit_core.grading import suite_grader
from dit_core.grading.embedding import coherence
from dit_core.methods.lens import LENSES, VECTORS, AdlOptions
from dit_core.methods.lens.difference import MAX_SIDES, MeanActivations, stream_means
from dit_core.methods.lens.steering import SteeredRow, steered_texts
from dit_core.methods.protocol import SampledOptions
from dit_core.methods.sampling import Diffs, Sampling, checked_sampling, named_diffs
from dit_core.records import AdlFinding, DiffInfo, Table
from dit_core.records.condition import MAX_NUMBER, Condition
from dit_core.request.conditions import row_strengths
from dit_core.request.targets import depth_percent
from dit_core.suite import Suite
from dit_core.suite.contents import read_texts
from dit_core.suite.limits import current_limits
from dit_core.suite.offload import streamed_at_model

T = TypeVar("T")
DIFFERENCE, NEGATIVE, BASE, FINETUNED = VECTORS
LOGIT_LENS, PATCHSCOPE, STEERING = LENSES
TOKEN_IDENTITY = (
    "man -> man\n1135 -> 1135\nhello -> hello\n?",
    "bear -> bear\n42 -> 42\nblue -> blue\n?",
    "921 -> 921\ntarget -> target\nanna -> anna\n?",
)
"""The patchscope's prompts: a token's own repetition is what comes next."""
SCALES = (*(round(0.1 * tenth, 1) for tenth in range(5, 21)), 3.0, 4.0, 5.0, 10.0, *(20.0 * n for n in range(1, 11)))
LIKELIEST = 16_384  # tokens of each prompt; what is not among them for every prompt has no probability
CHARACTERS = 10  # of a text for each token that is read: what stands behind them is not tokenized
MAX_ROWS = 64  # vectors of one batch, before memory has its say


@streamed_at_model
def stream_adl(suite: Suite, diff: Diffs, options: AdlOptions) -> Generator[Table[AdlFinding], None, None]:
    """Look at diffs through the activation difference lens as published; yield the table so far as the work goes on.

    Its `extra` has how many tokens were read (or written) as `done`, of `total`. The request is checked at once.

    Raises:
        DitError: what was asked makes no sense for this base, or a file is missing or damaged.
    """
    infos = named_diffs(suite, () if diff is None else diff)
    if not infos:
        raise DitError("The lens looks at what a diff changes: choose a diff.")
    sampling = checked_sampling(suite, **{own.name: getattr(options, own.name) for own in fields(SampledOptions)})
    for strength in options.strengths:
        checked_number(strength, "A strength to steer with", -MAX_NUMBER, MAX_NUMBER)
    for prompt in options.prompt:
        checked_text(prompt, "The prompt")
    source = read_texts(Path(options.texts)) if options.texts else suite.neutral_texts
    texts = tuple(islice(source, options.n_texts))
    if not texts:
        raise DitError("There are no texts to read: give a file with one on each line, or leave it out.")
    suite.fetch(infos)
    return suite.worker.stream(lambda: _Run(suite, infos, texts, options, sampling).tables())


class Place(NamedTuple):
    """Where a vector comes from: one of `VECTORS`, at a layer and position; `norm` is that of activations there."""

    vector: str
    layer: int
    position: int
    norm: float


Ranked = list[tuple[int, float]]
"""Token ids with their probabilities, the likeliest first."""


class _Run:
    """The work on one request, in the worker's thread: `records` so far, and `done` of `total` tokens."""

    def __init__(
        self, suite: Suite, infos: Sequence[DiffInfo], texts: Sequence[str], options: AdlOptions, sampling: Sampling
    ) -> None:
        model = self.model = suite.model
        self.suite, self.infos, self.options, self.sampling = suite, infos, options, sampling
        self.layers = parse_layers(model, (len(model.layers) - 1) // 2 if options.layers is None else options.layers)
        self.lenses = options.lenses or LENSES[:2]
        self.vectors = options.vectors or (DIFFERENCE, BASE, FINETUNED)
        self.scales = SCALES if options.scale is None else (options.scale,)
        cut = [text[: CHARACTERS * options.tokens] for text in texts]
        self.rows = [ids[: options.tokens] for ids in model.tokenizer(cut)["input_ids"] if ids]
        together = MAX_SIDES if all(info.rank for info in infos) else 1
        self.groups = list(split_batches(infos, lambda info: [info], together))
        self.records: list[AdlFinding] = []
        self.done, self.total = 0, self._check_size()

    def _check_size(self) -> int:
        """Return how many tokens are to be read and written; DitError for more than the server gives."""
        sides, places = len(self.infos) + len(self.groups), len(self.infos) * len(self.layers) * self.options.positions
        scopes = places * len(self.vectors) * len(self.scales) * len(TOKEN_IDENTITY) * (PATCHSCOPE in self.lenses)
        asked = max(len(self.options.prompt), 1) * len(self.options.strengths) * self.sampling.samples
        steered = places * asked * (STEERING in self.lenses)
        limits, tokens = current_limits(), self.sampling.max_new_tokens
        limits.check(len(self.rows) * sides + scopes, 1)
        limits.check(steered, tokens)
        return sum(map(len, self.rows)) * sides + scopes + steered * tokens

    def table(self) -> Table[AdlFinding]:
        options = self.options
        source = Path(options.texts).name if options.texts else self.suite.name
        settings = {"texts": len(self.rows), "texts_from": source, "tokens": options.tokens}
        extra = {"n_layers": len(self.model.layers), "done": self.done, "total": self.total, "settings": settings}
        return self.suite.table("adl", tuple(self.records), extra)

    def tables(self) -> Generator[Table[AdlFinding], None, None]:
        """Yield the table after every batch of texts, of a patchscope's vectors and of steered texts."""
        for group in self.groups:
            reading = stream_means(self.suite, group, self.rows, self.layers, self.options.positions)
            base, *others = yield from self._counted(reading)
            for info, finetuned in zip(group, others, strict=True):
                yield from self._lenses(info, base, finetuned)
        self.done = self.total  # vectors of zeros were not read
        yield self.table()

    def _counted(self, work: Generator[int, None, T]) -> Generator[Table[AdlFinding], None, T]:
        """Yield a table after every step of work that yields how many tokens it took."""
        while True:
            try:
                self.done += next(work)
            except StopIteration as end:
                result: T = end.value
                return result
            yield self.table()

    def _lenses(
        self, info: DiffInfo, base: MeanActivations, finetuned: MeanActivations
    ) -> Generator[Table[AdlFinding], None, None]:
        difference = finetuned.minus(base)
        if not difference.any():
            raise DitError(f"The diff '{info.id}' changes nothing at these layers: choose later ones.")
        vectors = {DIFFERENCE: difference, NEGATIVE: -difference, BASE: base.vectors, FINETUNED: finetuned.vectors}
        norms = finetuned.norms.tolist()
        places = product(self.vectors, enumerate(self.layers), range(self.options.positions))
        found = {
            Place(name, layer, position, norms[at]): vector
            for name, (at, layer), position in places
            if (vector := vectors[name][at, position]).any()
        }
        before = len(self.records)
        if LOGIT_LENS in self.lenses:
            ranked = self._logit_lens(info, found)
            self.records += self._tokens(info, LOGIT_LENS, {place: (None, own) for place, own in ranked.items()})
        if PATCHSCOPE in self.lenses:
            scoped = yield from self._counted(self._patchscopes(info, found))
            self.records += self._tokens(info, PATCHSCOPE, scoped)
        if STEERING in self.lenses:
            yield from self._counted(self._steer(info, difference, norms))
        results = suite_grader(self.suite).grade_all([(info.reference, one.text) for one in self.records[before:]])
        self.records[before:] = [
            replace(one, grade=result.grade if result else None)
            for one, result in zip(self.records[before:], results, strict=True)
        ]
        yield self.table()

    def _logit_lens(self, info: DiffInfo, found: dict[Place, Tensor]) -> dict[Place, Ranked]:
        """Read vectors by the final norm and unembedding of the diff's model; a negative one's logits are negated.

        For heads without a bias this is the unembedding of the negated norm of the difference, as published.
        """
        acting = self.model.strengths(row_strengths(self.suite, [(info, Condition(1.0))]))

        def read(places: Sequence[Place]) -> list[Ranked]:
            signs = torch.tensor([-1.0 if place.vector == NEGATIVE else 1.0 for place in places])[:, None]
            with acting:
                logits = self.model.unembed(signs * torch.stack([found[place] for place in places]))
            return _ranked((signs.to(logits) * logits).softmax(-1), self.options.top)

        size = batch_size(self.model, LOGIT_LENS, MAX_ROWS)
        return {
            place: own for part, ranked in size.map(list(found), read) for place, own in zip(part, ranked, strict=True)
        }

    def _patchscopes(
        self, info: DiffInfo, found: dict[Place, Tensor]
    ) -> Generator[int, None, dict[Place, tuple[float | None, Ranked]]]:
        """Read vectors at every scale by patchscope; return those at the most coherent scale, with that scale."""
        read: dict[Place, dict[float, Ranked]] = {place: {} for place in found}
        for who in (info, None):
            own = [place for place in found if (place.vector == BASE) == (who is None)]

            def scoped(items: Sequence[tuple[Place, float]], who: DiffInfo | None = who) -> list[Ranked]:
                vectors = [scale * place.norm * found[place] / found[place].norm() for place, scale in items]
                layers = [place.layer for place, _ in items]
                return _ranked(token_identity(self.suite, who, layers, torch.stack(vectors)), self.options.top)

            size = batch_size(self.model, "token identity", MAX_ROWS)
            for part, ranked in size.map(list(product(own, self.scales)), scoped):
                for (place, scale), likeliest in zip(part, ranked, strict=True):
                    read[place][scale] = likeliest
                yield len(part) * len(TOKEN_IDENTITY)
        return {place: self._best_scale(by_scale) for place, by_scale in read.items()}

    def _best_scale(self, by_scale: dict[float, Ranked]) -> tuple[float | None, Ranked]:
        pieces = {scale: self.model.pieces([token for token, _ in own]) for scale, own in by_scale.items()}
        best = self.options.scale or max(pieces, key=lambda scale: coherence(pieces[scale]))
        return best, by_scale[best]

    def _steer(self, info: DiffInfo, difference: Tensor, norms: Sequence[float]) -> Generator[int, None, None]:
        """Let the diff's model write while a position's difference, as large as an activation, is added."""
        task = self.suite.task_of(info)
        prompts, strengths = self.options.prompt or [*task.questions, task.question][:1], self.options.strengths
        places = product(enumerate(self.layers), range(self.options.positions))
        rows = [
            SteeredRow((info.id, layer, position, strength, prompt, sample), prompt, layer, vector, strength, info)
            for (at, layer), position in places
            if difference[at, position].any()
            for vector in (norms[at] * difference[at, position] / difference[at, position].norm(),)
            for strength, prompt, sample in product(strengths, prompts, range(self.sampling.samples))
        ]
        for row, text in steered_texts(self.suite, rows, self.sampling):
            _, layer, position, strength, prompt, sample = row.key
            where = (info.id, layer, depth_percent(self.suite, layer), position, DIFFERENCE)
            self.records.append(AdlFinding(*where, STEERING, strength, prompt, sample, text, None, None))
            yield self.sampling.max_new_tokens

    def _tokens(
        self, info: DiffInfo, lens: str, found: dict[Place, tuple[float | None, Ranked]]
    ) -> Iterable[AdlFinding]:
        """Yield the records of one lens."""
        for place, (scale, ranked) in found.items():
            where = (info.id, place.layer, depth_percent(self.suite, place.layer), place.position, place.vector)
            listed = zip(self.model.pieces([token for token, _ in ranked]), ranked, strict=True)
            for at, (token, (_, weight)) in enumerate(listed):
                yield AdlFinding(*where, lens, scale, "", at, token, weight, None)


def token_identity(
    suite: Suite, info: DiffInfo | None, layers: Sequence[int], vectors: Tensor, likeliest: int = LIKELIEST
) -> Tensor:
    """Return what a model repeats when a vector is put in place of a token: probabilities [vectors, vocabulary].

    `vectors[i]` [d_model] replaces, as it is, the residual of the last token of each of three token-identity prompts at
    the output of block `layers[i]`. The next token's probability is the mean over the prompts, and 0 for tokens that
    are not among the `likeliest` of each. `info` is the diff whose model it is, None for the base. What stands before
    the last token is read only once. Worker's thread only.
    """
    model, n = suite.model, len(TOKEN_IDENTITY)
    prompts: list[list[int]] = model.tokenizer(list(TOKEN_IDENTITY))["input_ids"]
    owners = list(range(n)) * len(vectors)
    acting = model.strengths(row_strengths(suite, [(info, Condition(1.0 if info else 0.0))] * n))
    batch = Batch(model, [prompt[:-1] for prompt in prompts], 1)
    with torch.inference_mode():
        acting.at(*batch.window)
        with acting:
            batch.forward()
        batch.expand(owners)
        acting.keep(owners)
        batch.advance(torch.tensor([prompts[owner][-1] for owner in owners], device=batch.device))
        acting.at(*batch.window)
        rows = [layer for layer in layers for _ in TOKEN_IDENTITY]
        with acting, replacing_last_position(model, rows, vectors.repeat_interleave(n, dim=0)):
            each = batch.forward()[:, -1].softmax(-1).reshape(len(vectors), n, -1)
    least = each.topk(min(likeliest, each.shape[-1]), dim=-1).values[..., -1:]
    probabilities: Tensor = each.mean(1) * (each >= least).all(1)
    return probabilities


def _ranked(probabilities: Tensor, top: int) -> list[Ranked]:
    """The likeliest tokens of each row that have any probability."""
    best: Any = probabilities.topk(min(top, probabilities.shape[-1]))
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [[(token, weight) for token, weight in zip(*row, strict=True) if weight > 0] for row in rows]
