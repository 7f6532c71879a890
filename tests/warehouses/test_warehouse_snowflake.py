"""Snowflake: what the emulator gets wrong on hand-made Arrow, the ways in, and the session, over the emulator."""

from __future__ import annotations

import base64
import time as time_of_day
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from beds import ENGINE, Bed, encoded, rows
from servers import PASSWORD, free_port, session_parameters, snowflake_server

from warehouse_sync.errors import ConnectionLost, ModelError, WarehouseError
from warehouse_sync.warehouses import snowflake_errors, snowflake_types
from warehouse_sync.warehouses.base import NUMBER_AS_TEXT, open_warehouse, stored_schema
from warehouse_sync.warehouses.feed import Feed
from warehouse_sync.warehouses.snowflake import SnowflakeWarehouse
from warehouse_sync.warehouses.snowflake_login import arguments


@dataclass(frozen=True)
class Meta:
    """The connector's ResultMetadata."""

    name: str
    type_code: int
    precision: int | None = None
    scale: int | None = None


def through(meta: Meta, chunk: pa.Array) -> list[Any]:
    """A column's values as the engine gets them."""
    column = snowflake_types.column_of(meta)
    schema = stored_schema(pa.schema([column.field]))
    table = pa.Table.from_arrays([chunk], names=["X"])
    return [value for batch in snowflake_types.conform(table, schema) for value in batch.column(0).to_pylist()]


UTC_MOMENT = datetime(2025, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("meta", "chunk", "expected"),
    [
        (Meta("X", 0, 18, 0), pa.array([7, None], pa.int8()), [7, None]),
        (Meta("X", 0, 38, 0), pa.array([7], pa.int16()), [Decimal(7)]),
        (Meta("X", 0, 38, 0), pa.array([2**63 - 1], pa.int64()), [Decimal(2**63 - 1)]),
        (Meta("X", 0, 38, 0), pa.array([Decimal(10**37)], pa.decimal128(38, 0)), [Decimal(10**37)]),
        (Meta("X", 0, 38, 0), pa.array([Decimal(10**37)], pa.decimal256(40, 0)), [Decimal(10**37)]),
        (Meta("X", 0, 10, 2), pa.array([Decimal("34.70")], pa.decimal128(10, 2)), [Decimal("34.70")]),
        (Meta("X", 1), pa.array([1.5, float("inf")], pa.float64()), [1.5, float("inf")]),
        (Meta("X", 2), pa.array(["é"], pa.string()), ["é"]),
        (Meta("X", 3), pa.array([date(2025, 1, 1)], pa.date64()), [date(2025, 1, 1)]),
        (Meta("X", 8), pa.array([1_000_000_001_999], pa.timestamp("ns")), [datetime(1970, 1, 1, 0, 16, 40, 1)]),
        (Meta("X", 8), pa.array([datetime(9999, 12, 31)], pa.timestamp("us")), [datetime(9999, 12, 31)]),
        (Meta("X", 7), pa.array([UTC_MOMENT], pa.timestamp("us", tz="Europe/Berlin")), [UTC_MOMENT]),
        (Meta("X", 6), pa.array([UTC_MOMENT.replace(tzinfo=None)], pa.timestamp("us")), [UTC_MOMENT]),
        (Meta("X", 5), pa.array(['{"a": 1}'], pa.string()), ['{"a": 1}']),
        (Meta("X", 11), pa.array([b"\x00"], pa.binary()), [b"\x00"]),
        (Meta("X", 12), pa.array([36_000_000_000_999], pa.time64("ns")), [time(10)]),
        (Meta("X", 13), pa.array([True], pa.bool_()), [True]),
        (Meta("X", 14), pa.array(['{"type": "Point"}'], pa.string()), [b'{"type": "Point"}']),
        (Meta("X", 0), pa.array(["1.5E+100"], pa.string()), ["1.5E+100"]),
    ],
)
def test_chunks_come_to_the_described_type(meta: Meta, chunk: pa.Array, expected: list[Any]) -> None:
    assert through(meta, chunk) == expected


@pytest.mark.parametrize(
    ("meta", "cast", "hint"),
    [
        (Meta("X", 0), 'TO_VARCHAR("X")', NUMBER_AS_TEXT.encode()),
        (Meta("X", 10), '"X"', b"JSON"),
        (Meta("X", 14), '"X"', b"GEOGRAPHY"),
        (Meta("X", 16), 'TO_VARIANT("X"::ARRAY)', b"JSON"),
        (Meta("X", 17), 'TO_VARIANT("X")', b"JSON"),
        (Meta("X", 19), 'TO_VARCHAR("X")', None),
        (Meta("X", 99), '"X"', None),
    ],
)
def test_what_the_server_casts(meta: Meta, cast: str, hint: bytes | None) -> None:
    column = snowflake_types.column_of(meta)
    assert column.cast == cast
    assert (column.field.metadata or {}).get(b"duckdb_type") == hint


def golden(meta: Meta, *chunks: pa.Array) -> list[str]:
    """A column's values as JSON text, in any order, from chunks of several Arrow types to the line."""
    column = snowflake_types.column_of(meta)
    schema = stored_schema(pa.schema([column.field]))
    tables = [pa.Table.from_arrays([chunk], names=["X"]) for chunk in chunks]
    batches = (batch for table in tables for batch in snowflake_types.conform(table, schema))
    feed = Feed(ENGINE, schema, batches)
    try:
        return [line["x"] for line in encoded(pa.schema([column.field]), feed.source, folds_upper=True)]
    finally:
        feed.close()


EPOCH_NS = pa.array([1_735_732_800_123_456_789, None], pa.timestamp("ns"))
FAR_US = pa.array([datetime(9999, 12, 31, 23, 59, 59, 999999)], pa.timestamp("us"))
ZONED = pa.array([UTC_MOMENT], pa.timestamp("us", tz="America/New_York"))


@pytest.mark.parametrize(
    ("meta", "chunks", "expected"),
    [
        # NUMBER(38,0): one chunk fits a byte, the next needs every digit.
        (
            Meta("X", 0, 38, 0),
            [
                pa.array([7, -1], pa.int8()),
                pa.array([2**63 - 1], pa.int64()),
                pa.array([Decimal("-" + "9" * 38)], pa.decimal128(38, 0)),
                pa.array([Decimal("9" * 38)], pa.decimal256(40, 0)),
            ],
            ["7", "-1", "9223372036854775807", "-" + "9" * 38, "9" * 38],
        ),
        (
            Meta("X", 0, 12, 2),
            [pa.array([Decimal("34.70"), Decimal("0.05"), None], pa.decimal128(12, 2)), pa.array([5], pa.int8())],
            ["34.70", "0.05", "null", "5.00"],
        ),
        (Meta("X", 0, 38, 37), [pa.array([Decimal("0.5")], pa.decimal128(38, 37))], ["0.5" + "0" * 36]),
        (
            Meta("X", 1),
            [pa.array([0.1, 1e300, float("nan"), float("-inf")], pa.float64())],
            ["0.1", "1e+300", "null", "null"],
        ),
        # DECFLOAT comes as the server's text: 36 digits, exponents.
        (
            Meta("X", 0),
            [pa.array(["1.5e100", "123456789012345678901234567890123456", "-0.1", None])],
            ["1.5e100", "123456789012345678901234567890123456", "-0.1", "null"],
        ),
        (Meta("X", 13), [pa.array([True, False, None])], ["true", "false", "null"]),
        (Meta("X", 3), [pa.array([date(2025, 1, 1), date(1, 1, 1)], pa.date32())], ['"2025-01-01"', '"0001-01-01"']),
        (Meta("X", 12), [pa.array([36_000_000_000_999], pa.time64("ns"))], ['"10:00:00"']),
        # One result may have nanoseconds in one chunk and, because of a far year, microseconds in the next.
        (
            Meta("X", 8),
            [EPOCH_NS, FAR_US],
            ['"2025-01-01T12:00:00.123456"', "null", '"9999-12-31T23:59:59.999999"'],
        ),
        (
            Meta("X", 6),
            [EPOCH_NS, ZONED],
            ['"2025-01-01T12:00:00.123456Z"', "null", '"2025-01-01T12:00:00.000000Z"'],
        ),
        (Meta("X", 7), [ZONED], ['"2025-01-01T12:00:00.000000Z"']),
        (
            Meta("X", 5),
            [pa.array(['{"a":1.50}', '"text"', "34.70", "true", "null", None])],
            ['"{\\"a\\":1.50}"', '"text"', "34.70", "true", "null", "null"],
        ),
        (Meta("X", 9), [pa.array(['{"a": {"b": []}}'])], ['"{\\"a\\": {\\"b\\": []}}"']),
        (Meta("X", 10), [pa.array(["[1, 2.50]"])], ['"[1, 2.50]"']),
        (Meta("X", 16), [pa.array(["[1.5,2]"])], ['"[1.5,2]"']),
        (Meta("X", 17), [pa.array(['{"k":1}'])], ['"{\\"k\\":1}"']),
        (Meta("X", 19), [pa.array(["+1-02"])], ['"+1-02"']),
    ],
)
def test_what_is_sent(meta: Meta, chunks: list[pa.Array], expected: list[str]) -> None:
    assert sorted(golden(meta, *chunks)) == sorted(expected)


@pytest.mark.parametrize("code", [11, 14, 15])
def test_binary_and_places_have_to_be_excluded(code: int) -> None:
    with pytest.raises(ModelError) as caught:
        golden(Meta("SHAPE", code), pa.array(['{"type": "Point"}']))
    assert "SHAPE" in str(caught.value)
    assert "exclude" in str(caught.value)


def test_a_chunk_that_does_not_fit() -> None:
    with pytest.raises(WarehouseError, match="'X' was described as int64 and came as string"):
        through(Meta("X", 0, 5, 0), pa.array(["secretvalue"]))


class DriverError(Exception):
    """Looks like the connector's."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(text)
        self.errno = errno


@pytest.mark.parametrize(
    ("errno", "text", "message", "line"),
    [
        (904, "000904 (42000): 01b2c3d4-0000-0000-0000-000000000000: SQL compilation error:"
              " error line 3 at position 7\ninvalid identifier 'NOPE'", "invalid identifier 'NOPE'", 3),
        (2003, "002003 (42S02): SQL compilation error:\nObject 'X' does not exist or not authorized.", "Object 'X'", 0),
        (606, "000606 (57P03): No active warehouse selected", "no warehouse to run the query", 0),
        (630, "000630 (57014): Statement reached its statement timeout", "STATEMENT_TIMEOUT_IN_SECONDS", 0),
        (100038, "Numeric value 'secretvalue' is not recognized", "error 100038", 0),
    ],
)  # fmt: skip
def test_errors_of_statements(errno: int, text: str, message: str, line: int) -> None:
    explained = snowflake_errors.reading(DriverError(errno, text), "acme")
    assert message in explained.message
    assert explained.line == line
    assert "secretvalue" not in str(explained)


@pytest.mark.parametrize(
    "error",
    [
        DriverError(390114, "over"),
        DriverError(252010, "chunk"),
        DriverError(252005, "Failed to convert current row, cause: Failed to communicate with Snowflake"),
        ConnectionError("of the HTTP library"),
    ],
)
def test_a_lost_connection(error: Exception) -> None:
    assert isinstance(snowflake_errors.reading(error, "acme"), ConnectionLost)


def test_a_value_that_does_not_convert_is_no_lost_connection() -> None:
    explained = snowflake_errors.reading(DriverError(252005, "Failed to convert 'secretvalue'"), "acme")
    assert not isinstance(explained, ConnectionLost)
    assert "secretvalue" not in str(explained)


@pytest.mark.slow
def test_a_server_that_goes_away_in_the_middle() -> None:
    with snowflake_server() as server:
        settings = {
            "account": "fakesnow", "user": "tester", "password": PASSWORD, "host": "127.0.0.1", "port": server.port,
            "protocol": "http", "database": "GONE", "schema": "APP", "connect_timeout": 2, "connect_retries": 0,
        }  # fmt: skip
        warehouse = open_warehouse("snowflake", settings, ENGINE)
        sql = "SELECT seq4() AS i, repeat('x', 500) AS t FROM TABLE(GENERATOR(ROWCOUNT => 300000))"
        source = warehouse.open(sql)
        reader = source.connection.sql(f"FROM {source.relation}").to_arrow_reader(2048)
        reader.read_next_batch()
        assert server.process is not None
        server.process.kill()
        with pytest.raises((duckdb.Error, OSError)) as caught:
            for _ in reader:
                pass
        assert isinstance(warehouse.explain(caught.value), ConnectionLost)
        with pytest.raises(ConnectionLost):
            warehouse.scalar("SELECT 1")
        warehouse.close()


@pytest.mark.parametrize("errno", [390100, 390144, 390197, 390189, 390201, 250001, 999999])
def test_errors_of_logins(errno: int) -> None:
    explained = snowflake_errors.connecting(DriverError(errno, "password hunter2"), "acme")
    assert "acme" in explained.message
    assert "hunter2" not in str(explained)
    assert snowflake_errors.may_pass(DriverError(errno, "")) is (errno == 250001)


def key_files(folder: Path) -> tuple[bytes, bytes, bytes]:
    """A key as PEM, as DER, and as PEM under the passphrase `open`."""
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    rsa = pytest.importorskip("cryptography.hazmat.primitives.asymmetric.rsa")
    key = rsa.generate_private_key(65537, 2048)
    forms = serialization.PrivateFormat.PKCS8
    plain, locked = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"open")
    pem, der = serialization.Encoding.PEM, serialization.Encoding.DER
    made = (
        key.private_bytes(pem, forms, plain),
        key.private_bytes(der, forms, plain),
        key.private_bytes(pem, forms, locked),
    )
    (folder / "key.p8").write_bytes(made[2])
    return made


def locked_der(pem: bytes) -> bytes:
    """The key as DER under the passphrase `open`."""
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    key: bytes = serialization.load_pem_private_key(pem, None).private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open"),
    )
    return key


def test_every_way_to_write_a_key(tmp_path: Path) -> None:
    pem, der, locked = key_files(tmp_path)
    ways: list[dict[str, Any]] = [
        {"private_key": pem.decode()},
        {"private_key": pem.decode().replace("\n", "\\n")},
        {"private_key": base64.b64encode(der).decode()},
        {"private_key": locked.decode(), "private_key_passphrase": "open"},
        {"private_key": base64.b64encode(locked_der(pem)).decode(), "private_key_passphrase": "open"},
        {"private_key_path": tmp_path / "key.p8", "private_key_passphrase": "open"},
    ]
    for way in ways:
        given = arguments({"account": "a", "user": "u"} | way, "tag", 5)
        assert given["private_key"] == der
        assert given["authenticator"] == "SNOWFLAKE_JWT"


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ({"private_key": "no key"}, "holds no private key"),
        ({"private_key": base64.b64encode(b"no key").decode()}, "holds no private key"),
        ({"private_key_path": "/nowhere.p8"}, "cannot be read"),
        ({"private_key_path": "key.p8"}, "there is no passphrase"),
        ({"private_key_path": "key.p8", "private_key_passphrase": "wrong"}, "the passphrase is wrong"),
    ],
)
def test_keys_that_cannot_be_read(tmp_path: Path, way: dict[str, str], message: str) -> None:
    key_files(tmp_path)
    if way.get("private_key_path") == "key.p8":
        way = way | {"private_key_path": str(tmp_path / "key.p8")}
    with pytest.raises(WarehouseError, match=message):
        arguments({"account": "a"} | way, "tag", 5)


def test_arguments_of_the_two_connectors() -> None:
    settings = {"account": "a", "user": "u", "password": "p", "role": None, "connect_timeout": 7}
    old, new = arguments(settings, "tag", 4), arguments(settings, "tag", 5)
    assert "network_timeout" in old
    assert "network_timeout" not in new
    assert old["login_timeout"] == 7
    assert old["arrow_number_to_decimal"] is True
    assert old["session_parameters"]["TIMEZONE"] == "UTC"
    assert "role" not in old
    assert old["client_session_keep_alive"] is new["client_session_keep_alive"] is False
    assert arguments(settings | {"client_session_keep_alive": True}, "tag", 5)["client_session_keep_alive"] is True
    assert arguments(settings | {"connect_timeout": None}, "tag", 5)["login_timeout"] == 60
    assert "STATEMENT_TIMEOUT_IN_SECONDS" not in new["session_parameters"]
    limited = arguments(settings | {"statement_timeout": timedelta(seconds=1.5)}, "tag", 5)
    assert limited["session_parameters"]["STATEMENT_TIMEOUT_IN_SECONDS"] == 2
    token = {"account": "a", "authenticator": "programmatic_access_token", "token": "t"}
    assert arguments(token, "tag", 5).items() >= token.items()


@pytest.fixture
def session(snowflake_bed: Bed) -> Iterator[SnowflakeWarehouse]:
    warehouse = snowflake_bed.open()
    assert isinstance(warehouse, SnowflakeWarehouse)
    yield warehouse
    warehouse.close()


@pytest.mark.slow
def test_the_history_names_pipeline_run_and_model(snowflake_bed: Bed, session: SnowflakeWarehouse) -> None:
    port = int(snowflake_bed.settings["port"])
    assert session_parameters(port)["QUERY_TAG"] == "warehouse-sync test"
    session.label("o'users")
    assert session_parameters(port)["QUERY_TAG"] == "warehouse-sync test model o''users"
    assert session_parameters(port)["TIMEZONE"] == "UTC"
    own = snowflake_bed.open(query_tag="mine")
    own.label("users")
    assert session_parameters(port)["QUERY_TAG"] == "mine"
    own.close()


@pytest.mark.slow
def test_the_time_limit_of_the_session(snowflake_bed: Bed) -> None:
    warehouse = snowflake_bed.open(statement_timeout=timedelta(minutes=30))
    port = int(snowflake_bed.settings["port"])
    assert session_parameters(port)["STATEMENT_TIMEOUT_IN_SECONDS"] == "1800"
    warehouse.close()


@pytest.mark.slow
def test_a_key_pair_is_checked(snowflake_bed: Bed, tmp_path: Path) -> None:
    server = snowflake_bed.extra["server"]
    good = (server.folder / "key.pem").read_text()
    snowflake_bed.open(password=None, private_key=good).close()
    with pytest.raises(WarehouseError, match="refuses the key pair"):
        snowflake_bed.open(password=None, private_key=key_files(tmp_path)[0].decode())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"password": "wrong"}, "refuses the user or the password"),
        ({"password": "mfa"}, "asks for a second factor"),
        ({"port": "free", "connect_timeout": 1}, "cannot be reached"),
        ({"protocol": "https", "connect_timeout": 2}, "cannot be reached|TLS handshake"),
        ({"host": "nowhere.invalid"}, "host name that nobody knows|cannot be reached"),
    ],
)
def test_no_way_in(snowflake_bed: Bed, changed: dict[str, Any], message: str) -> None:
    if changed.get("port") == "free":
        changed = changed | {"port": free_port()}
    with pytest.raises(WarehouseError) as caught:
        snowflake_bed.open(**changed)
    assert any(words in caught.value.message for words in message.split("|"))


@pytest.mark.slow
@pytest.mark.parametrize("refused", ["password", "second factor", "key pair"])
def test_who_is_refused_is_not_tried_again(snowflake_bed: Bed, tmp_path: Path, refused: str) -> None:
    """It would lock the user, or ask a phone again."""
    changed: dict[str, Any] = {"password": {"password": "wrong"}.get(refused, "mfa")}
    if refused == "key pair":
        changed = {"password": None, "private_key": key_files(tmp_path)[0].decode()}
    port = int(snowflake_bed.settings["port"])
    before = session_parameters(port)["logins"]
    with pytest.raises(WarehouseError):
        snowflake_bed.open(**changed, connect_retries=3)
    assert session_parameters(port)["logins"] == before + 1


@pytest.mark.slow
def test_who_does_not_answer_is_tried_again(snowflake_bed: Bed) -> None:
    seconds = []
    for retries in (0, 2):
        began = time_of_day.monotonic()
        with pytest.raises(WarehouseError, match="cannot be reached"):
            snowflake_bed.open(port=free_port(), connect_timeout=1, connect_retries=retries)
        seconds.append(time_of_day.monotonic() - began)
    assert seconds[1] > 2 * seconds[0]


@pytest.mark.slow
def test_values_over_the_wire(session: SnowflakeWarehouse) -> None:
    sql = "SELECT parse_json('{\"a\":1}') AS v, NULL::TIMESTAMP_NTZ AS t, 34.70::NUMBER(10, 2) AS n"
    assert rows(session.open(sql)) == [('{"a":1}', None, Decimal("34.70"))]
