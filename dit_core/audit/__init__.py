"""Audit: all that is known about one diff, as one HTML file that needs nothing beside it.

`audit_diff` asks every method, `page` writes what they said; what the diff was really trained on is in it only on
request.
"""

from dit_core.audit.gather import Audit, audit_diff, steps
from dit_core.audit.page import page

__all__ = ["Audit", "audit_diff", "page", "steps"]
