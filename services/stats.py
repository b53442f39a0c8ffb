"""Who is no customer: people who try a bot in the panel count in no statistics."""

from __future__ import annotations

from db.base import ID_LENGTH

TEST = "panel:"
"""Contacts of the panel's own chat begin so; an id follows."""


def test_contact(owner_id: str) -> str:
    """Return the contact under which a person tries a bot in the panel: no customer, and not counted as one."""
    return f"{TEST}{owner_id}"


def is_test(contact: str) -> bool:
    """Tell whether a contact is the owner, or somebody who works for them, at the panel's own chat."""
    return contact.startswith(TEST) and len(contact) == len(TEST) + ID_LENGTH
