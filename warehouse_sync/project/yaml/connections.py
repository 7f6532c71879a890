"""The `warehouse` section: one class per type, with the keys of dbt's profiles."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    SecretStr,
    Tag,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from warehouse_sync.errors import ConfigError
from warehouse_sync.project import places, quantities
from warehouse_sync.project.yaml.environment import Expanded
from warehouse_sync.project.yaml.fields import (
    Count,
    CountOrZero,
    DuckDBPath,
    EmptyList,
    FilePath,
    OnlyTrue,
    OrAbsent,
    OrNothing,
    Port,
    PositiveDuration,
    Secret,
    Text,
    Truth,
    WarehouseUrl,
    context_of,
)

_LONGEST_STATEMENT = timedelta(days=7)
"""Snowflake's own limit; PostgreSQL's is a little above it."""


def _within_a_week(value: timedelta) -> timedelta:
    if value > _LONGEST_STATEMENT:
        raise quantities.UnitError("must be at most 7 days")
    return value


_SYSTEM = "system"
"""libpq's word for the certificates that the machine trusts."""

_OrSystem = WrapValidator(lambda value, path: Path(_SYSTEM) if value == _SYSTEM else path(value))

StatementTimeout = Annotated[PositiveDuration, AfterValidator(_within_a_week)]


class Section(BaseModel):
    """What every section has in common: frozen, strict, no unknown keys, and nothing of the input in an error.

    A key whose variable is missing is judged by nobody, and has no value: reading it is a ConfigError that says so.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, validate_default=True, hide_input_in_errors=True
    )

    _unset: dict[str, Expanded] = PrivateAttr(default_factory=dict)

    def lacks(self, *names: str) -> bool:
        """True when one of these keys is there, and a variable of its value is missing."""
        return any(name in self._unset for name in names)

    def unset_text(self, name: str) -> str:
        """What stands at such a key, with the reference to the missing variable as it is written; "" for any other."""
        return str(self._unset.get(name, ""))

    @field_validator("*", mode="wrap")
    @classmethod
    def _judge_no_unset(cls, value: Any, judge: ValidatorFunctionWrapHandler) -> Any:
        return value if isinstance(value, Expanded) and value.unset else judge(value)

    @model_validator(mode="after")
    def _keep_no_unset(self) -> Section:
        for name, value in list(self.__dict__.items()):
            if isinstance(value, Expanded) and value.unset:
                self._unset[name] = value
                del self.__dict__[name]
        return self

    if not TYPE_CHECKING:  # a type checker would take any name for an attribute

        def __getattr__(self, name: str) -> Any:
            """Called for what is not there: a key without its variable, or one of pydantic's own names."""
            private = object.__getattribute__(self, "__pydantic_private__") or {}
            if name in private.get("_unset", {}):
                raise ConfigError(private["_unset"][name].unset)
            return super().__getattr__(name)


class Attach(Section):
    """One more database beside the warehouse, read-only: a key of dbt-duckdb."""

    path: Secret
    """File (relative to this file), or what ATTACH takes for this type; never shown, as it may hold a password."""
    alias: Annotated[Text | None, OrAbsent] = None
    """Name of the database in SQL; DuckDB's own choice if left out."""
    type: Annotated[Text | None, OrAbsent] = None
    """DuckDB extension that reads it, such as postgres, mysql or sqlite; DuckDB itself if left out."""
    read_only: OnlyTrue = True
    """Always true: a sync only reads."""

    @model_validator(mode="after")
    def _from_the_file(self, info: ValidationInfo) -> Attach:
        if not self.lacks("type", "path") and self.type in (None, "duckdb", "sqlite"):
            context = context_of(info)
            path = places.resolve_duckdb(self.path.get_secret_value(), context.folder, context.home)
            # Frozen for everybody else; a validator may finish what it builds.
            object.__setattr__(self, "path", SecretStr(path))
        return self


class DuckDBWarehouse(Section):
    """A DuckDB file or a MotherDuck database."""

    type: Literal["duckdb"]
    """Kind of warehouse."""
    path: DuckDBPath
    """Database file, relative to this file; `md:name` for MotherDuck."""
    token: Annotated[Secret | None, OrAbsent] = None
    """MotherDuck's service token; without it the `motherduck_token` variable is used."""
    attach: Annotated[tuple[Attach, ...], EmptyList] = ()
    """More databases that the models read."""

    @model_validator(mode="after")
    def _token_out_of_the_path(self) -> DuckDBWarehouse:
        """dbt-duckdb takes MotherDuck's token inside the path; a path may be shown, a token may not."""
        if self.lacks("path"):
            return self
        path, token = places.split_motherduck_token(self.path)
        if token:
            object.__setattr__(self, "path", path)
            if not self.lacks("token"):
                object.__setattr__(self, "token", self.token or SecretStr(token))
        return self


class SnowflakeWarehouse(Section):
    """A Snowflake account; the keys are those of dbt's profile."""

    type: Literal["snowflake"]
    """Kind of warehouse."""
    account: Text
    """Account identifier, such as myorg-myaccount."""
    user: Annotated[Text | None, OrAbsent] = None
    """User name; may be left out with OAuth only."""
    password: Annotated[Secret | None, OrAbsent] = None
    """Password; a key pair is the better choice for a job that nobody watches."""
    private_key_path: Annotated[FilePath | None, OrAbsent] = None
    """PEM file of the private key, relative to this file."""
    private_key: Annotated[Secret | None, OrAbsent] = None
    """The private key itself: PEM text or base64 DER."""
    private_key_passphrase: Annotated[Secret | None, OrAbsent] = None
    """Passphrase of the private key."""
    token: Annotated[Secret | None, OrAbsent] = None
    """OAuth or programmatic access token; needs `authenticator`."""
    authenticator: Annotated[Text | None, OrAbsent] = None
    """How to log in: oauth, programmatic_access_token, username_password_mfa, externalbrowser or an Okta URL."""
    role: Annotated[Text | None, OrAbsent] = None
    """Role; the user's default if left out."""
    warehouse: Annotated[Text | None, OrAbsent] = None
    """Virtual warehouse; the user's default if left out."""
    database: Annotated[Text | None, OrAbsent] = None
    """Database of unqualified names."""
    schema_name: Annotated[Text | None, OrAbsent] = Field(default=None, alias="schema")
    """Schema of unqualified names."""
    query_tag: Annotated[Text | None, OrAbsent] = None
    """QUERY_TAG of every statement; pipeline, model and run if left out."""
    client_session_keep_alive: Truth = False
    """Keep the session alive beyond four idle hours."""
    connect_retries: CountOrZero = 1
    """How often a failed connection is tried again."""
    connect_timeout: Annotated[Count | None, OrNothing] = None
    """Seconds to wait for a connection; 60 if left out."""
    statement_timeout: Annotated[StatementTimeout | None, OrNothing] = None
    """How long one query may run (STATEMENT_TIMEOUT_IN_SECONDS); the user's or the account's limit if left out."""
    host: Annotated[Text | None, OrAbsent] = None
    """Host, if it is not derived from the account."""
    port: Annotated[Port | None, OrNothing] = None
    """Port, if it is not 443."""
    protocol: Literal["https", "http"] = "https"
    """http is for a server on this machine only."""


class PostgresWarehouse(Section):
    """A PostgreSQL database, or one that speaks its protocol; the keys are those of dbt's profile."""

    type: Literal["postgres"]
    """Kind of warehouse."""
    host: Text
    """Host name, address or folder of the socket."""
    port: Port = 5432
    """Port."""
    user: Text
    """User name."""
    password: Annotated[Secret | None, OrAbsent] = Field(
        default=None, validation_alias=AliasChoices("password", "pass")
    )
    """Password (also `pass`); without it libpq's own ways apply (PGPASSWORD, ~/.pgpass, peer)."""
    dbname: Text = Field(validation_alias=AliasChoices("dbname", "database"))
    """Database (also `database`)."""
    schema_name: Annotated[Text | None, OrAbsent] = Field(default=None, alias="schema")
    """Schema of unqualified names, unless `search_path` is given."""
    search_path: Annotated[Text | None, OrAbsent] = None
    """search_path of the session."""
    role: Annotated[Text | None, OrAbsent] = None
    """SET ROLE after the login."""
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] | None = None
    """libpq's sslmode."""
    sslcert: Annotated[FilePath | None, OrAbsent] = None
    """Client certificate, relative to this file."""
    sslkey: Annotated[FilePath | None, OrAbsent] = None
    """Key of the client certificate, relative to this file."""
    sslrootcert: Annotated[FilePath | None, OrAbsent, _OrSystem] = None
    """Certificates of the authorities, relative to this file; `system` for those that this machine trusts."""
    keepalives_idle: CountOrZero = 0
    """Seconds of silence before a TCP keepalive; 0 for the system's default."""
    connect_timeout: CountOrZero = 10
    """Seconds to wait for a connection."""
    statement_timeout: Annotated[StatementTimeout | None, OrNothing] = None
    """How long one query may run, its rows read included; the role's or the server's limit if left out."""


class SqlAlchemyWarehouse(Section):
    """Anything with a SQLAlchemy dialect; its driver must be installed beside this program."""

    type: Literal["sqlalchemy"]
    """Kind of warehouse."""
    url: WarehouseUrl
    """SQLAlchemy URL, such as mysql+pymysql://user:password@host/database; SQLite's path starts at this file."""


class ProfileChoice(Section):
    """A target of dbt's profiles.yml, of type duckdb, snowflake, postgres or redshift."""

    profiles_dir: Annotated[FilePath | None, OrAbsent] = None
    """Folder of profiles.yml, relative to this file; else $DBT_PROFILES_DIR, the project, where you are, ~/.dbt."""
    profile: Annotated[Text | None, OrAbsent] = None
    """Profile; else $DBT_PROFILE, the one that dbt_project.yml names, or the only one."""
    target: Annotated[Text | None, OrAbsent] = None
    """Target; else $DBT_TARGET, or the profile's own."""


class DbtWarehouse(Section):
    """The warehouse of a dbt profile."""

    dbt: ProfileChoice
    """Which target of profiles.yml."""


def _type_of(value: Any) -> Any:
    """The text of `type`. Said by a function: pydantic refuses a key by name that `Section` looks at."""
    return value.get("type") if isinstance(value, dict) else getattr(value, "type", None)


Warehouse = Annotated[
    Annotated[DuckDBWarehouse, Tag("duckdb")]
    | Annotated[SnowflakeWarehouse, Tag("snowflake")]
    | Annotated[PostgresWarehouse, Tag("postgres")]
    | Annotated[SqlAlchemyWarehouse, Tag("sqlalchemy")],
    Discriminator(_type_of),
]
