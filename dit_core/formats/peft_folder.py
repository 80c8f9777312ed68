"""PEFT LoRA folders: `adapter_config.json` with `adapter_model.safetensors` (or `.bin`)."""

import json
import math
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import regex
import safetensors.torch
from torch import Tensor

from dit_core.errors import DitError
from dit_core.formats.adapter import Adapter, checked_adapter
from dit_core.formats.checkpoint import map_tensors
from dit_core.formats.files import FormatError, atomic_write, read_json, reading

CONFIG, WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
_PREFIX = re.compile(r"^(?:base_model\.model\.)?")
_FACTOR = re.compile(r"(?P<name>.+)\.lora_(?P<factor>[AB])(?:\.default)?\.weight")
_WHOLE = re.compile(r"(?P<name>.+?)(?:\.base_layer|\.modules_to_save(?:\.default)?)?\.(?P<leaf>weight|bias)")
# What makes of a LoRA something else than B @ A on a plain base; DoRA's norms, for one, depend on the strength.
_REFUSED = (
    *("use_dora", "lora_bias", "fan_in_fan_out", "trainable_token_indices", "target_parameters", "layer_replication"),
    *("alora_invocation_tokens", "use_qalora", "use_bdlora", "arrow_config", "kasa_config", "velora_config"),
    *("monteclora_config", "megatron_config"),
)
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_MAX_PATTERN, _MAX_PATTERNS, _MAX_SECONDS = 200, 2000, 2.0


def read_peft(folder: Path | str) -> Adapter:
    """Read a PEFT LoRA folder: rsLoRA, alpha and rank patterns, saved modules and biases as PEFT itself does.

    Returns:
        An adapter with factors A [rank, in] and B [out, rank], and saved modules as whole weights.

    Raises:
        DitError: the folder is damaged, or of a variant, which is named, that is more than a LoRA on a plain base
            (DoRA, PiSSA, ...).
    """
    folder = Path(folder)
    with reading(folder, "a PEFT adapter folder"):
        config = read_json(folder / CONFIG)
        _refuse_variants(config)
        path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), folder / WEIGHTS[0])
        return _adapter(config, map_tensors(path), path.stat().st_size)


def write_peft(folder: Path | str, adapter: Adapter, base_name: str) -> None:
    """Write a folder that `PeftModel.from_pretrained` reads on the base called `base_name`.

    Whole weights become saved modules.

    Raises:
        DitError: the adapter has no low-rank factors, so that it is no LoRA.
    """
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


def base_name(folder: Path) -> str:
    """Return the name of the base that a PEFT folder says it was made for; "" where it says none."""
    return str(read_json(folder / CONFIG).get("base_model_name_or_path") or "")[:200]


def _refuse_variants(config: dict[str, Any]) -> None:
    if config.get("peft_type") != "LORA":
        raise FormatError(f"it is not a LoRA but {str(config.get('peft_type'))[:40]}")
    if refused := [key for key in _REFUSED if config.get(key)]:
        raise FormatError(
            f"it uses '{refused[0]}', which can't be given strengths by row; merge it into its base instead"
        )
    init = str(config.get("init_lora_weights", "")).lower()
    if init.startswith(_CHANGES_BASE):
        raise FormatError(f"it was begun by '{init[:40]}', which changes the base; save it converted to a plain LoRA")


def _adapter(config: dict[str, Any], tensors: dict[str, Tensor], size: int) -> Adapter:
    halves: dict[str, dict[str, Tensor]] = {}
    weights: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        key = _PREFIX.sub("", key)
        if match := _FACTOR.fullmatch(key):
            if tensor.dim() != 2:
                raise FormatError(f"'{key}' is not a factor of a linear layer")
            halves.setdefault(match["name"], {})[match["factor"]] = tensor
        elif (match := _WHOLE.fullmatch(key)) and ".lora_" not in key:
            weights[f"{match['name']}.{match['leaf']}"] = tensor
        else:
            raise FormatError(f"'{key}' is neither a factor of a linear layer nor a saved module")
    unpaired = [name for name, half in halves.items() if len(half) != 2]
    if unpaired or not halves:
        raise FormatError(f"'{unpaired[0]}' has only one factor" if unpaired else "it holds no modules")
    numbers = sum(half.numel() * half.element_size() for pair in halves.values() for half in pair.values())
    if numbers > size:  # many modules that share one tensor
        raise FormatError("it claims more numbers than the file holds")
    # Copies, so that an adapter does not hang on a file that may change.
    factors = {name: (half["A"].clone(), half["B"].clone()) for name, half in halves.items()}
    low_rank = checked_adapter(
        factors, _scalings(config, {name: max(1, A.shape[0]) for name, (A, _) in factors.items()})
    )
    return Adapter(low_rank.factors, low_rank.scaling, weights, tied=not config.get("modules_to_save"))


def _scalings(config: dict[str, Any], ranks: dict[str, int]) -> dict[str, float]:
    """PEFT's own rule: alpha (by the first pattern that matches) over rank, or over its root for rsLoRA."""
    patterns = config.get("alpha_pattern") or {}
    if involved := [text for text in patterns if len(text) > _MAX_PATTERN or "{" in text]:
        raise FormatError(f"its pattern '{involved[0][:40]}' is too involved; name the modules instead")
    if len(patterns) > _MAX_PATTERNS:
        raise FormatError(f"it has {len(patterns)} patterns, and {_MAX_PATTERNS} are the most")
    alphas = [(regex.compile(rf"(.*\.)?({text})$"), alpha) for text, alpha in patterns.items()]
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
