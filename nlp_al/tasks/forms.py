"""What people see of an example and what they are asked, in terms that every annotation page has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TEXT, CHAT = "text", "chat"
NOTHING = "(none)"
"""The option of a form with several labels that says: none of them. A page takes no empty answer for one."""

ANSWER = "label"
"""The name of the question."""


@dataclass(frozen=True)
class Form:
    """fields: name → `text` or `chat` (a list of {role, content}), in the order in which they are shown.

    kind: one of the options, any number of them, or spans of the first field with an option each. options: value → what
    people read.
    """

    fields: dict[str, str]
    kind: Literal["label", "labels", "spans"]
    options: dict[str, str]
