"""What the model was when its cursor came where it stands; what was asked of a window that was read."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Until now the last window that settled stood for the model, whether it moved the cursor or not."""
    op.add_column("windows", sa.Column("asked", sa.Text))
    op.add_column("models", sa.Column("cursor_fingerprint", sa.Text))
    op.execute(
        "UPDATE models SET cursor_fingerprint = (SELECT fingerprint FROM windows WHERE id = settled_window_id)"
        " WHERE cursor IS NOT NULL"
    )
