"""Why a row is not sent (`Reason`), and what somebody should know of rows beside that (`Note`).

Both travel through DuckDB as one bit each of a BIGINT, so that a row can carry several. Bits and codes are stored in
the state: new members go to the end, none is ever renumbered.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache


class Flag(Enum):
    """A member's value is (position of its bit, code as stored and printed, one sentence)."""

    @property
    def bit(self) -> int:
        """The BIGINT with only this member's bit set."""
        return 1 << int(self.value[0])

    @property
    def code(self) -> str:
        """The stable name, in state, logs and reports."""
        return str(self.value[1])

    @property
    def sentence(self) -> str:
        """What a person reads."""
        return str(self.value[2])


class Reason(Flag):
    """A row with one of these is invalid: it is recorded and never sent."""

    USER_ID_MISSING = (0, "user_id_missing", "user_id is NULL, empty or blank.")
    COMPANY_ID_MISSING = (1, "company_id_missing", "company_id is NULL, empty or blank.")
    EVENT_NAME_MISSING = (2, "event_name_missing", "event_name is NULL, empty or blank.")
    INSERTED_AT_MISSING = (3, "inserted_at_missing", "inserted_at is NULL, and an event needs the time it happened.")
    HOSTNAME_MISSING = (4, "hostname_missing", "hostname is NULL, empty or blank, and no url gives one.")
    PATHNAME_MISSING = (5, "pathname_missing", "pathname is NULL, empty or blank, and no url gives one.")
    USER_AGENT_MISSING = (
        6,
        "user_agent_missing",
        "user_agent is NULL, empty or blank, and source web-client needs it.",
    )
    KEY_MISSING = (7, "key_missing", "A column of unique_key is NULL.")
    EVENT_TYPE_MISMATCH = (8, "event_type_mismatch", "event_type is not the event of the model's header.")
    UNKNOWN_SOURCE = (9, "unknown_source", "source is missing or none of the values that the Import API allows.")
    INSERTED_AT_UNREADABLE = (10, "inserted_at_unreadable", "inserted_at is text that is not an ISO 8601 time.")
    INSERTED_AT_OUT_OF_RANGE = (
        11,
        "inserted_at_out_of_range",
        "inserted_at is before 1970-01-01, more than 24 hours ahead, or infinite.",
    )
    URL_INVALID = (12, "url_invalid", "url has no scheme and host, so hostname and pathname cannot be taken from it.")
    INVALID_UTF8 = (13, "invalid_utf8", "A text holds bytes that are not UTF-8.")
    NUL_CHARACTER = (14, "nul_character", "An id, a url or a required field holds a NUL character.")
    METADATA_MALFORMED = (
        15,
        "metadata_malformed",
        "metadata is not well-formed JSON (NaN and lone surrogates are not), or the exponent of a number is too large.",
    )
    METADATA_NOT_OBJECT = (16, "metadata_not_object", "metadata is JSON, but not an object.")
    NESTED_VALUE = (17, "nested_value", "A JSON value is nested, and the model says nested: error.")
    JSON_MALFORMED = (
        18,
        "json_malformed",
        "A JSON column to be flattened is not well-formed JSON, or the exponent of a number is too large.",
    )
    JSON_TOO_DEEP = (19, "json_too_deep", "A JSON value is nested deeper than 12 levels.")
    LINE_TOO_LONG = (20, "line_too_long", "The line is longer than batch.max_line.")
    NULL_CURSOR = (21, "null_cursor", "The cursor is NULL, and the model says null_cursor: reject.")
    AMBIGUOUS_DUPLICATE = (22, "ambiguous_duplicate", "Rows of one key differ, and nothing says which one is newer.")


class Note(Flag):
    """What is counted and said, and keeps no row back: values sent otherwise than the warehouse holds them, for one."""

    NAN_TO_NULL = (0, "nan_to_null", "NaN or an infinity was sent as null: JSON has no such number.")
    BEYOND_2_53 = (1, "beyond_2_53", "A number beyond 2^53 was sent in full; readers that use doubles will round it.")
    NUL_REMOVED = (2, "nul_removed", "NUL characters were removed from a text.")
    TIME_TO_NULL = (3, "time_to_null", "A time that is infinite or outside the years 1 to 9999 was sent as null.")
    EVENT_CHANGED = (4, "event_changed", "An event changed after it was delivered; a delivered event never goes again.")
    SAME_EVENT = (
        5,
        "same_event",
        "Events of one window share user, company, name and time: Userpilot gives them one id and may merge them.",
    )
    LONG_VALUE = (6, "long_value", "A text is longer than `limits.max_value`: Userpilot is said to keep no more.")


def decode(bits: int) -> tuple[Reason, ...]:
    """The reasons in a BIGINT of `RowSql.reasons`, in the order of the enum."""
    return tuple(reason for reason in Reason if bits & reason.bit)


@lru_cache(maxsize=256)
def codes(bits: int) -> tuple[str, ...]:
    """The codes of those reasons; few sets of them ever occur."""
    return tuple(reason.code for reason in decode(bits))
