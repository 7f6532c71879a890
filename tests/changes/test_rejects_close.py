"""An open reject closes when its row is mended, or has left the source; and only then."""

from __future__ import annotations

import pytest
from rounds_place import Place

from warehouse_sync.state.lifecycle import RejectState
from warehouse_sync.state.store import open_store
from warehouse_sync.userpilot.sandbox import Sandbox
from warehouse_sync.values import ModelStatus

HEADER = "{{ config(event='identify_user') }}\n"


@pytest.fixture
def place(tmp_path, quick_stores):
    with Sandbox(tmp_path / "sandbox") as sandbox:
        place = Place(tmp_path, sandbox)
        place.sql(
            "CREATE TABLE users AS SELECT 'u' || i AS user_id, 'https://a.example' AS url, i AS n FROM range(9) t(i)"
        )
        (tmp_path / "models" / "users.sql").write_text(f"{HEADER}select user_id, n, {BAD} as inserted_at from users\n")
        yield place


BAD = "case when n < 0 then timestamp '2999-01-01' else timestamp '2025-01-01' end"


def states(place) -> list[RejectState]:
    with open_store(f"sqlite:///{place.folder / 's.db'}") as store:
        return [reject.state for reject in store.rejects("p", states=tuple(RejectState))]


@pytest.mark.parametrize("mend", ["UPDATE users SET n = 4 WHERE n < 0", "DELETE FROM users WHERE n < 0"])
def test_a_row_that_is_as_it_was_or_gone_closes_its_reject(place, mend):
    assert place.run().exit_code == 0
    place.sql("UPDATE users SET n = -1 WHERE n = 4")
    assert place.run().exit_code == 1
    assert states(place) == [RejectState.OPEN]
    assert place.run().exit_code == 0, "known already"
    assert states(place) == [RejectState.OPEN]
    place.sql("UPDATE users SET n = -2 WHERE n = -1")
    (result,) = place.run().results
    assert (result.counts.invalid, result.counts.repaired) == (1, 0), "another row of the key, refused as well"
    assert states(place) == [RejectState.RESOLVED, RejectState.OPEN]
    place.sql(mend)
    (result,) = place.run().results
    assert (result.status, result.counts.repaired) == (ModelStatus.SUCCESS, 1)
    assert states(place) == [RejectState.RESOLVED, RejectState.RESOLVED]
    assert [result.counts.repaired for result in place.run().results] == [0]
    assert len(place.sandbox.imported()) == 9
