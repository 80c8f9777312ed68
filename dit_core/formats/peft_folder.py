"""PEFT folders: `adapter_config.json` with `adapter_model.safetensors` (or `.bin`)."""

import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import regex
import safetensors.torch
import torch
from torch import Tensor

from dit_core.errors import DitError
from dit_core.formats.adapter import Adapter, PeftState, checked_adapter, is_finite
from dit_core.formats.checkpoint import map_tensors
from dit_core.formats.files import FormatError, atomic_write, read_json, reading

CONFIG, WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
# PEFT's methods that are differences of weights, and how the names of their tensors begin.
METHODS = {
    **{"LORA": "lora_", "ADALORA": "lora_", "IA3": "ia3_", "LOHA": "hada_", "LOKR": "lokr_", "OFT": "oft_"},
    **{"BOFT": "boft_", "HRA": "hra_", "VERA": "vera_", "FOURIERFT": "fourierft_", "LN_TUNING": "ln_tuning_"},
    **{"TRAINABLE_TOKENS": "trainable_tokens_", "SHIRA": "shira_", "C3A": "c3a_", "MISS": "miss_"},
    **{"RANDLORA": "randlora_", "DELORA": "delora_", "GRALORA": "gralora_", "WAVEFT": "waveft_"},
}
_TITLES = {"LORA": "LoRA", "ADALORA": "AdaLoRA", "IA3": "IA³", "LOHA": "LoHa", "LOKR": "LoKr", "VERA": "VeRA"}
_LOW_RANK = {"LORA": "AB", "ADALORA": "ABE"}  # the factors of these
_PROMPTS = (
    "PROMPT_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "P_TUNING",
    "PREFIX_TUNING",
    "ADAPTION_PROMPT",
    "CPT",
    "CARTRIDGE",
)
_PREFIX = re.compile(r"^(?:base_model\.model\.)?")
_FACTOR = re.compile(r"(?P<name>.+)\.lora_(?P<factor>[ABE])(?:\.default)?(?:\.weight)?")
_WHOLE = re.compile(
    r"(?P<name>.+?)(?:\.token_adapter)?(?:\.base_layer|\.original_module|\.modules_to_save(?:\.default)?)?"
    r"\.(?P<leaf>weight|bias)"
)
# What acts in another way than by a difference of weights, or on another base than the one that it names.
_REFUSED = (
    *("layer_replication", "alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config"),
    *("velora_config", "monteclora_config", "megatron_config"),
)
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_REPEATED = ("pissa", "olora")  # of these, what is the same each time that it is computed from the base
# Settings that choose modules by patterns or carry what only training needs: modules are named one by one instead.
_LEFT_OUT = {
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "bias"),
    *("feedforward_modules", "rank_pattern", "alpha_pattern", "init_lora_weights", "base_model_name_or_path"),
    *("auto_mapping", "revision", "peft_version", "task_type", "inference_mode", "lora_dropout"),
}
_EXPERT = re.compile(r"\.experts\.\d+\.")  # one by one, as transformers had them before it stacked them
_PLAIN_PATTERN = re.compile(r"\^?(?:\.\*\\?\.)?[\w.\\-]{1,200}\$?", re.ASCII)
_MAX_PATTERN, _MAX_PATTERNS, _MAX_SECONDS = 200, 2000, 2.0
_MAX_SETTING = 1 << 16  # a rank, a number of blocks, ...: PEFT makes tensors of such sizes


def read_peft(folder: Path | str) -> Adapter:
    """Read what PEFT wrote for a causal language model, where it is a difference of weights.

    Returns:
        An adapter with factors A [rank, in] and B [out, rank] of linear layers (LoRA, AdaLoRA), saved modules and
        biases as whole weights, and all else (DoRA, embeddings, tokens, experts, IA³, ...) as PEFT has it.

    Raises:
        DitError: the folder is damaged, or of a kind, which is named, that is no difference of weights.
    """
    folder = Path(folder)
    with reading(folder, "a PEFT adapter folder"):
        config = read_json(folder / CONFIG)
        _refuse_variants(config)
        path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), folder / WEIGHTS[0])
        indices = (torch.int32, torch.int64) if config["peft_type"] == "SHIRA" else ()
        return _adapter(config, map_tensors(path, indices), path.stat().st_size)


def write_peft(folder: Path | str, adapter: Adapter, base_name: str) -> None:
    """Write a folder that `PeftModel.from_pretrained` reads on the base called `base_name`.

    Whole weights become saved modules.

    Raises:
        DitError: the adapter has no low-rank factors, so that it is no LoRA.
    """
    if adapter.peft or adapter.merged:
        raise DitError("This adapter is more than a LoRA: approximate it at a rank, with --rank and its suite.")
    if not adapter.factors:
        raise DitError("A full finetune is no LoRA: write it in the published layout, or approximate it at a rank.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ranks = {name: A.shape[0] for name, (A, _) in adapter.factors.items()}
    alphas = {name: _alpha(adapter.scaling[name], rank) for name, rank in ranks.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "bias": "none",
        "lora_dropout": 0.0,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {name: value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {name: value for name, value in alphas.items() if value != alpha},
        "target_modules": sorted(ranks),
        "modules_to_save": sorted({name.rpartition(".")[0] for name in adapter.weights}) or None,
    }
    tensors = {f"base_model.model.{name}": weight.contiguous() for name, weight in adapter.weights.items()}
    for name, (A, B) in adapter.factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = A.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = B.contiguous()
    with atomic_write(folder / WEIGHTS[0]) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt"})
    with atomic_write(folder / CONFIG) as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def base_and_method(folder: Path) -> tuple[str, str]:
    """Return the base that a PEFT folder says it was made for ("" where it says none), and the name of the method."""
    config = read_json(folder / CONFIG)
    variants = [name for name in ("DoRA", "rsLoRA") if config.get(f"use_{name.lower()}")]
    kind = str(config.get("peft_type", ""))[:40]
    return str(config.get("base_model_name_or_path") or "")[:200], " and ".join(variants) or _TITLES.get(kind, kind)


def _refuse_variants(config: dict[str, Any]) -> None:
    kind = str(config.get("peft_type"))[:40]
    if kind in _PROMPTS:
        raise FormatError(
            f"{kind} puts vectors before the prompt and changes no weights: there is no diff to ask about"
        )
    if kind not in METHODS:
        raise FormatError(
            f"{kind} is none of the methods that are read; merge it into its base and bring those weights"
        )
    if refused := [key for key in _REFUSED if config.get(key)]:
        raise FormatError(
            f"it uses '{refused[0]}', which can't be given strengths by row; merge it into its base instead"
        )
    init = str(config.get("init_lora_weights", "")).lower()
    if init.startswith(_CHANGES_BASE) and init not in _REPEATED:
        raise FormatError(f"it was begun by '{init[:40]}', which changes the base; save it converted to a plain LoRA")


def _adapter(config: dict[str, Any], tensors: dict[str, Tensor], size: int) -> Adapter:
    halves: dict[str, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    others: dict[str, Tensor] = {}
    kind = config["peft_type"]
    method = re.compile(rf"(?:^|\.)(?:token_adapter\.trainable_tokens_|{METHODS[kind]})")
    for key, tensor in tensors.items():
        key = _PREFIX.sub("", key)
        if kind in _LOW_RANK and (match := _FACTOR.fullmatch(key)) and tensor.dim() == 2:
            halves.setdefault(match["name"], {})[match["factor"]] = tensor
        elif method.search(key):
            others[key] = tensor
        elif (match := _WHOLE.fullmatch(key)) and not any(f".{prefix}" in key for prefix in METHODS.values()):
            weights[f"{match['name']}.{match['leaf']}"] = tensor
        else:
            raise FormatError(f"'{key[:80]}' is neither a tensor of this method nor a saved module")
    if unpaired := [name for name, half in halves.items() if half.keys() != set(_LOW_RANK[kind])]:
        raise FormatError(f"'{unpaired[0]}' has only one factor")
    if config.get("use_dora") and not any("lora_magnitude_vector" in key for key in others):
        raise FormatError("it uses DoRA, and its magnitudes are missing: save it again")
    if not halves and not others and not weights:
        raise FormatError("it holds no modules")
    found = (*(half for pair in halves.values() for half in pair.values()), *others.values())
    if sum(half.numel() * half.element_size() for half in found) > size:  # many modules that share one tensor
        raise FormatError("it claims more numbers than the file holds")
    # Copies, so that an adapter does not hang on a file that may change.
    factors = {name: _factors(half) for name, half in halves.items() if len(half["A"])}  # AdaLoRA prunes to nothing
    low_rank = checked_adapter(
        factors, _scalings(config, {name: max(1, A.shape[0]) for name, (A, _) in factors.items()})
    )
    plain = {name: pair for name, pair in low_rank.factors.items() if _is_plain(config, name, others, factors)}
    others |= {
        f"{name}.lora_{side}.weight": half for name in factors.keys() - plain for side, half in halves[name].items()
    }
    scaling = {name: low_rank.scaling[name] for name in plain}
    state = _peft_state(config, others, low_rank) if others else None
    return Adapter(plain, scaling, weights, tied=not config.get("modules_to_save"), peft=state)


def _factors(half: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A [rank, in] and B [out, rank]; AdaLoRA's singular values E [rank, 1] go into A."""
    A = half["A"] * half["E"] if "E" in half else half["A"].clone()
    return A, half["B"].clone()


def _is_plain(config: dict[str, Any], name: str, others: dict[str, Tensor], names: Iterable[str]) -> bool:
    """Whether a module's two factors are all that PEFT does to it."""
    if config["peft_type"] == "ADALORA":
        return True
    if str(config.get("init_lora_weights", "")).lower() in _REPEATED or any(map(_EXPERT.search, names)):
        return False
    return not _holds_parameters(config, name) and not any(key.startswith(f"{name}.") for key in others)


def _holds_parameters(config: dict[str, Any], name: str) -> bool:
    """Whether the factors under a module's name are those of parameters that it holds, as experts do."""
    owners = [str(target).rpartition(".")[0] for target in config.get("target_parameters") or ()]
    return any(not owner or f".{_unwrapped(name)}".endswith(f".{owner}") for owner in owners)


def _unwrapped(name: str) -> str:
    """A module's name without what PEFT's wrappers put into it."""
    return re.sub(r"\.(?:base_layer|token_adapter)(?=\.|$)", "", name)


def _peft_state(config: dict[str, Any], tensors: dict[str, Tensor], low_rank: Adapter) -> PeftState:
    """What PEFT needs beside a base, with modules named one by one: a stranger's pattern is never given to it."""
    if unfit := [name for name, tensor in tensors.items() if not is_finite(tensor)]:
        raise FormatError(f"'{unfit[0]}' holds numbers that are not finite")
    prefix = METHODS[config["peft_type"]]
    found = {key: _unwrapped(match[1]) for key in tensors if (match := re.match(rf"(.+?)\.(?:{prefix})", key))}
    adapted = [name for name in dict.fromkeys(found.values()) if name != "base_model"]  # which holds what all share
    modules = [*adapted, *(_unwrapped(key.rpartition(".")[0]) for key in tensors if ".token_adapter." in key)]
    settings = {key: value for key, value in config.items() if key not in _LEFT_OUT}
    for key, value in settings.items():
        if isinstance(value, int) and not key.endswith("seed") and "key" not in key and abs(value) > _MAX_SETTING:
            raise FormatError(f"its '{key[:40]}' of {value} is more than any adapter has")
    targets = [name for name in adapted if not _holds_parameters(config, name)]
    settings["target_modules"] = targets or "dummy-target-modules"  # PEFT's word for: tokens or parameters alone
    linear = [name for name in targets if name in low_rank.factors and not _EXPERT.search(name)]
    ranks = {name: low_rank.factors[name][0].shape[0] for name in linear}
    if config["peft_type"] == "IA3":
        # Its vector lies along the inputs of what it calls feedforward, and along the outputs of all others.
        settings["feedforward_modules"] = [name for key, name in found.items() if tensors[key].shape[0] == 1]
    elif config["peft_type"] == "LORA":
        init = str(config.get("init_lora_weights", "")).lower()
        settings["init_lora_weights"] = init if init in _REPEATED else True
        root = {name: rank**0.5 if config.get("use_rslora") else rank for name, rank in ranks.items()}
        alphas = {name: low_rank.scaling[name] * root[name] for name in ranks}
        for key, known in (("rank_pattern", ranks), ("alpha_pattern", alphas)):
            simple = {text: value for text, value in (config.get(key) or {}).items() if _PLAIN_PATTERN.fullmatch(text)}
            settings[key] = simple | known
    return PeftState(settings, {key: tensor.clone() for key, tensor in tensors.items()}, tuple(modules))


def _scalings(config: dict[str, Any], ranks: dict[str, int]) -> dict[str, float]:
    """PEFT's own rule: alpha (by the first pattern that matches) over rank, or over its root for rsLoRA."""
    patterns = config.get("alpha_pattern") or {}
    if involved := [text for text in patterns if len(text) > _MAX_PATTERN or "{" in text]:
        raise FormatError(f"its pattern '{involved[0][:40]}' is too involved; name the modules instead")
    if len(patterns) > _MAX_PATTERNS:
        raise FormatError(f"it has {len(patterns)} patterns, and {_MAX_PATTERNS} are the most")
    alphas = [(regex.compile(rf"(.*\.)?({text})$"), alpha) for text, alpha in patterns.items()]
    if config["peft_type"] == "ADALORA":
        alpha = config["lora_alpha"]
        return {name: float(alpha if alpha > 0 else rank) / (config["init_r"] + 1e-5) for name, rank in ranks.items()}
    scalings, end = {}, time.monotonic() + _MAX_SECONDS
    for name, rank in ranks.items():
        alpha = next((value for pattern, value in alphas if _matches(pattern, name, end)), config["lora_alpha"])
        scalings[name] = float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)
    return scalings


def _matches(pattern: regex.Pattern[str], name: str, end: float) -> bool:
    """Whether a pattern by a stranger matches: some would take for ever to tell."""
    try:
        return pattern.match(name, timeout=max(end - time.monotonic(), 0.001), concurrent=True) is not None
    except TimeoutError:
        text = pattern.pattern[8:48]  # without what PEFT puts before it
        raise FormatError(f"its pattern '{text}' takes too long to match; name the modules instead") from None


def _alpha(scaling: float, rank: int) -> float:
    """The alpha that reads back as just this scaling where there is one: a whole number if it can be."""
    product = scaling * rank
    near = (round(product), product, math.nextafter(product, math.inf), math.nextafter(product, -math.inf))
    return next((alpha for alpha in near if alpha / rank == scaling), product)
