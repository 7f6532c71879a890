"""The kinds of value that the YAML file holds, as annotated types: how each is read, checked and put into the schema.

The folder that relative paths start at and the home directory come in by pydantic's validation context (`Context`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    SecretStr,
    StrictStr,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from warehouse_sync.project import places, quantities
from warehouse_sync.project.names import nearest
from warehouse_sync.project.quantities import Allowance
from warehouse_sync.project.yaml.document import DateText
from warehouse_sync.project.yaml.environment import Expanded

_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
# Less than this and the engine cannot even begin; most likely a unit was forgotten.
_LEAST_MEMORY = 16_000_000
_MISTAKEN_SHELL = re.compile(r"\$[A-Za-z_]\w*")


@dataclass(frozen=True)
class Context:
    """Where the YAML file stands: `folder` is absolute; `home` is the user's home directory, None for the system's."""

    folder: Path
    home: str | None = None


def context_of(info: ValidationInfo) -> Context:
    """The context of this validation; the working directory outside of a file."""
    return info.context if isinstance(info.context, Context) else Context(Path.cwd())


def _whole(value: Any) -> Any:
    """A variable's text as a whole number, where it is one."""
    if isinstance(value, Expanded) and re.fullmatch(r"\s*[-+]?[0-9]{1,18}\s*", value):
        return int(value)
    return value


def _version(value: Any) -> Any:
    """As `_whole`; to Python `true` is 1 too."""
    if isinstance(value, bool):
        raise TypeMistake("1")
    return _whole(value)


def _number(value: Any) -> Any:
    if isinstance(value, Expanded) and re.fullmatch(r"\s*[-+]?[0-9]{1,18}(\.[0-9]+)?\s*", value):
        return float(value)
    return value


def _truth(value: Any) -> Any:
    return _TRUTH.get(value.strip().lower(), value) if isinstance(value, Expanded) else value


def _only_true(value: bool) -> bool:
    if not value:
        raise ValueError("must be true, or left out: a sync only reads")
    return value


def _blank(value: Any) -> Any:
    """A variable that is empty, or says `null`, where nothing may stand."""
    return None if isinstance(value, Expanded) and value.strip() in ("", "null", "~") else value


def _absent(value: Any) -> Any:
    """As `_blank`, for texts: there `null` and `~` are texts like others, and only `${NAME:-}` stands for nothing."""
    return None if isinstance(value, Expanded) and value.absent else value


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if value == 0 and isinstance(value, int) and not isinstance(value, bool):
        return timedelta(0)
    return quantities.parse_duration(_scalar(value, "a duration such as 15m or 2h"))


def _size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        size = quantities.check_size(value)
    elif isinstance(value, Expanded) and isinstance(_whole(value), int):
        size = quantities.check_size(_whole(value))
    else:
        size = quantities.parse_size(_scalar(value, "a size such as 40MB"))
    if size < 1:
        raise quantities.UnitError("must be greater than 0")
    return size


def _memory(size: int) -> int:
    if size < _LEAST_MEMORY:
        raise quantities.UnitError(f"must be at least {quantities.format_size(_LEAST_MEMORY)}")
    return size


def _allowance(value: Any) -> Allowance:
    if isinstance(value, Allowance):
        return value
    return quantities.parse_allowance(
        value
        if isinstance(value, int) and not isinstance(value, bool)
        else _scalar(value, "a number of rows or a share such as 50%")
    )


def _scalar(value: Any, expected: str) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise TypeMistake(expected)
    return value


class TypeMistake(ValueError):
    """A value of a kind (list, mapping, boolean, nothing) that cannot be this type; says what was expected."""


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise quantities.UnitError("must be greater than 0")
    return value


def _path(value: Any, info: ValidationInfo) -> Any:
    if not isinstance(value, str):
        return value
    context = context_of(info)
    return places.resolve(value, context.folder, context.home)


def _duckdb_path(value: str, info: ValidationInfo) -> str:
    if not value.strip():
        raise places.PlaceError("is empty")
    context = context_of(info)
    return places.resolve_duckdb(value, context.folder, context.home)


def _url(check: Callable[[str, Path], str]) -> AfterValidator:
    def resolved(value: SecretStr, info: ValidationInfo) -> SecretStr:
        return SecretStr(check(value.get_secret_value(), context_of(info).folder))

    return AfterValidator(resolved)


def _present(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip():
        raise ValueError("is empty")
    return value


def _api_key(value: SecretStr) -> SecretStr:
    """Without the newline that `echo` puts into a file: it would split the HTTP header."""
    text = value.get_secret_value().strip()
    if not text:
        raise ValueError("is empty")
    if _MISTAKEN_SHELL.fullmatch(text):
        raise ValueError("looks like a shell variable: write it with braces, ${NAME}")
    if re.search(r"[^\x21-\x7e]", text):
        raise ValueError("holds a space, a newline or a character that no API key has")
    return SecretStr(text)


def _text(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def _timezone(value: str) -> str:
    """An IANA name. Without a time zone database on this machine the engine has the last word."""
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = available_timezones()
        if known and value != "UTC":
            near = nearest(value, known)
            raise ValueError(f"is not a time zone such as UTC or Europe/Berlin{near}") from None
    return value


def _name(value: str) -> str:
    if not re.fullmatch("[A-Za-z0-9_-]{1,64}", value):
        raise ValueError("must be 1 to 64 letters (a-z, A-Z), digits, `_` or `-`: folders and files are named after it")
    return value


def plain(value: Any) -> Any:
    """A free value as plain Python: a date stays the text that was written, a variable is text (as in dbt)."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, DateText):
        return value.text
    return str(value) if isinstance(value, Expanded) and not value.unset else value


def _unless_unset(value: Any, judge: ValidatorFunctionWrapHandler) -> Any:
    """A name among many whose variable is missing: it is an error where it is asked for."""
    return value if isinstance(value, Expanded) and value.unset else judge(value)


def _mapping(value: Any) -> Any:
    """A key with nothing behind it is an empty mapping: everything below it may be commented out."""
    return {} if value is None else value


def _list(value: Any) -> Any:
    """A list as the tuple that a frozen value holds; a key with nothing behind it is an empty list."""
    return () if value is None else tuple(value) if isinstance(value, list) else value


def _mappings(value: Any) -> Any:
    return {key: _mapping(item) for key, item in value.items()} if isinstance(value, dict) else _mapping(value)


_DURATION_SCHEMA = {"anyOf": [{"type": "string", "pattern": quantities.DURATION_PATTERN}, {"const": 0}]}
_POSITIVE_DURATION_SCHEMA = {"type": "string", "pattern": quantities.POSITIVE_DURATION_PATTERN}
_SIZE_SCHEMA = {
    "anyOf": [
        {"type": "string", "pattern": quantities.SIZE_PATTERN},
        {"type": "integer", "minimum": 1, "maximum": quantities.LARGEST},
    ]
}
_ALLOWANCE_SCHEMA = {
    "anyOf": [{"type": "string", "pattern": quantities.ALLOWANCE_PATTERN}, {"type": "integer", "minimum": 0}]
}

_AS_DURATION = PlainSerializer(quantities.format_duration, return_type=str, when_used="json")
_AS_SIZE = PlainSerializer(quantities.format_size, return_type=str, when_used="json")

Text = Annotated[StrictStr, Field(min_length=1), AfterValidator(_text)]
Name = Annotated[
    StrictStr, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": r"^[A-Za-z0-9_-]{1,64}$|\$\{|\{\{"})
]
Timezone = Annotated[StrictStr, AfterValidator(_timezone)]
Endpoint = Annotated[StrictStr, AfterValidator(places.endpoint)]
FilePath = Annotated[Path, BeforeValidator(_path), WithJsonSchema({"type": "string", "minLength": 1})]
StateFolder = Annotated[FilePath, AfterValidator(places.plain_folder)]
DuckDBPath = Annotated[StrictStr, AfterValidator(_duckdb_path)]

Count = Annotated[int, Field(ge=1, le=quantities.LARGEST), BeforeValidator(_whole)]
CountOrZero = Annotated[int, Field(ge=0, le=quantities.LARGEST), BeforeValidator(_whole)]
Port = Annotated[int, Field(ge=1, le=65_535), BeforeValidator(_whole)]
Number = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_number)]
Truth = Annotated[bool, BeforeValidator(_truth)]
OnlyTrue = Annotated[Truth, AfterValidator(_only_true), WithJsonSchema({"const": True})]
Version = Annotated[Literal[1], BeforeValidator(_version)]
Duration = Annotated[timedelta, BeforeValidator(_duration), _AS_DURATION, WithJsonSchema(_DURATION_SCHEMA)]
PositiveDuration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    AfterValidator(_positive),
    _AS_DURATION,
    WithJsonSchema(_POSITIVE_DURATION_SCHEMA),
]
Size = Annotated[int, BeforeValidator(_size), _AS_SIZE, WithJsonSchema(_SIZE_SCHEMA)]
MemorySize = Annotated[Size, AfterValidator(_memory)]
AllowanceField = Annotated[
    Allowance, BeforeValidator(_allowance), PlainSerializer(str, when_used="json"), WithJsonSchema(_ALLOWANCE_SCHEMA)
]
OrNothing = BeforeValidator(_blank)
OrAbsent = BeforeValidator(_absent)

Secret = Annotated[SecretStr, AfterValidator(_present)]
ApiKey = Annotated[SecretStr, AfterValidator(_api_key)]
StateUrl = Annotated[SecretStr, _url(places.state_url)]
WarehouseUrl = Annotated[SecretStr, _url(places.warehouse_url)]

EmptyMapping = BeforeValidator(_mapping)
EmptyList = BeforeValidator(_list)
Free = Annotated[dict[str, Any], EmptyMapping, BeforeValidator(plain)]
FreePerName = Annotated[dict[str, dict[str, Any]], BeforeValidator(_mappings), BeforeValidator(plain)]
Relation = Annotated[Text, WrapValidator(_unless_unset)]
Relations = Annotated[dict[str, Relation], EmptyMapping]
