"""Who is no customer: people who try a bot in the panel count in no statistics."""

from __future__ import annotations

from sqlalchemy import ColumnElement, select

from db import models
from db.base import ID_LENGTH

PREFIX = "panel:"
"""Contacts of the panel's own chat begin so; an id follows."""


def contact_of(user_id: str) -> str:
    """Return the contact under which a person tries a bot in the panel: no customer, and not counted as one."""
    return f"{PREFIX}{user_id}"


def is_tester(contact: str) -> bool:
    """Tell whether a contact is the owner, or somebody who works for them, at the panel's own chat."""
    return contact.startswith(PREFIX) and len(contact) == len(PREFIX) + ID_LENGTH


def is_customer() -> ColumnElement[bool]:
    """Return the condition that a contact is a customer, not somebody who tries a bot in the panel."""
    return ~models.Contact.external_id.like(PREFIX + "_" * ID_LENGTH)


def of_customer() -> ColumnElement[bool]:
    """Return the condition that a conversation is with a customer."""
    contact = models.Contact
    talk = models.Conversation
    return select(contact.id).where(contact.id == talk.contact_id, is_customer()).correlate(talk).exists()
