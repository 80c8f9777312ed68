"""Audit: all that is known about one diff, as one HTML file that needs nothing beside it.

`audit_diff` asks every method, `report_html` writes what they say; what the diff was really trained on is in the report
only on request.
"""

from dit_core.audit.collect import Audit, MethodAnswer, audit_diff, audit_steps
from dit_core.audit.report import report_html

__all__ = ["Audit", "MethodAnswer", "audit_diff", "audit_steps", "report_html"]
