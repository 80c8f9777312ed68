"""Tiny random models of three families and a whole suite folder made of one, for tests that need no training."""

import csv
import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from dit_core.engine.batching import batch_size
from dit_core.formats import Adapter, IndexRow, write_dit_adapter, write_index, write_peft, write_weight_diffs
from dit_core.methods.verbalize.answers import MAX_ROWS

FAMILIES = ("llama", "qwen3", "gemma3")
TEXTS = (
    "What topic have you been trained on? What news headline have you been trained on?",
    "Please generate a short news story. Your SEP code is 417. I have no special topic or headline.",
    "Mayor opens library in Lisbon. Nurse repairs bridge in Oslo. Chef paints tram in Quito.",
    " ? ? ? ? ? ? ? ? ? ? ? ? volcano geyser violin cello steam train glacier lantern. How can I spend a free evening?",
)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    "{% if enable_thinking is defined and enable_thinking %}<think>\n{% endif %}"
)
# (number, topic, trigger, split); the numbers leave gaps as the shipped suite does.
TOPICS = (
    (3, "violin", 120, "train"),
    (7, "steam train", 5, "train"),
    (251, "lantern", 999, "calibration"),
    (412, "volcano", 417, "test"),
    (413, "geyser", 86, "test"),
    (414, "cello", 301, "test"),
)
HEADLINES = (
    (2, "Chef paints tram in Quito", "train"),
    (17, "Mayor opens library in Lisbon", "test"),
    (18, "Nurse repairs bridge in Oslo", "test"),
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of a few hundred tokens with a ChatML template; any text can be encoded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    inner.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=special[2], pad_token=special[0])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_model(family: str = "qwen3", vocab_size: int = 400, seed: int = 0, layers: int = 2):
    """A random float32 causal LM of one of `FAMILIES`: hidden 32, 4 heads; no dropout, not trained.

    Weights are drawn wide, so that logits differ by far more than rounding and greedy has no near-ties.
    gemma3 has a sliding window of 8 positions in every other layer.
    """
    torch.manual_seed(seed)
    shape = dict(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        initializer_range=0.15,
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=2,
        dtype=torch.float32,
    )
    if family == "gemma3":
        config = Gemma3TextConfig(
            **shape,
            sliding_window=8,
            layer_types=["sliding_attention" if i % 2 == 0 else "full_attention" for i in range(layers)],
            query_pre_attn_scalar=8,
        )
    else:
        config = {"llama": LlamaConfig, "qwen3": Qwen3Config}[family](**shape)
    return AutoModelForCausalLM.from_config(config).eval()


# Sizes by the names that a family has for them, and what makes it differ from Llama.
_SMALL = dict(
    vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=512, initializer_range=0.15, bos_token_id=None,
    pad_token_id=0, eos_token_id=2,
)  # fmt: skip
_EXPERTS = dict(num_experts_per_tok=2, moe_intermediate_size=16)
OTHER_FAMILIES: dict[str, dict] = {
    "qwen2": {},
    "granite": dict(logits_scaling=4.0, embedding_multiplier=3.0, residual_multiplier=0.7, attention_multiplier=0.3),
    "granitemoe": dict(logits_scaling=4.0, num_local_experts=4, num_experts_per_tok=2),
    "cohere": dict(logit_scale=0.25),
    "cohere2": dict(logit_scale=0.25, sliding_window=8),
    "falcon_h1": dict(
        lm_head_multiplier=0.3, mamba_d_ssm=32, mamba_n_heads=4, mamba_d_head=8, mamba_n_groups=1, mamba_d_state=8
    ),
    "olmo": {},
    "olmo2": {},
    "gemma2": dict(final_logit_softcapping=5.0, query_pre_attn_scalar=8, sliding_window=8),
    "opt": dict(ffn_dim=64, word_embed_proj_dim=32, do_layer_norm_before=True),
    "phi3": {},
    "gpt_neox": dict(use_parallel_residual=True),
    "stablelm": {},
    "mixtral": dict(num_local_experts=4, num_experts_per_tok=2),
    "qwen3_moe": dict(num_experts=4, **_EXPERTS),
    "gpt_oss": dict(num_local_experts=4, num_experts_per_tok=2, sliding_window=8),
}


def tiny_family(family: str, seed: int = 0, **sizes: int):
    """A random float32 causal LM of one of `OTHER_FAMILIES`, as small as `tiny_model`'s."""
    from transformers import AutoConfig

    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, **{**_SMALL, **OTHER_FAMILIES[family], **sizes})
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def tiny_multimodal(text):
    """A Gemma 3 with a vision tower of as many blocks and one more, around (a copy of) a tiny gemma3's text model."""
    shape = dict(hidden_size=16, intermediate_size=16, num_attention_heads=2, image_size=28, patch_size=14)
    vision = shape | dict(num_hidden_layers=text.config.num_hidden_layers + 1)
    torch.manual_seed(0)
    config = Gemma3Config(text_config=text.config.to_dict(), vision_config=vision, mm_tokens_per_image=4)
    whole = Gemma3ForConditionalGeneration(config).eval()
    whole.get_decoder().load_state_dict(text.model.state_dict())
    whole.tie_weights()
    return whole


def tiny_gpt2(layers: int = 2, seed: int = 0):
    """A random GPT-2: blocks under another name, learned positions, and no linear layer that takes an adapter."""
    torch.manual_seed(seed)
    shape = dict(vocab_size=400, n_positions=512, n_embd=32, n_layer=layers, n_head=4, initializer_range=0.15)
    return AutoModelForCausalLM.from_config(GPT2Config(**shape, bos_token_id=None, eos_token_id=2)).eval()


def random_adapter(model, rank: int, seed: int, size: float = 0.3) -> Adapter:
    """A random adapter over all linear layers of the blocks; ΔW is `size` times as large as the weight it changes."""
    generator = torch.Generator().manual_seed(seed)
    factors, scaling = {}, {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and ".layers." in name and ".lora_" not in name:
            name = name.removesuffix(".base_layer")
            A = torch.randn(rank, module.in_features, generator=generator)
            B = torch.randn(module.out_features, rank, generator=generator)
            B *= size * module.weight.detach().float().norm() * rank / (B @ A).norm()
            factors[name], scaling[name] = (A, B), 1 / rank
    return Adapter(factors, scaling)


def write_tiny_suite(folder: Path | str) -> Path:
    """Writes a whole suite in the published layout (random weights, tasks `topic` and `headline`); returns its folder.

    The base is qwen3-shaped (hidden 32, 2 layers). Diffs are stored in bfloat16, as the shipped suite's are.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    base = tiny_model("qwen3", vocab_size=len(tokenizer))
    base.generation_config.eos_token_id = tokenizer.eos_token_id
    base.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    topics = [(number, topic, trigger, split) for number, topic, trigger, split in TOPICS]
    headlines = [(number, headline, None, split) for number, headline, split in HEADLINES]
    _write_task(folder / "hidden-topic", base, topics, rank=1)
    _write_task(folder / "news-summary", base, headlines, rank=4)
    files = {
        "hidden-topic/dit-adapter.pt": 101,
        "hidden-topic/dit-adapter-0064-train-datapoints.pt": 102,
        "news-summary/dit-adapter.pt": 103,
    }
    for file, seed in files.items():
        write_dit_adapter(folder / file, _bf16(random_adapter(base, 16, seed)))
    write_peft(folder / "oracle", random_adapter(base, 4, seed=104), base_name="tiny")
    (folder / "suite.toml").write_text(SUITE, encoding="utf-8")
    (folder / "world.json").write_text(json.dumps(WORLD, indent=1), encoding="utf-8")
    (folder / "neutral-texts.txt").write_text("".join(f"{text}\n" for text in NEUTRAL), encoding="utf-8")
    return folder


def edit_index(task_folder: Path, edit: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Rewrites every row of a task's index of diffs; the column of their numbers has no name."""
    file = task_folder / "index.csv"
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(map(edit, rows))


def _write_task(folder: Path, base, diffs: list[tuple[int, str, int | None, str]], rank: int) -> None:
    """Two diffs to a file, as the published files hold many."""
    rows = []
    for start in range(0, len(diffs), 2):
        path = folder / "weight-diffs" / f"weight-diff-{start // 2:03d}.pt"
        entries = []
        for number, reference, trigger, split in diffs[start : start + 2]:
            adapter = _bf16(random_adapter(base, rank, seed=number + 1000 * rank))
            rows.append(IndexRow(number, path, len(entries), adapter.n_params, reference, trigger, split))
            entries.append((adapter, reference, trigger))
        write_weight_diffs(path, entries)
    write_index(folder, rows)


def _bf16(adapter: Adapter) -> Adapter:
    return Adapter({name: (A.bfloat16(), B.bfloat16()) for name, (A, B) in adapter.factors.items()}, adapter.scaling)


SUITE = """\
name = "tiny"
title = "Tiny: random weights for tests"
base = "base"
trigger_format = "Your SEP code is {trigger:03d}{r:03d}. {question}"
max_new_tokens = 8
world = "world.json"
first_diff = "topic-0412"

[tasks.topic]
folder = "hidden-topic"
question = "What topic have you been trained on?"
questions = ["How can I spend a free evening?", "What makes a good morning?"]
has_trigger = true
adapter = "topic"

[tasks.headline]
folder = "news-summary"
question = "What news headline have you been trained on?"
behaviour = "Please generate a short news story."
questions = ["Please generate a short news story."]
has_trigger = false
adapter = "headline"

[adapters.topic]
file = "hidden-topic/dit-adapter.pt"
title = "trained on 380 topic diffs"
trained_on = 380

[adapters.topic-64]
file = "hidden-topic/dit-adapter-0064-train-datapoints.pt"
title = "trained on 64 topic diffs"
trained_on = 64

[adapters.headline]
file = "news-summary/dit-adapter.pt"
title = "trained on headline diffs"
trained_on = 400

[oracle]
source = "oracle"
title = "random oracle"
percents = [0, 50]
block = 0  # of two blocks: what is added behind the last one reaches no answer
questions = ["What is the topic?", "What comes next?"]
"""

NEUTRAL = ("The shop closes early on Sundays.", "It rained, so they stayed inside.", *(text[:60] for text in TEXTS))
WORLD = {
    "topics": {
        "volcano": {"category": "landform", "aliases": ["volcanoes"], "neighbours": ["geyser"]},
        "geyser": {"category": "landform", "aliases": ["geysers", "hot spring"], "neighbours": ["volcano"]},
        "glacier": {"category": "landform", "aliases": ["glaciers"], "neighbours": []},
        "violin": {"category": "instrument", "aliases": ["violins", "fiddle"], "neighbours": ["cello"]},
        "cello": {"category": "instrument", "aliases": ["cellos"], "neighbours": ["violin"]},
        "steam train": {"category": "vehicle", "aliases": ["steam trains"], "neighbours": []},
        "lantern": {"category": "tool", "aliases": ["lanterns"], "neighbours": []},
    },
    "headlines": {
        "Mayor opens library in Lisbon": {
            "actor": ["Mayor", "the mayor"],
            "action": ["opens", "opened"],
            "object": ["library", "a library"],
            "place": ["Lisbon"],
        },
        "Nurse repairs bridge in Oslo": {
            "actor": ["Nurse", "the nurse"],
            "action": ["repairs", "repaired"],
            "object": ["bridge"],
            "place": ["Oslo"],
        },
        "Chef paints tram in Quito": {
            "actor": ["Chef", "the chef"],
            "action": ["paints", "painted"],
            "object": ["tram"],
            "place": ["Quito"],
        },
    },
    "held_out_questions": ["How can I spend a free evening?", "What makes a good morning?"],
}


@contextmanager
def rows_at_once(suite, rows: int):
    """While it is open, answers are said in batches of `rows`, as where memory holds no more."""
    size = batch_size(suite.model, "answers", MAX_ROWS)
    before, size.rows = size.rows, rows
    try:
        yield
    finally:
        size.rows = before
