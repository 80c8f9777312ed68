"""How likely an oracle finds texts as its answer to what it reads, without generating."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Unpack

import torch

from dit_core.engine.activations import checked_layers
from dit_core.engine.batching import batch_size
from dit_core.engine.likelihood import choice_log_probabilities
from dit_core.methods.oracle.batch import Row, injection, rows_of
from dit_core.methods.oracle.stream import Options, Request, request
from dit_core.methods.verbalize import Diffs
from dit_core.suite import Suite
from dit_core.suite.offload import at_model

MAX_ROWS = 256  # of one batch of texts, before memory has its say
Key = tuple[str, str, int, str]


@at_model
def log_probs(
    suite: Suite, diff: Diffs, texts: Mapping[tuple[str, int], Sequence[str]], **options: Unpack[Options]
) -> dict[Key, float]:
    """Log-probability in nats of a whole text as the oracle's answer, by (diff, condition, layer, text).

    `texts` are by (diff's id, layer); what has none is not read, and an empty text has no probability. Options are as
    in `read`, with one span and one question.
    """
    wanted = replace(request(suite, diff, **options), samples=1)

    def found() -> dict[Key, float]:
        slot = suite.hold_oracle(wanted.oracle)
        rows = [
            (row, text, tokens)
            for row in rows_of(wanted, checked_layers(suite.model, wanted.layers))
            for text in texts.get((row.aim.info.id, row.layer), ())
            if (tokens := suite.model.tokenizer.encode(text, add_special_tokens=False))
        ]
        size = batch_size(suite.model, "likelihoods", MAX_ROWS)
        done = size.over(rows, lambda part: scored(wanted, slot, [row for row, *_ in part], [[one[2]] for one in part]))
        return {
            (row.aim.info.id, str(row.aim.condition), row.layer, text): sum(own[0])
            for part, scores in done
            for (row, text, _), own in zip(part, scores, strict=True)
        }

    return suite.worker.run(found)


def scored(
    wanted: Request, slot: str, rows: Sequence[Row], choices: Sequence[Sequence[Sequence[int]]]
) -> list[list[list[float]]]:
    """Per row and choice (token ids), the log-probability of each of its tokens. Worker's thread only."""
    return choice_log_probabilities(
        wanted.suite.model,
        [row.ids for row in rows],
        choices,
        {slot: torch.ones(len(rows), 1, 1)},
        prefill=injection(wanted, rows),
    )
