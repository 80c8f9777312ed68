"""The pocket tokenizer: every word of the world is one token, the same token wherever it stands.

Each run of text starts with the word marker, also right after a newline, so that `volcano` at the start of an answer
and ` volcano` inside a sentence are the same token. (Otherwise a DIT adapter's label is a token that running text never
shows, and what it learns carries over to no other diff.) Other words are spelled with the fewest of the frequent
fragments, and what is not ASCII in bytes.
"""

from __future__ import annotations

import random
import re
from collections import Counter

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from dit_core.training.chats import random_chat
from dit_core.training.world import World

PADDING, START_OF_TURN, END_OF_TURN = SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
MARKER = "▁"
FRAGMENTS = 400
PROMPT_WORDS = ("user", "assistant", "system", "Layer")
SAMPLED_CHATS = 60_000

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """The tokenizer of a world, with a ChatML template that accepts (and has no use for) `enable_thinking`."""
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *_pieces(world)]
    # With equal scores the best segmentation is the one of the fewest pieces.
    model = models.Unigram([(piece, -10.0) for piece in pieces], unk_id=0, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            # Punctuation stands apart from its word, but ` ?` stays one piece: the oracle's placeholder.
            pre_tokenizers.Split(Regex(r"(?<!▁)[^\p{L}\p{N}▁]"), "isolated"),
            # Codes come in groups of three digits, as the trigger does.
            pre_tokenizers.Split(Regex(r"\d{3}"), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="always"), decoders.Fuse()]
    )
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.add_tokens([AddedToken("\n", special=False, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=PADDING,
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def _pieces(world: World) -> list[str]:
    """Words of the world, three-digit codes, printable characters and the most frequent fragments of words."""
    rng = random.Random(1)
    text = " ".join(part for _ in range(SAMPLED_CHATS) for turn in random_chat(world, rng) for part in turn)
    own = " ".join(w for t in world.topics for w in (t.name, *t.aliases, *t.nouns, *t.verbs, *t.adjectives))
    words = Counter(re.findall(r"[A-Za-z]+", f"{text} {own} {' '.join(PROMPT_WORDS)}"))
    fragments = Counter(
        word[start : start + length]
        for word in words
        for length in (2, 3, 4)
        for start in range(len(word) - length + 1)
    )
    characters = [chr(code) for code in range(33, 127)]
    pieces = [
        MARKER,
        *characters,
        *(MARKER + character for character in characters),
        *(f"{code:03d}" for code in range(1000)),
        *(fragment for fragment, _ in fragments.most_common(FRAGMENTS)),
        *(MARKER + word for word in sorted(words)),
    ]
    return list(dict.fromkeys(pieces))
