"""PEFT LoRA folders: `adapter_config.json` with `adapter_model.safetensors` (or `.bin`)."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from dit_core.formats.adapter import Adapter, checked
from dit_core.formats.files import Wrong, reading, written

_PEFT_KEY = re.compile(r"^(?:base_model\.model\.)?(?P<name>.+)\.lora_(?P<factor>[AB])(?:\.default)?\.weight$")
_PEFT_REFUSED = ("use_dora", "modules_to_save", "fan_in_fan_out", "lora_bias", "trainable_token_indices")


def read_peft(folder: Path | str) -> Adapter:
    """Reads a PEFT LoRA folder (`adapter_config.json` with `adapter_model.safetensors` or `.bin`)."""
    folder = Path(folder)
    with reading(folder, "a PEFT adapter folder"):
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        if config.get("peft_type") != "LORA":
            raise Wrong("it is not a LoRA")
        refused = [key for key in _PEFT_REFUSED if config.get(key)]
        if refused or config.get("bias", "none") != "none":
            raise Wrong(f"it uses '{refused[0] if refused else 'bias'}', which is not supported")
        halves: dict[str, dict[str, Tensor]] = {}
        for key, tensor in _peft_tensors(folder).items():
            match = _PEFT_KEY.match(key)
            if not match or tensor.dim() != 2:
                raise Wrong(f"'{key}' is not a factor of a linear layer")
            halves.setdefault(match["name"], {})[match["factor"]] = tensor
        lonely = [name for name, half in halves.items() if len(half) != 2]
        if lonely or not halves:
            raise Wrong(f"'{lonely[0]}' has only one factor" if lonely else "it holds no modules")
        factors = {name: (half["A"], half["B"]) for name, half in halves.items()}
        return checked(factors, {name: _peft_scaling(config, name, A.shape[0]) for name, (A, _) in factors.items()})


def write_peft(folder: Path | str, adapter: Adapter, base_name: str) -> None:
    """Writes a folder that `PeftModel.from_pretrained` reads on the base called `base_name`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ranks = {name: A.shape[0] for name, (A, _) in adapter.factors.items()}
    alphas = {name: adapter.scaling[name] * rank for name, rank in ranks.items()}
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
    }
    tensors = {}
    for name, (A, B) in adapter.factors.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = A.contiguous()
        tensors[f"base_model.model.{name}.lora_B.weight"] = B.contiguous()
    with written(folder / "adapter_model.safetensors") as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt"})
    with written(folder / "adapter_config.json") as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _peft_tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / "adapter_model.safetensors"
    if path.exists():
        return safetensors.torch.load_file(path)
    return torch.load(folder / "adapter_model.bin", map_location="cpu", weights_only=True)


def _peft_scaling(config: dict[str, Any], name: str, rank: int) -> float:
    """PEFT's own rule: alpha (by pattern where one matches) over rank, or over its root for rsLoRA."""
    alpha = config["lora_alpha"]
    for pattern, value in (config.get("alpha_pattern") or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            alpha = value
            break
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
