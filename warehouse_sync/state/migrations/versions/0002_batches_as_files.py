"""A batch is a file: what its rows were to the snapshot is the window's to tell."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Two counts go that were never taken."""
    for name in ("added", "changed"):
        op.drop_column("batches", name)
