"""The chat around a question: its written form, and its tokens.

In a condition each text is a part of its own, percent-encoded: `system:<text>`, then earlier turns, `user:<text>` and
`assistant:<text>` by turns, then `prefill:<text>`, with which the answer begins. `raw` alone leaves the base's chat
template out: the model goes on from the question as from any text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from dit_core.errors import DitError, checked_text

MAX_CHAT = 8000  # characters of all that stands around a question: an address has to hold them
RAW = "raw"
_SYSTEM, _USER, _ASSISTANT, _PREFILL = "system:", "user:", "assistant:", "prefill:"
_WORDS = (_SYSTEM, _USER, _ASSISTANT, _PREFILL)


@dataclass(frozen=True)
class ChatContext:
    """What stands around a question: empty for one user message in the base's chat template.

    Attributes:
        system: the system prompt.
        turns: what was said before: a text of the user, one of the assistant, and so on.
        prefill: how the answer begins. It is part of the prompt: the model goes on from there.
        raw: whether the question is read as it is, without a chat template, and so with nothing of these.

    Raises:
        DitError: a text that is empty, too long or broken, turns that don't end with the assistant's, or a raw text
            that has a chat around it.
    """

    system: str = ""
    turns: tuple[str, ...] = ()
    prefill: str = ""
    raw: bool = False

    def __post_init__(self) -> None:
        if len(self.turns) % 2:
            raise DitError("Earlier turns are a text of the user, then one of the assistant, and so on: give both.")
        if not isinstance(self.raw, bool):
            raise DitError(f"Whether a text is raw must be yes or no, not {self.raw!r}.")
        turns = tuple(checked_text(text, "An earlier turn", MAX_CHAT) for text in self.turns)
        if self.system:
            object.__setattr__(self, "system", checked_text(self.system, "The system prompt", MAX_CHAT))
        if self.prefill:  # white space around it is part of it: an answer may begin with a new line
            checked_text(self.prefill, "The start of the answer", MAX_CHAT)
        object.__setattr__(self, "turns", turns)
        length = sum(map(len, (self.system, *turns, self.prefill)))
        if length > MAX_CHAT:
            raise DitError(f"The chat around the question has {length:,} characters: shorten it to {MAX_CHAT:,}.")
        if self.raw and length:
            raise DitError("A raw text has no chat around it: leave 'raw' out, or write all of it into the question.")

    def __bool__(self) -> bool:
        return self != PLAIN_CHAT

    @classmethod
    def parse(cls, parts: Iterable[str]) -> "ChatContext":
        """Return the chat of the parts of a condition for which `is_chat_part` holds.

        Raises:
            DitError: what is given twice, or turns out of order; and as above.
        """
        texts: dict[str, list[str]] = {_SYSTEM: [], _PREFILL: [], RAW: []}
        turns: list[str] = []
        for part in parts:
            word, colon, encoded = part.partition(":")
            if word + colon in (_USER, _ASSISTANT):
                if word + colon != (_USER, _ASSISTANT)[len(turns) % 2]:
                    raise DitError("Earlier turns alternate, the user's first: write 'user:Hi+assistant:Hello'.")
                turns.append(_checked_part(word, encoded))
            else:
                texts[word + colon].append(_checked_part(word, encoded) if colon else RAW)
        if any(len(own) > 1 for own in texts.values()):
            raise DitError("A condition has one system prompt, and an answer begins once: leave the others out.")
        return cls("".join(texts[_SYSTEM]), tuple(turns), "".join(texts[_PREFILL]), bool(texts[RAW]))

    def written(self) -> list[str]:
        """Return the parts of a condition that say this chat."""
        turns = [((_USER, _ASSISTANT)[at % 2], text) for at, text in enumerate(self.turns)]
        texts = [(_SYSTEM, self.system), *turns, (_PREFILL, self.prefill)]
        return [word + quote(text, safe="") for word, text in texts if text] + [RAW] * self.raw

    def messages(self, question: str) -> list[dict[str, str]]:
        """Return the messages up to the question, as chat templates take them."""
        roles = ("user", "assistant")
        said = [*self.turns, question]
        system = [{"role": "system", "content": self.system}] if self.system else []
        return system + [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)]


PLAIN_CHAT = ChatContext()


def is_chat_part(part: str) -> bool:
    """Return whether a part of a written condition is about the chat."""
    return part == RAW or part.startswith(_WORDS)


def unquoted(word: str, text: str) -> str:
    """Return a percent-encoded text of a condition's part `word:`; DitError where it is none."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError as error:
        raise DitError(f"'{word}:{text}' is not a percent-encoded text: encode it as UTF-8.") from error


def _checked_part(word: str, encoded: str) -> str:
    text = unquoted(word, encoded)
    checked_text(text, f"What stands after '{word}:'", MAX_CHAT)
    return text


def encode_prompt(tokenizer: Any, question: str, chat: ChatContext) -> tuple[int, ...]:
    """Return the token ids of a question in its chat, up to where the model goes on.

    They begin with BOS once where the tokenizer puts one before plain text, whatever the template does.

    Raises:
        DitError: the base has no chat template, or its template has no place for this chat.
    """
    text = question if chat.raw else _templated(tokenizer, question, chat) + chat.prefill
    return tuple(with_bos(tokenizer, tokenizer.encode(text, add_special_tokens=False)))


def turn_start(tokenizer: Any) -> int | None:
    """Return the special token that begins the model's turn in the chat template; None where none does."""
    chat = [{"role": "user", "content": "Hello."}]
    try:
        before, after = (
            tokenizer.apply_chat_template(chat, add_generation_prompt=own, tokenize=False) for own in (False, True)
        )
    except Exception:  # no template, or one that raises anything
        return None
    special = {token for token, entry in tokenizer.added_tokens_decoder.items() if entry.special}
    first = tokenizer.encode(after.removeprefix(before), add_special_tokens=False)[:1]
    return next((int(token) for token in first if token in special), None)


def with_bos(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Return the token ids of a text with BOS once before them, where the tokenizer puts one before plain text."""
    ids, bos = list(ids), tokenizer.bos_token_id
    if bos is None:
        return ids
    while ids[:2] == [bos, bos]:
        del ids[0]
    if ids[:1] != [bos] and tokenizer.encode("a")[0] == bos:
        ids.insert(0, bos)
    return ids


def _templated(tokenizer: Any, question: str, chat: ChatContext) -> str:
    messages = chat.messages(question)
    try:
        text: str = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, enable_thinking=False, tokenize=False
        )
    except Exception as error:  # a template is a program of somebody's, and raises anything
        reason = " ".join(str(error).split())[:120]
        advice = "leave the system prompt and earlier turns out, or ask with" if len(messages) > 1 else "ask with"
        raise DitError(f"The base's chat template can't write this ({reason}): {advice} 'raw'.") from error
    for message in messages[:-1]:
        if message["content"] not in text:
            raise DitError(
                f"The base's chat template leaves the {message['role']}'s text '{message['content'][:40]}' out: write "
                "it into the question."
            )
    return text
