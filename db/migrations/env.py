"""Alembic's entry: runs the migrations on the connection that ``db.migrate`` hands over."""

import warnings

from alembic import context

from db.models import Base

# SQLite's tables are copied to be changed, and those that they point to are looked at; their indexes stay as they are.
warnings.filterwarnings("ignore", "Skipped unsupported reflection of expression-based index")


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    """Leave the full-text tables, which the migrations make by hand, out of comparisons."""
    return not (kind == "table" and name is not None and name.startswith("chunk_index"))


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=True,
    include_name=include_name,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
