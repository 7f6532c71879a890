"""Which YAML file a command uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from warehouse_sync.errors import UsageError
from warehouse_sync.project.config import find_config


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(name: str) -> Path:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    return path


def test_the_order_of_places() -> None:
    touch("a.yml")
    only = touch("configs/only.yml")
    touch("configs/notes.txt")
    assert find_config(None, {}) == only
    here = touch("warehouse_sync.yml")
    assert find_config(None, {}) == here
    variable = touch("b.yml")
    assert find_config(None, {"WAREHOUSE_SYNC_CONFIG": "b.yml"}) == variable
    assert find_config(Path("a.yml"), {"WAREHOUSE_SYNC_CONFIG": "b.yml"}) == Path("a.yml")


def test_yaml_is_an_ending_too() -> None:
    assert find_config(touch("configs/prod.yaml"), {}) == Path("configs/prod.yaml")
    assert find_config(None, {"WAREHOUSE_SYNC_CONFIG": ""}) == Path("configs/prod.yaml")


def test_none() -> None:
    with pytest.raises(UsageError, match=r"--config, WAREHOUSE_SYNC_CONFIG, warehouse_sync\.yml and configs"):
        find_config(None, {})


def test_several() -> None:
    touch("configs/a.yml")
    touch("configs/b.yaml")
    with pytest.raises(UsageError, match=r"configs/a\.yml, configs/b\.yaml"):
        find_config(None, {})


def test_a_named_file_must_exist() -> None:
    touch("configs/a.yml")
    with pytest.raises(UsageError, match=r"b\.yml \(--config\) does not exist"):
        find_config(Path("b.yml"), {})
    with pytest.raises(UsageError, match=r"b\.yml \(WAREHOUSE_SYNC_CONFIG\) does not exist"):
        find_config(None, {"WAREHOUSE_SYNC_CONFIG": "b.yml"})
    with pytest.raises(UsageError, match="is a folder"):
        find_config(Path("configs"), {})
