"""Audit: all that is known about one diff, as one HTML file that needs nothing beside it.

`gather` asks every method, `page` writes what they said; what the diff was really trained on is in it only on request.
"""

from dit_core.audit.gather import Audit, gather, steps
from dit_core.audit.page import page

__all__ = ["Audit", "gather", "page", "steps"]
