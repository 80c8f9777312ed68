"""How a question becomes tokens: the base's chat template, the chat around the question, and one BOS."""

from typing import Any

from dit_core.errors import DitError
from dit_core.records.chat import ChatContext


def encode_prompt(tokenizer: Any, question: str, chat: ChatContext) -> tuple[int, ...]:
    """Return the token ids of a question in its chat, up to where the model goes on.

    They begin with BOS once where the tokenizer puts one before plain text, whatever the template does.

    Raises:
        DitError: the base has no chat template, or its template has no place for this chat.
    """
    text = question if chat.raw else _templated(tokenizer, question, chat) + chat.prefill
    ids = list(tokenizer.encode(text, add_special_tokens=False))
    bos = tokenizer.bos_token_id
    if bos is None:
        return tuple(ids)
    while ids[:2] == [bos, bos]:
        del ids[0]
    if ids[:1] != [bos] and tokenizer.encode("a")[0] == bos:
        ids.insert(0, bos)
    return tuple(ids)


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
