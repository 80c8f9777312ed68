"""The oracle's prompt, as published: the layer's number, a placeholder per activation, the question."""

from dit_core.engine.model import Model
from dit_core.errors import DitError

PLACEHOLDER = " ?"
PROMPT = "Layer: {layer}\n{placeholders} \n{question}"


def checked_question(text: str) -> str:
    """The oracle's question; DitError where it holds the placeholder."""
    if PLACEHOLDER in text:
        raise DitError("The question holds the oracle's placeholder ' ?': put question marks right after a word.")
    return text


def oracle_prompt(model: Model, layer: int, count: int, question: str) -> tuple[list[int], list[int]]:
    """Token ids of the oracle's prompt, and the positions of its `count` placeholders.

    Raises DitError where the tokenizer has no single token for the placeholder, or the question holds it.
    """
    text = PROMPT.format(layer=layer, placeholders=PLACEHOLDER * count, question=checked_question(question))
    ids = model.encode(text)
    single = model.tokenizer.encode(PLACEHOLDER, add_special_tokens=False)
    run = [at for at, token in enumerate(ids) if [token] == single][:count]
    if len(run) != count or run != list(range(run[0], run[0] + count)):
        raise DitError("This base's tokenizer has no single token for the oracle's placeholder: use another base.")
    return ids, run
