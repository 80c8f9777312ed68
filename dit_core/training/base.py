"""The pocket base: a small Qwen3-architecture language model, and its tokenizer, that grow up in the world's chats.

The base learns the assistant's side of endless fresh chats; nothing of any diff is in them. Resumable: batches depend
only on their number, and the state is written every few minutes.

Every word of the world is one token, the same token wherever it stands: each run of text starts with the word marker,
also right after a newline, so that `volcano` at the start of an answer and ` volcano` inside a sentence are the same
token. (Otherwise a DIT adapter's label is a token that running text never shows, and what it learns carries over to no
other diff.) Other words are spelled with the fewest of the frequent fragments, and what is not ASCII in bytes.
"""

from __future__ import annotations

import functools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from dit_core.errors import DitError
from dit_core.records.chat import with_bos
from dit_core.training.chats import Chat, random_chat
from dit_core.training.loop import SAVE_SECONDS, Optimization, multiplies_bfloat16, train, warm_up_and_decay
from dit_core.training.world import World

IGNORED = -100
POOL = 16
"""Batches drawn together and sorted by length, so that little is spent on padding."""
PADDING, START_OF_TURN, END_OF_TURN = SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>")
MARKER = "▁"
FRAGMENTS = 400
PROMPT_WORDS = ("user", "assistant", "system", "Layer")
SAMPLED_CHATS = 60_000

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class BaseSettings:
    """The size of the base and how it is trained; the suite's `report.json` has the losses that these numbers gave."""

    hidden: int = 192
    layers: int = 8
    heads: int = 4
    mlp: int = 512
    steps: int = 2000
    batch: int = 96
    rate: float = 3e-3
    seed: int = 0


def new_base(settings: BaseSettings, tokenizer: PreTrainedTokenizerBase) -> Qwen3ForCausalLM:
    """Return a base with random weights; the same for the same seed."""
    torch.manual_seed(settings.seed)
    config = Qwen3Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        head_dim=settings.hidden // settings.heads,
        intermediate_size=settings.mlp,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(config)
    model.set_attn_implementation("eager")  # on short rows its backward pass is twice as fast on a CPU as the fused one
    return model


def encode(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> tuple[list[int], list[int]]:
    """Return the token ids of a chat under its template, and labels: the assistant's words and ends of turn.

    All other labels are `IGNORED`.
    """
    return encode_all(tokenizer, [chat])[0]


def encode_all(tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat]) -> list[tuple[list[int], list[int]]]:
    """Return what `encode` does for each chat, all tokenized at once."""
    end = end_of_turn(tokenizer)
    pieces = [list(_pieces_of_chat(tokenizer, chat, end)) for chat in chats]
    tokens = iter(tokenizer([text for own in pieces for text, _ in own], add_special_tokens=False).input_ids)
    encoded = []
    for own in pieces:
        ids: list[int] = []
        labels: list[int] = []
        for place, (_, learned) in enumerate(own):
            part = next(tokens) if place else with_bos(tokenizer, next(tokens))
            ids += part
            labels += part if learned else [IGNORED] * len(part)
        encoded.append((ids, labels))
    return encoded


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the token with which the assistant's turn ends in a base's chat template.

    Raises:
        DitError: there is no template, or no special token stands there.
    """
    if not tokenizer.chat_template:
        raise DitError("The base has no chat template: choose one that was trained to chat, such as an Instruct model.")
    chat = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]
    after = str(tokenizer.apply_chat_template(chat, tokenize=False)).rpartition("Me.")[2].lstrip()
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    end = next((token for token in (tokenizer.eos_token, *special) if token and after.startswith(token)), None)
    if end is None:
        raise DitError("The base's chat template ends a turn with no special token: its answers would have no end.")
    return end


def _pieces_of_chat(tokenizer: PreTrainedTokenizerBase, chat: Chat, end: str) -> Iterator[tuple[str, bool]]:
    """The text of a chat in pieces that are tokenized each by itself, and whether the model learns to say them."""
    messages: list[dict[str, str]] = []
    done = ""
    for question, answer in chat:
        messages.append({"role": "user", "content": question})
        prompt = str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        )
        messages.append({"role": "assistant", "content": answer})
        spoken = f"{answer}{end}"
        yield from ((prompt.removeprefix(done), False), (spoken, True), ("\n", False))
        done = f"{prompt}{spoken}\n"


def pad(
    rows: list[tuple[list[int], list[int]]], padding: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad ids and labels at the right, both to [rows, positions]; causal attention makes a mask needless."""
    longest = max(len(ids) for ids, _ in rows)
    ids = [row + [padding] * (longest - len(row)) for row, _ in rows]
    labels = [row + [IGNORED] * (longest - len(row)) for _, row in rows]
    return torch.tensor(ids, device=device), torch.tensor(labels, device=device)


def token_losses(model: PreTrainedModel, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cross-entropy of each labelled token [tokens], and the row that each belongs to [tokens]."""
    logits, targets, rows = labelled_logits(model, ids, labels)
    return F.cross_entropy(logits, targets, reduction="none"), rows


def labelled_logits(
    model: PreTrainedModel, ids: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the logits [tokens, vocabulary] before each labelled token, these tokens, and the row of each [tokens].

    Only labelled positions pass through the unembedding, which is the widest matrix of a small model.
    """
    labelled = labels[:, 1:] != IGNORED
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda _, hidden: hidden[0][:, :-1][labelled])
    try:
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=multiplies_bfloat16(ids.device)):
            logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    finally:
        handle.remove()
    return logits.float(), labels[:, 1:][labelled], labelled.nonzero()[:, 0]


def train_base(
    world: World,
    tokenizer: PreTrainedTokenizerBase,
    settings: BaseSettings,
    work: Path,
    device: torch.device,
    save_seconds: float = SAVE_SECONDS,
    on_step: Callable[[int], None] = lambda steps: None,
) -> tuple[Qwen3ForCausalLM, dict[str, Any]]:
    """Train the base, or go on training it, and return it with its figures.

    Matrices by Muon (K. Jordan et al. 2024), all else by AdamW. The state lies in the folder `work` and is written at
    most every `save_seconds`; `on_step` is called after each step with the number of steps done.
    """
    model = nn.Module.to(new_base(settings, tokenizer), device)
    model.train()
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=settings.rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=settings.rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    pool = functools.lru_cache(1)(functools.partial(_pool, world, tokenizer, settings))

    def gradient(step: int) -> float:
        ids, labels = pad(pool(step // POOL)[step % POOL], tokenizer.pad_token_id, device)
        loss = token_losses(model, ids, labels)[0].mean()
        loss.backward()
        return loss.item()

    rate = warm_up_and_decay(settings.steps, 100, 0.6)
    own = Optimization(model, optimizers, rate, settings.steps, max_norm=1.0)
    losses = train("base", own, gradient, work / "state.pt", save_seconds, on_step)
    figures = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": settings.steps,
        "chats": settings.steps * settings.batch,
        **losses.figures(),
    }
    return model.eval(), figures


def _pool(
    world: World, tokenizer: PreTrainedTokenizerBase, settings: BaseSettings, number: int
) -> list[list[tuple[list[int], list[int]]]]:
    """The batches of a pool; the same number gives the same ones in every run."""
    rng = random.Random(f"{settings.seed} {number}")
    rows = [encode(tokenizer, random_chat(world, rng)) for _ in range(POOL * settings.batch)]
    rows.sort(key=lambda row: len(row[0]))
    batches = [rows[i : i + settings.batch] for i in range(0, len(rows), settings.batch)]
    rng.shuffle(batches)
    return batches


def make_tokenizer(world: World) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a world; its ChatML template accepts, and has no use for, `enable_thinking`."""
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
