"""Lines of partners' accounts outlive the accounts, a payout can be undone, and amounts in letters bring their currency along."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

import db.base

revision: str = "0013"
down_revision: str | None = "0012"
branch_labels: None = None
depends_on: None = None

_PARTNER = "fk_referral_entries_partner_id_users"
# What stood behind an amount in administrators' own words for letters; the amount now says it itself.
_CURRENCIES = (" so‘m", "\u00a0so‘m", " сум", "\u00a0сум", " UZS", "\u00a0UZS")
_OF_PAYMENTS = ("paid", "refunded")


def _partner(ondelete: str, *, nullable: bool) -> None:
    """Change what becomes of a line when its account is deleted."""
    with op.batch_alter_table("referral_entries", schema=None) as batch_op:
        batch_op.drop_constraint(_PARTNER, type_="foreignkey")
        batch_op.alter_column("partner_id", existing_type=sa.String(length=26), nullable=nullable)
        batch_op.create_foreign_key(_PARTNER, "users", ["partner_id"], ["id"], ondelete=ondelete)


def _amounts(*, with_currency: bool) -> None:
    """Bring administrators' own words, and letters that wait, to how this version or the one before writes an amount."""
    texts = sa.table("letter_texts", sa.column("kind"), sa.column("language"), sa.column("text", sa.Text()))
    mine = texts.c.kind.in_(_OF_PAYMENTS)
    if with_currency:
        for language, currency in (("uz", " so‘m"), ("ru", " сум"), ("en", " so‘m")):
            longer = sa.func.replace(texts.c.text, "{amount}", "{amount}" + currency)
            op.execute(texts.update().where(mine, texts.c.language == language).values(text=longer))
    else:
        for currency in _CURRENCIES:
            shorter = sa.func.replace(texts.c.text, "{amount}" + currency, "{amount}")
            op.execute(texts.update().where(mine).values(text=shorter))
    letters = sa.table(
        "letters",
        sa.column("id"),
        sa.column("kind"),
        sa.column("mail"),
        sa.column("telegram"),
        sa.column("params", db.base.JsonText()),
    )
    waits = letters.c.kind.in_(_OF_PAYMENTS) & ((letters.c.mail == "new") | (letters.c.telegram == "new"))
    for row in op.get_bind().execute(sa.select(letters.c.id, letters.c.params).where(waits)).all():
        amount = _before(row.params.get("amount")) if with_currency else _after(row.params.get("amount"))
        if amount is not None:
            params = {**row.params, "amount": amount}
            op.execute(letters.update().where(letters.c.id == row.id).values(params=params))


def _after(amount: Any) -> dict[str, int] | None:
    digits = "".join(str(amount).split())
    return {"tiyin": int(digits) * 100} if digits.isascii() and digits.isdigit() else None


def _before(amount: Any) -> str | None:
    return f"{amount['tiyin'] // 100:,}".replace(",", "\u00a0") if isinstance(amount, dict) else None


def upgrade() -> None:
    _partner("SET NULL", nullable=True)
    op.add_column("referral_entries", sa.Column("payout_id", sa.String(length=26), nullable=True))
    op.create_index("uq_referral_entries_payout_id", "referral_entries", ["payout_id"], unique=True)
    op.create_index("ix_referral_entries_kind_available_at", "referral_entries", ["kind", "available_at"], unique=False)
    _amounts(with_currency=False)


def downgrade() -> None:
    _amounts(with_currency=True)
    # The version before knows neither lines without an account nor payouts that were undone: those cancel each other out.
    entries = sa.table("referral_entries", sa.column("id"), sa.column("partner_id"), sa.column("payout_id"))
    undone = sa.select(entries.c.payout_id).where(entries.c.payout_id.is_not(None)).scalar_subquery()
    op.execute(entries.delete().where(entries.c.id.in_(undone)))
    op.execute(entries.delete().where(entries.c.payout_id.is_not(None) | entries.c.partner_id.is_(None)))
    op.drop_index("ix_referral_entries_kind_available_at", table_name="referral_entries")
    op.drop_index("uq_referral_entries_payout_id", table_name="referral_entries")
    op.drop_column("referral_entries", "payout_id")
    _partner("CASCADE", nullable=False)
