"""The YAML file as frozen values: one class per section, one field per key, with its default and its sentence.

The sentences are the descriptions of the JSON Schema that `warehouse-sync schema` prints. Defaults are written as in
the file and validated like everything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, Field, PrivateAttr, SecretStr, Tag

from warehouse_sync.project import places
from warehouse_sync.project.dbt.project_file import DbtProject, Targets
from warehouse_sync.project.yaml.connections import Section, Warehouse
from warehouse_sync.project.yaml.fields import (
    AllowanceField,
    ApiKey,
    Count,
    CountOrZero,
    Duration,
    EmptyMapping,
    Endpoint,
    FilePath,
    Free,
    FreePerName,
    MemorySize,
    Name,
    Number,
    OrAbsent,
    OrNothing,
    PositiveDuration,
    Relation,
    Relations,
    Size,
    StateFolder,
    StateUrl,
    Text,
    Timezone,
    Version,
)

# A shorter text would hide innocent words of the log and protect nobody.
_SHORTEST_SECRET = 4


def _written(default: Any) -> Any:
    """A default in the words of the file (`2h`), which the field's own validator reads."""
    return Field(default=default)


Source = Literal[
    "web-client", "backend-http", "backend-hubspot", "backend-salesforce", "backend-segment", "backend-http-import"
]


class Userpilot(Section):
    """Where the events go."""

    api_key: ApiKey
    """API key with write access: ${USERPILOT_API_KEY}."""
    endpoint: Endpoint = "https://analytex.userpilot.io"
    """The region: https://analytex.userpilot.io, https://analytex-eu.userpilot.io (EU), or the account's own."""
    source: Source = "backend-http-import"
    """The `source` field of rows whose model names none (Userpilot's page "Row Validation")."""


# The tags of the two forms that a source can have; `#` cannot be told from a key, so no key is taken for one.
SCHEMA_TAG, TABLES_TAG = "#schema", "#tables"


def _form_of_source(value: Any) -> str:
    return TABLES_TAG if isinstance(value, dict) else SCHEMA_TAG


SourceRelations = Annotated[
    Annotated[Relation, Tag(SCHEMA_TAG)] | Annotated[Relations, Tag(TABLES_TAG)], Discriminator(_form_of_source)
]
Sources = Annotated[dict[str, SourceRelations], EmptyMapping]


class Models(Section):
    """Where the models are, and what they share."""

    path: FilePath = _written("../models_sql")
    """Folder of the .sql files, relative to this file."""
    vars: Free = Field(default={}, repr=False)
    """Values for var() in the models; --vars on the command line wins."""
    sources: Sources = _written({})
    """Names for source() without dbt: a schema, `app: raw.app`, or relations, `app: {users: raw.app.users_v2}`."""
    refs: Relations = _written({})
    """Names for ref() without dbt: `dim_users: analytics.dim_users`."""
    timezone: Timezone = "UTC"
    """IANA name of the zone in which naive timestamps of the warehouse are."""
    config: Free = _written({})
    """Header keys for every model; a model's own header wins."""
    overrides: FreePerName = _written({})
    """Header keys per model; they win over the header: `users: {lag: 2 hours}`."""
    drift: Literal["error", "warn", "allow"] = "error"
    """What happens when a property that was sent has gone or has another type."""


class State(Section):
    """Where this program keeps what it knows."""

    url: StateUrl = _written("sqlite:///../.warehouse_sync/state.db")
    """SQLite file (three slashes: relative to this file; four: absolute) or postgresql+psycopg://user:pass@host/db."""
    dir: StateFolder = _written("../.warehouse_sync")
    """Folder of batches, snapshots and logs, relative to this file; everything is below <dir>/<name>/."""


class Batch(Section):
    """The unit of bookkeeping: a file of rows that is delivered, or not, as a whole."""

    max_rows: Count = 10_000
    """Rows in a batch."""
    max_bytes: Size = _written("40MB")
    """Size of a batch."""
    max_line: Size = _written("1MB")
    """Size of one row as a line of JSON, its newline included; a longer one is refused."""


class Job(Section):
    """The unit of upload: one import job takes one or more whole batches."""

    max_rows: Count = 10_000
    """Rows in an upload."""
    max_bytes: Size = _written("40MB")
    """Size of an upload."""


class Delivery(Section):
    """How long to wait for Userpilot, and how hard to try."""

    job_timeout: PositiveDuration = _written("2h")
    """How long one import job is followed; it is followed again by the next run."""
    busy_timeout: Duration = _written("1h")
    """How long to wait while another job of the account runs."""
    grace: Duration = _written("2m")
    """How long a job may be missing from the list before an unclear upload counts as lost."""
    max_splits: CountOrZero = 40
    """Jobs spent on finding the row that Userpilot refuses."""
    time_limit: Annotated[PositiveDuration | None, OrNothing] = None
    """Longest run; null for none. --time-limit wins."""


class Invalid(Section):
    """How many refused rows are acceptable: a number, or a share of the rows read."""

    error_above: AllowanceField = _written(0)
    """Above it the model ends `partial` and the exit code is 1."""
    stop_above: AllowanceField = _written("50%")
    """Above it nothing of the window is sent."""


class Guard(Section):
    """Limits that stop a model whose source looks wrong, before anything is sent."""

    max_rows: Annotated[Count | None, OrNothing] = None
    """Rows that one window of a model may send; null for no limit."""
    max_times_median: Annotated[Number | None, OrNothing] = None
    """Rows that one window may send, as a multiple of the median of earlier ones; null for no limit."""
    max_removed: Annotated[AllowanceField | None, OrNothing] = _written("50%")
    """Keys that may have disappeared from the source since the last run; null for no limit."""


class Limits(Section):
    """What Userpilot is said to keep of properties, second-hand: more is sent, with a warning. null for no warning."""

    max_properties: Annotated[Count | None, OrNothing] = 500
    """Properties of one model."""
    max_name: Annotated[Count | None, OrNothing] = 255
    """Characters of a property's name."""
    max_value: Annotated[Size | None, OrNothing] = _written(65_535)
    """Bytes of a text."""


class Snapshot(Section):
    """Where the last sent state of every row is kept, to compare with."""

    where: Literal["local", "warehouse"] = "local"
    """`local`: a DuckDB file below state.dir. `warehouse`: a table there, and the comparison runs there."""
    schema_name: Annotated[Text | None, OrAbsent] = Field(default=None, alias="schema")
    """Schema of the snapshot tables, with `where: warehouse`; it is made when it is missing."""


class Retention(Section):
    """How long things are kept."""

    delivered: Duration = _written("0 days")
    """Files of delivered batches."""
    rejects: Duration = _written("90 days")
    """Refused rows that are resolved; those that are dismissed still keep their rows back."""
    logs: Duration = _written("90 days")
    """Log files."""


class Engine(Section):
    """The embedded DuckDB that checks, compares and encodes."""

    memory_limit: MemorySize = _written("512MB")
    """Memory of the engine; beyond it it goes to disk."""
    threads: Annotated[Count | None, OrNothing] = None
    """Threads of the engine; null for one per core."""


class Dbt(Section):
    """The dbt project whose models and sources are read: ref() and source() resolve through its manifest."""

    project_dir: Annotated[FilePath | None, OrAbsent] = None
    """Folder of dbt_project.yml, relative to this file; null: no dbt, unless `target_path` is given."""
    target_path: Annotated[FilePath | None, OrAbsent] = None
    """Folder of manifest.json, relative to this file; else $DBT_TARGET_PATH, dbt_project.yml's, or target/."""
    target: Annotated[Text | None, OrAbsent] = None
    """dbt's target that the manifest has to be of; that of `warehouse.dbt`, if left out."""
    require: Annotated[Literal["success"] | None, OrNothing] = None
    """`success`: a model is skipped while something it is built from failed, was skipped, or is stale in dbt."""


class Config(Section):
    """One pipeline: from one warehouse to one Userpilot account."""

    version: Version = 1
    """Version of this file's grammar."""
    name: Name
    """Names this pipeline in the state store: letters, digits, `_` and `-`."""
    warehouse: Warehouse
    """Where the rows come from; the keys of each type are those of dbt's profiles."""
    userpilot: Userpilot
    """Where the events go."""
    models: Models = _written({})
    """Where the models are, and what they share."""
    selectors: Relations = _written({})
    """Named selections, for --selector NAME and selector:NAME: `nightly: tag:daily event:identify_*`."""
    dbt: Dbt = _written({})
    """The dbt project whose models and sources are read."""
    state: State = _written({})
    """Where this program keeps what it knows."""
    batch: Batch = _written({})
    """The unit of bookkeeping."""
    job: Job = _written({})
    """The unit of upload."""
    delivery: Delivery = _written({})
    """How long to wait for Userpilot, and how hard to try."""
    invalid: Invalid = _written({})
    """How many refused rows are acceptable."""
    guard: Guard = _written({})
    """Limits that stop a model whose source looks wrong."""
    limits: Limits = _written({})
    """What Userpilot is said to keep of properties: more is sent, with a warning."""
    snapshot: Snapshot = _written({})
    """Where the last sent state of every row is kept."""
    retention: Retention = _written({})
    """How long things are kept."""
    engine: Engine = _written({})
    """The embedded DuckDB."""

    _file: Path = PrivateAttr(default=Path("warehouse_sync.yml"))
    _positions: dict[str, tuple[int, int]] = PrivateAttr(default_factory=dict)
    _more_secrets: tuple[SecretStr, ...] = PrivateAttr(default=())
    _dbt_project: DbtProject | None = PrivateAttr(default=None)
    _dbt_targets: Targets = PrivateAttr(default=Targets())

    @property
    def file(self) -> Path:
        """The YAML file, absolute."""
        return self._file

    @property
    def home(self) -> Path:
        """Folder of everything this pipeline keeps on disk: <state.dir>/<name>."""
        return self.state.dir / self.name

    @property
    def dbt_project(self) -> DbtProject | None:
        """The project in `dbt.project_dir`."""
        return self._dbt_project

    @property
    def dbt_targets(self) -> Targets:
        """dbt's target that manifests have to be of, `dbt.target` or that of `warehouse.dbt`, and the profile's own."""
        return replace(self._dbt_targets, wanted=self.dbt.target or self._dbt_targets.wanted)

    def position(self, key: str) -> tuple[int, int]:
        """Line and column (1-based) of a dotted key such as `models.overrides.users.lag`, or the nearest above it.

        (1, 1) for a key of which the file says nothing.
        """
        while key and key not in self._positions:
            key = key[: max(key.rfind("."), key.rfind("["), 0)]
        return self._positions.get(key, (1, 1))

    def secrets(self) -> tuple[str, ...]:
        """Every secret text of this configuration, longest first, for scrubbing logs.

        Also the lines of a key, the passwords inside URLs (with the URL), and variables that are secret by their name
        (`DBT_ENV_SECRET…`, `WAREHOUSE_SYNC_SECRET…`), used or not. Texts of less than four characters are left out.
        """
        found: set[str] = set()
        for field, secret in (*_secrets_of(self), *(("", secret) for secret in self._more_secrets)):
            text = secret.get_secret_value()
            if field in ("url", "path"):
                found.update(places.url_secrets(text))
            else:
                found.update((text, *text.splitlines()))
        kept = {text.strip() for text in found if len(text.strip()) >= _SHORTEST_SECRET}
        return tuple(sorted(kept, key=lambda text: (-len(text), text)))


def _secrets_of(section: BaseModel) -> Iterator[tuple[str, SecretStr]]:
    for name, value in section.__dict__.items():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, SecretStr):
                yield name, item
            elif isinstance(item, BaseModel):
                yield from _secrets_of(item)
