"""Passages with a telephone number are found by "telephone": those analysed before get the stem that new ones have."""

from __future__ import annotations

import re
import unicodedata

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: None = None
depends_on: None = None

_AT_ONCE = 500
_PHONE = re.compile(
    r"(?<!\w)\+?998[ ()-]{0,2}\d\d[ ()-]{0,2}\d{3}[ -]?\d\d[ -]?\d\d(?!\d)|(?<!\w)\(?\d\d\)?[ -]\d{3}[ -]\d\d[ -]\d\d(?!\d)"
)
_STEM = re.compile(r"(?<!\S)\d{9}(?!\S)(?! telefon(?!\S))")


def _with_phones(stems: str, text: str) -> str:
    """Add the stem behind each number of nine digits that the text writes as a telephone."""
    phones = {re.sub(r"\D", "", found)[-9:] for found in _PHONE.findall(unicodedata.normalize("NFKC", text))}
    return _STEM.sub(lambda found: f"{found[0]} telefon" if found[0] in phones else found[0], stems)


def upgrade() -> None:
    connection = op.get_bind()
    chunk = sa.table("chunks", *map(sa.column, ("id", "heading", "text", "stems")))
    some = (
        sa.select(chunk.c.id, chunk.c.heading, chunk.c.text, chunk.c.stems)
        .where(chunk.c.id > sa.bindparam("after"))
        .order_by(chunk.c.id)
        .limit(_AT_ONCE)
    )
    change = sa.update(chunk).where(chunk.c.id == sa.bindparam("changed")).values(stems=sa.bindparam("to"))
    after = 0
    while rows := connection.execute(some, {"after": after}).all():
        after = rows[-1].id
        changes = [
            {"changed": row.id, "to": stems}
            for row in rows
            if _STEM.search(row.stems) and (stems := _with_phones(row.stems, f"{row.heading}\n{row.text}")) != row.stems
        ]
        if changes:
            connection.execute(change, changes)


def downgrade() -> None:
    """Leave the stems: programs before read them as a word of the passage."""
