"""Files on this disk or on the hub: how a source is named, and how its files are fetched, through `huggingface_hub`.

A source is a path, or `owner/name[@revision][/path/inside]`, with `hf://` before it where it could be both. The
client's own settings hold: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`. Whole files stay in its cache, and a
connection that breaks is taken up where it broke.
"""

from dit_core.hub.fetch import ADAPTER_FILES, BASE_FILES, Fetcher, NoMatchingFiles, Size, anonymous_fetcher
from dit_core.hub.progress import format_bytes, watch_downloads, watch_own_downloads
from dit_core.hub.sources import HubPath, Source, parse_source

__all__ = [
    "ADAPTER_FILES",
    "BASE_FILES",
    "Fetcher",
    "HubPath",
    "NoMatchingFiles",
    "Size",
    "Source",
    "anonymous_fetcher",
    "format_bytes",
    "parse_source",
    "watch_downloads",
    "watch_own_downloads",
]
