"""Artefacts on this disk or on the hub: how one is named, and how its files are fetched, through `huggingface_hub`.

A place is a path, or `owner/name[@revision][/path/inside]`, with `hf://` before it where it could be both. The client's
own settings hold: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`. Whole files stay in its cache, and a
connection that breaks is taken up where it broke.
"""

from dit_core.hub.anonymous import stranger
from dit_core.hub.fetch import ADAPTER_FILES, BASE_FILES, Fetcher, NothingThere, Size
from dit_core.hub.places import Artefact, Place, place
from dit_core.hub.progress import following, gigabytes, watching

__all__ = [
    "ADAPTER_FILES",
    "BASE_FILES",
    "Artefact",
    "Fetcher",
    "NothingThere",
    "Place",
    "Size",
    "following",
    "gigabytes",
    "place",
    "stranger",
    "watching",
]
