"""A cursor stands for rows as the model had them then: what it was, beside where it stands."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Until now it was asked of the last window that settled, whether that one moved the cursor or not."""
    op.add_column("models", sa.Column("cursor_fingerprint", sa.Text))
    op.execute(
        "UPDATE models SET cursor_fingerprint = (SELECT fingerprint FROM windows WHERE id = settled_window_id)"
        " WHERE cursor IS NOT NULL"
    )
