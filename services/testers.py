"""Who is no customer: people who try a bot in the panel count in no statistics."""

from __future__ import annotations

from db.base import ID_LENGTH

PREFIX = "panel:"
"""Contacts of the panel's own chat begin so; an id follows."""


def contact_of(user_id: str) -> str:
    """Return the contact under which a person tries a bot in the panel: no customer, and not counted as one."""
    return f"{PREFIX}{user_id}"


def is_tester(contact: str) -> bool:
    """Tell whether a contact is the owner, or somebody who works for them, at the panel's own chat."""
    return contact.startswith(PREFIX) and len(contact) == len(PREFIX) + ID_LENGTH
