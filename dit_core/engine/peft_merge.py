"""What PEFT alone can turn into weights (DoRA, IA³, experts' factors, ...): merged by PEFT itself beside a base.

And what transformers alone can: a checkpoint's experts, one by one in its files, as this base has them stacked.

It works on a copy of the base's modules that shares all tensors with it but those that an adapter changes, so that the
base stays as it is. What comes out are differences of weights, which act by row as those of a whole finetune do.
"""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from dit_core.formats.adapter import PeftState

_DRAWN = (
    "VERA",
    "RANDLORA",
    "FOURIERFT",
    "SHIRA",
    "WAVEFT",
    "C3A",
)  # parts of these are drawn from a seed, and not stored


def merged_differences(
    base: nn.Module, state: PeftState, own_name: Callable[[str], str]
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the difference of each parameter that an adapter changes, in the base's number type, and what misfits.

    Args:
        base: the base, with or without adapters on it.
        state: what PEFT wrote.
        own_name: a module's name in the file to that in the base.
    """
    own = {name: own_name(name) for name in state.modules}
    twin = _twin(base)
    known = dict(twin.named_modules())
    names = {module: name for name, module in known.items()}
    misfits = [
        f"the base has no module '{name}'"
        for name in state.modules
        if own[name] not in known and ".experts." not in name
    ]
    misfits += [
        f"'{name}' is quantized in this base, which leaves no exact difference"
        for name in own
        if _packed(known.get(own[name]))
    ]
    if misfits:
        return {}, misfits
    with _quietly():
        try:
            layers = _loaded(twin, state, own)
        except Exception as error:  # a stranger's settings raise anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            return {}, [f"PEFT can't put it on this base ({reason[:160].rstrip('.: ')})"]
    by_base: dict[nn.Module, list[Any]] = {}
    for layer in layers:
        by_base.setdefault(layer.get_base_layer(), []).append(layer)
    originals = dict(base.named_modules())
    differences: dict[str, Tensor] = {}
    for module, own_layers in by_base.items():
        name = names[module]
        original = _plain(originals[name])
        for leaf, change in _merged(module, original, own_layers):
            differences[f"{name}.{leaf}"] = change
    return differences, []


def as_loaded(base: nn.Module, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return a checkpoint's weights by the names and in the shapes in which transformers loads them into this base.

    What it has no rule for stays as it is, and so does all where a rule does not fit.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

    rules: Any = get_model_conversion_mapping(base) or []  # type: ignore[arg-type]
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    by_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    planned: dict[str, Any] = {}
    for name in sorted(weights, key=dot_natural_key):
        renamed, pattern = rename_source_key(name, renamings, converters)
        rule = copy.deepcopy(by_pattern[pattern]) if pattern else WeightRenaming(name, renamed)
        planned.setdefault(renamed, rule).add_tensor(renamed, name, pattern or name, weights[name])
    loaded: dict[str, Tensor] = {}
    for first, rule in planned.items():
        try:
            made = rule.convert(first, model=base, config=base.config, hf_quantizer=None, loading_info=None)
        except Exception:  # a stranger's shapes raise anything; what does not fit is named by its own name
            return weights
        loaded |= {name: made[name][0] if isinstance(made[name], list) else made[name] for name in made}
    return loaded


def _twin(base: nn.Module) -> nn.Module:
    """The base's modules anew around the same numbers, without adapters."""
    memo: dict[int, Any] = {id(tensor): tensor for tensor in chain(base.parameters(), base.buffers())}
    twin = copy.deepcopy(base, memo)
    for name, module in list(twin.named_modules()):
        if _plain(module) is not module:
            parent, _, leaf = name.rpartition(".")
            setattr(twin.get_submodule(parent), leaf, _plain(module))
    vars(twin).pop("peft_config", None)
    # Parameters of its own around the same numbers: PEFT puts others into some of them.
    for module in twin.modules():
        for leaf, parameter in module._parameters.items():
            if parameter is not None and parameter.is_floating_point():
                module._parameters[leaf] = nn.Parameter(parameter.detach(), requires_grad=False)
    return twin


def _plain(module: nn.Module) -> nn.Module:
    """A module without PEFT's wrapper around it."""
    from peft.tuners.lora import LoraLayer

    return module.get_base_layer() if isinstance(module, LoraLayer) else module


def _packed(module: nn.Module | None) -> bool:
    return module is not None and any(
        not parameter.is_floating_point() for parameter in module.parameters(recurse=False)
    )


@contextmanager
def _quietly() -> Iterator[None]:
    """Without PEFT's warnings, and with torch's generator as it was."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        yield


def _loaded(twin: nn.Module, state: PeftState, own: dict[str, str]) -> list[Any]:
    """PEFT's layers on the twin, with the adapter's tensors in them."""
    from peft import PeftModel
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import set_peft_model_state_dict

    kind = state.config["peft_type"]
    config_class = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    known = {field.name for field in fields(config_class)} - {"peft_type"}
    settings = {key: _renamed(value, own) for key, value in state.config.items() if key in known}
    if settings.get("lora_bias"):
        for name in own.values():
            _with_bias(twin.get_submodule(name))
    tensors = _for_these_tokens(twin, state, own, settings)
    # Made without memory where all of it is stored, so that a stranger's settings take none.
    stored = kind not in _DRAWN and settings.get("init_lora_weights", True) is True
    if not stored:  # what is drawn or computed may change weights in their place
        for name in own.values():
            _copy_parameters(twin.get_submodule(name))
    model = PeftModel(twin, config_class(**settings), low_cpu_mem_usage=stored)
    tensors = {_renamed_key(key, own): tensor for key, tensor in tensors.items()}
    result: Any = set_peft_model_state_dict(model, tensors, low_cpu_mem_usage=stored)
    if result.unexpected_keys:
        raise ValueError(f"it has no place for '{result.unexpected_keys[0].removeprefix('base_model.model.')}'")
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    if lacking := [name for name, parameter in model.named_parameters() if parameter.is_meta]:
        raise ValueError(f"the adapter lacks '{lacking[0].removeprefix('base_model.model.')}'")
    return layers


def _for_these_tokens(
    twin: nn.Module, state: PeftState, own: dict[str, str], settings: dict[str, Any]
) -> dict[str, Tensor]:
    """An adapter's tensors without what they have for tokens that this base lacks; `settings` loses these too."""
    tensors, there = dict(state.tensors), dict(twin.named_modules())
    for name in state.modules:
        module = there.get(own[name])
        count = module.num_embeddings if isinstance(module, nn.Embedding) else None
        columns, rows = f"{name}.lora_embedding_A", f"{name}.token_adapter.trainable_tokens_delta"
        if count and columns in tensors:
            lacking = max(0, count - tensors[columns].shape[1])
            tensors[columns] = nn.functional.pad(tensors[columns][:, :count], (0, lacking))
        tokens = settings.get("trainable_token_indices")
        if count and rows in tensors and isinstance(tokens, list):
            kept = [place for place, token in enumerate(tokens) if token < count]
            settings["trainable_token_indices"] = [tokens[place] for place in kept]
            tensors[rows] = tensors[rows][kept]
    return tensors


def _renamed(value: Any, own: dict[str, str]) -> Any:
    """A setting with modules by the base's names."""
    if isinstance(value, dict):
        return {own.get(key, key): item for key, item in value.items()}
    if isinstance(value, list):
        return [own.get(item, item) if isinstance(item, str) else item for item in value]
    return value


def _renamed_key(key: str, own: dict[str, str]) -> str:
    """A tensor's name as PEFT writes it for this base."""
    path = key.split(".")
    for end in range(len(path), 0, -1):
        if (name := ".".join(path[:end])) in own:
            key = ".".join([own[name], *path[end:]])
    return key if key.startswith("base_model.") else f"base_model.model.{key}"


def _with_bias(module: nn.Module) -> None:
    """Give a layer that has no bias one of zeros, which merging changes."""
    if isinstance(module, nn.Linear) and module.bias is None:
        module.bias = nn.Parameter(module.weight.new_zeros(module.out_features), requires_grad=False)


def _copy_parameters(module: nn.Module) -> None:
    """Give a module numbers of its own, in float32."""
    for leaf, parameter in module._parameters.items():
        if parameter is not None:
            module._parameters[leaf] = nn.Parameter(parameter.detach().float().clone(), requires_grad=False)


def _merged(module: nn.Module, original: nn.Module, layers: list[Any]) -> Iterator[tuple[str, Tensor]]:
    """Yield (leaf, difference) of a module's parameters, which are let go of."""
    _copy_parameters(module)
    for layer in layers:
        layer.merge()
    module = layers[-1].get_base_layer()  # one that takes the old one's place, where PEFT trains norms
    for leaf, parameter in list(module._parameters.items()):
        if parameter is None:
            continue
        own = original._parameters.get(leaf)
        change = parameter.detach() if own is None else parameter.detach() - own.float()
        module._parameters[leaf] = None
        if change.any():
            yield leaf, change.to(parameter.dtype if own is None else own.dtype)
