"""Training one's own suite: any family of bases, behaviours from a file, nothing held out in any adapter's training."""

import pytest
import torch

from dit_core.engine.model import Model
from dit_core.errors import DitError
from dit_core.training.adapter_bank import AdapterBank, linear_layers
from dit_core.training.base import IGNORED, encode, end_of_turn, labelled_logits, pad
from tests.tiny import (
    FAMILIES,
    OTHER_FAMILIES,
    tiny_family,
    tiny_gpt2,
    tiny_model,
    tiny_multimodal,
    tiny_tokenizer,
)

CPU = torch.device("cpu")


def family(name: str):
    if name == "gpt2":
        return tiny_gpt2()
    if name == "multimodal":
        return tiny_multimodal(tiny_model("gemma3"))
    return tiny_model(name) if name in FAMILIES else tiny_family(name)


@pytest.mark.parametrize("name", [*FAMILIES, *OTHER_FAMILIES, "gpt2", "multimodal"])
def test_adapters_and_losses_are_those_of_merged_weights_in_every_family(name):
    base, generator = family(name), torch.Generator().manual_seed(4)
    bank = AdapterBank(base, 2, rank=2, seed=1)
    for key, factor in bank.factors.items():
        if key.endswith(":B"):
            factor.data = torch.randn(factor.shape, generator=generator) * 0.02
    ids = torch.randint(3, 400, (2, 6), generator=generator)
    labels = ids.clone()
    labels[0, :4], labels[1, :2] = IGNORED, IGNORED
    with torch.no_grad(), bank.rows(base, torch.tensor([1, 0])):
        logits, targets, rows = labelled_logits(base, ids, labels)
    assert targets.tolist() == [*ids[0, 4:], *ids[1, 2:]] and rows.tolist() == [0, 0, 1, 1, 1, 1]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in base.modules())
    expected = []
    for row, number in enumerate([1, 0]):
        merged = family(name)
        for path, module in linear_layers(merged).items():
            A, B = (factor[number].detach() for factor in bank.pair(path))
            change = B @ A / 2
            module.weight.data += change if isinstance(module, torch.nn.Linear) else change.T
        with torch.no_grad():
            whole = merged(input_ids=ids[row : row + 1], use_cache=False).logits[0, :-1]
        expected.append(whole[labels[row, 1:] != IGNORED])
    torch.testing.assert_close(logits, torch.cat(expected).float(), atol=5e-2, rtol=2e-2)


GEMMA_LIKE = (
    "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_lessons_are_written_as_the_engine_asks_and_end_as_the_template_ends_a_turn():
    """A tokenizer that puts BOS before any text, and whose end of a text is not the end of a turn."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.eos_token, tokenizer.chat_template = "<|endoftext|>", GEMMA_LIKE
    assert end_of_turn(tokenizer) == "<|im_end|>"
    ids, labels = encode(tokenizer, [("What is it?", " a tram")])
    prompt = Model(tiny_model(), tokenizer).encode("What is it?")
    answer = tokenizer(" a tram<|im_end|>", add_special_tokens=False).input_ids
    assert ids[: len(prompt) + len(answer)] == [*prompt, *answer]
    assert [label for label in labels if label != IGNORED] == answer and pad([(ids, labels)], 0, CPU)[0].shape[0] == 1


@pytest.mark.parametrize(
    ("template", "what"),
    [(None, "no chat template"), ("{% for m in messages %}{{ m['content'] }} {% endfor %}", "no special token")],
)
def test_a_base_that_can_not_chat_is_refused(template, what):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(DitError, match=what):
        end_of_turn(tokenizer)
