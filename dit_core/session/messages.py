"""What all tabs share: sentences for errors and notes, numbers from fields, tables as files."""

from __future__ import annotations

import json
import logging
import secrets
from typing import Any

from dit_core.errors import DitError
from dit_core.records import Table

LOG = logging.getLogger("dit_core")
SORRY = "That went wrong inside the program, not by your doing; its log says more under {id}. You can go on asking."
STORED = "A stored run of the real thing, made when this suite was built. Press Ask to ask it now."


def error_sentence(error: Exception) -> str:
    """Return the sentence that tells a visitor of an error.

    An error that is no `DitError` goes to the log, under an id that the sentence names.
    """
    if isinstance(error, DitError):
        return str(error)
    id = secrets.token_hex(4)
    LOG.error("%s: an event failed", id, exc_info=error)
    return SORRY.format(id=id)


def number(value: Any) -> float:
    """Return a number field's value; raise `DitError` for an emptied one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DitError("A number is missing on the left: give one.") from None


def integer(value: Any) -> int:
    """Return a whole-number field's value; raise `DitError` for an emptied one."""
    return int(number(value))


def file_content(table: Table, form: str, reveal: bool = False) -> str:
    """Return a table as the text of a file; `form` is 'csv' or 'json'."""
    return table.to_csv(reveal) if form == "csv" else json.dumps(table.to_json(reveal), ensure_ascii=False, indent=1)
