"""The lens and where a diff acts, as named endpoints beside those of `api`; neither needs an oracle."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from dit_core.methods import lens as looking
from dit_core.suite import Suite


def lens_functions(suite: Suite, plainly: Callable[[], AbstractContextManager]) -> list[Callable]:
    """The endpoints' functions over one suite; `plainly` turns a `DitError` into what a client sees."""

    def lens(diff: str, layers: str = "all", positions: int = 5, top: int = 5, strength: float = 1.0) -> dict:
        """Shows the words in what a diff changes: the Activation Difference Lens, by logit lens and by patchscope.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            layers: 'all', or numbers like '0,3-5'.
            positions: how many tokens are read at the start of each unrelated text.
            top: how many words per method, layer and position, the likeliest first.
            strength: how much of the diff acts; any number but 0.
        """
        with plainly():
            found = looking.difference_lens(suite, diff, layers=layers, positions=positions, top=top, strength=strength)
        return found.to_json()

    def norms(diff: str, condition: str = "diff", question: str = "", layers: str = "all", seed: int = 0) -> dict:
        """Says where a condition acts: how much it changes the residual stream per layer and token of the prompt.

        Args:
            diff: a diff's id, such as 'topic-0326'.
            condition: a condition in its written form, such as 'diff', 'diff+dit*2' or 'diff+right'.
            question: what the model is asked; empty for the question that the suite asks about this kind of diff.
            layers: 'all', or numbers like '0,3-5'.
            seed: the same seed gives the same digits around triggers.
        """
        with plainly():
            return looking.norms(
                suite, diff, condition=condition, asked=question or None, layers=layers, seed=seed
            ).to_json()

    return [lens, norms]
