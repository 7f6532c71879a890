"""The four event types of the Import API as tables (pages "Event Schema" and "Row Validation").

What the pages say, and what was made of it:

* `identify_company` rows: only `company_id`, `source`, `inserted_at` and `metadata` are read there, so every other
  column is a property.
* The context fields (`hostname` ... `device_type`) stand in the examples of all other types and in no table; only
  `hostname` and `pathname` are required, of page_view, and with `user_agent` of every row of source `web-client`.
* `url`, where present, overrides `hostname` and `pathname`.
* `event_name` is required of track; for page_view it is sent when the model returns it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from warehouse_sync.events.reasons import Reason
from warehouse_sync.values import EventType


class Kind(Enum):
    """What a field holds."""

    ID = "text that identifies; NUL is refused"
    TEXT = "text"
    INTEGER = "whole number, sent as a JSON number"
    URL = "text with scheme and host; NUL is refused"
    TIME = "a time in UTC"


@dataclass(frozen=True)
class Field:
    """One field of a line: its name, what it holds, and the reason of a row that lacks it though it is required."""

    name: str
    kind: Kind
    missing: Reason | None = None


USER_ID = Field("user_id", Kind.ID, Reason.USER_ID_MISSING)
COMPANY_ID = Field("company_id", Kind.ID, Reason.COMPANY_ID_MISSING)
EVENT_NAME = Field("event_name", Kind.TEXT, Reason.EVENT_NAME_MISSING)
INSERTED_AT = Field("inserted_at", Kind.TIME, Reason.INSERTED_AT_MISSING)
SOURCE = Field("source", Kind.TEXT)
CONTEXT = (
    Field("hostname", Kind.TEXT, Reason.HOSTNAME_MISSING),
    Field("pathname", Kind.TEXT, Reason.PATHNAME_MISSING),
    Field("url", Kind.URL),
    Field("country_code", Kind.TEXT),
    Field("screen_width", Kind.INTEGER),
    Field("screen_height", Kind.INTEGER),
    Field("operating_system", Kind.TEXT),
    Field("browser", Kind.TEXT),
    Field("browser_language", Kind.TEXT),
    Field("user_agent", Kind.TEXT, Reason.USER_AGENT_MISSING),
    Field("device_type", Kind.TEXT),
)

FIELDS: dict[EventType, tuple[Field, ...]] = {
    EventType.IDENTIFY_COMPANY: (COMPANY_ID, INSERTED_AT),
    EventType.IDENTIFY_USER: (USER_ID, COMPANY_ID, INSERTED_AT),
    EventType.PAGE_VIEW: (SOURCE, USER_ID, COMPANY_ID, EVENT_NAME, *CONTEXT, INSERTED_AT),
    EventType.TRACK: (SOURCE, USER_ID, COMPANY_ID, EVENT_NAME, *CONTEXT, INSERTED_AT),
}
"""The fields of each event type, in the order of the line (after `event_type`, before `metadata`)."""

REQUIRED: dict[EventType, frozenset[str]] = {
    EventType.IDENTIFY_COMPANY: frozenset({"company_id"}),
    EventType.IDENTIFY_USER: frozenset({"user_id"}),
    EventType.PAGE_VIEW: frozenset({"user_id", "hostname", "pathname", "inserted_at"}),
    EventType.TRACK: frozenset({"user_id", "event_name", "inserted_at"}),
}
"""The fields that a row must bring itself; `event_type`, `source` and a profile's `inserted_at` have other origins."""

WEB_CLIENT = "web-client"
WEB_CLIENT_REQUIRED = frozenset({"hostname", "pathname", "user_agent"})
SOURCES = (
    WEB_CLIENT,
    "backend-http",
    "backend-hubspot",
    "backend-salesforce",
    "backend-segment",
    "backend-http-import",
)
"""The values of `source` that the page "Row Validation" allows."""


def fields_of(event: EventType, *, context: bool) -> tuple[Field, ...]:
    """The fields of an event type, in the order of the line; `context` adds those of a page view to identify_user."""
    if event is EventType.IDENTIFY_USER and context:
        return (USER_ID, COMPANY_ID, *CONTEXT, INSERTED_AT)
    return FIELDS[event]
