"""The sample warehouse of `demo` and `init`: a small SaaS app as a loader would leave it in DuckDB.

Schema `app` holds companies, users, page_views and events. Every value comes from whole-number arithmetic over row
numbers and from fixed dates, so that the same rows come out with every DuckDB version, on every machine, every time.
The rows have what real ones have: NULLs, exact decimals, names in many scripts, quotes, JSON, visitors who are not
signed in, hourly loads with many equal `_loaded_at`, and reloads of rows that did not change.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from warehouse_sync.errors import UsageError

if TYPE_CHECKING:
    import duckdb

TABLES = ("companies", "users", "page_views", "events")

# Whole numbers only: DuckDB's hash() and random() may give other values in another version. Squaring modulo a prime
# takes away the visible steps that a plain linear sequence would leave; all products stay below 2^63.
_MACROS = """
create temp macro residue(i, salt) as (i::bigint * 48271 + salt * 1000003) % 2147483647;
create temp macro roll(i, salt, n) as
    ((residue(i, salt) * residue(i, salt)) % 2147483647 * 69621 + salt) % 2147483647 % n;
create temp macro pick(choices, i, salt) as choices[1 + roll(i, salt, len(choices))];
create temp macro user_id(i) as 'usr_' || lpad(i::varchar, 5, '0');
create temp macro number_of(user_id) as user_id[5:]::bigint;
create temp macro hourly_load(changed_at) as
    greatest(date_trunc('hour', changed_at) + interval 65 minutes, timestamp '2025-01-01 02:05:00');
create temp macro price(plan) as
    case plan when 'starter' then 12.50 when 'growth' then 34.70 when 'enterprise' then 89.00 else 0 end
        ::decimal(12, 2);
create temp macro next_plan(plan) as
    case plan when 'free' then 'starter' when 'starter' then 'growth' else 'enterprise' end;
create temp macro email(i, company_id) as 'user' || i || '@company' || company_id || '.example';
create temp macro password_hash(i) as '$argon2id$v=19$' || roll(i, 31, 1000000000);
create temp macro first_name(i) as pick(
    ['Amélie', 'Björn', 'Chidi', 'Dora', 'Emre', 'Fatima', 'Grace', 'Hiroshi', 'Inés', 'Jürgen', 'Kateřina', 'Lwazi',
     'María José', 'Nguyễn', 'Oluwaseun', 'Priya', 'Quinn', 'Renée', 'Søren', 'Tomás', 'Ümit', 'Vera', 'Wei', 'Ximena',
     'Yara', 'Zoë', '陽子', 'Ольга', 'ليلى', 'Αλέξης'], i, 1);
create temp macro last_name(i) as pick(
    ['Adeyemi', 'Brontë', 'Castañeda', 'D''Angelo', 'Eriksson', 'Fernández', 'García', 'Haddad', 'Ivanova',
     'Jóhannsdóttir', 'Kowalski', 'Łukasik', 'Müller', 'Nakamura', 'O''Brien', 'Papadopoulos', 'Quintana', 'Ramírez',
     'Şahin', 'Trần', 'Ueda', 'Virtanen', 'Weiß', 'Xu', 'Yılmaz', 'Zieliński', '田中', 'Петрова'], i, 2);
"""

_COMPANIES = """
create table app.companies as
with numbered as (
    select i, 1001 + i as id, roll(i, 3, 100) as draw, 3 + roll(i, 4, 60) as seats,
           timestamp '2023-01-01' + to_seconds(i * 250000 + roll(i, 5, 240000)) as created_at
    from range(200) as numbers(i)
), planned as (
    select *,
           case when draw < 35 then 'free' when draw < 65 then 'starter' when draw < 90 then 'growth'
                else 'enterprise' end as plan
    from numbered
)
select
    id::integer as id,
    ['Almond', 'Brightwater', 'Côte Bleue', 'Dunmore', 'Éclair', 'Fjord', 'Großfeld', 'Harbour', 'Île Verte', 'Juniper',
     'Kopeček', 'Łąka', 'Ñandú', 'O''Malley', 'Pinewood', 'The "Other"', 'Ørnæs', '東京ソフト', 'Восток', 'Zażółć'
    ][1 + i % 20] || ' ' ||
    ['Labs', 'GmbH', 'Ltd', 'Systems', '& Co', 'Analytics', 'Studio', 'Logistics', 'Health', 'Software'][1 + i // 20]
        as name,
    case when roll(i, 6, 12) > 0
        then pick(['Software', 'Retail', 'Logistics', 'Health', 'Education', 'Finance'], i, 7) end as industry,
    pick(['IE', 'DE', 'FR', 'US', 'JP', 'BR', 'ZA', 'IN'], i, 8) as country_code,
    plan,
    (price(plan) * seats)::decimal(12, 2) as mrr,
    seats::integer as seats,
    case when roll(i, 9, 8) > 0 then 10 * (1 + roll(i, 10, 400)) end::integer as employees,
    plan = 'free' and roll(i, 11, 3) = 0 as is_trial,
    case when is_trial then date '2025-04-05' + roll(i, 12, 25)::integer end as trial_ends_on,
    case when roll(i, 13, 10) > 0 then roll(i, 14, 1000) / 1000 end::double as health_score,
    created_at,
    created_at + to_seconds(roll(i, 15, date_diff('second', created_at, timestamp '2025-03-31 20:00:00')))
        as updated_at,
    hourly_load(updated_at) as _loaded_at
from planned
order by i;
"""

_USERS = """
create table app.users as
with numbered as (
    select i, 1001 + least(roll(i, 20, 200), roll(i, 21, 200)) as company_id from range(1, 2001) as numbers(i)
), employed as (
    select
        numbered.*, companies.plan,
        greatest(
            timestamp '2023-02-01' + to_seconds(i * 30000 + roll(i, 22, 29000)),
            companies.created_at + to_seconds(roll(i, 22, 900000))
        ) as created_at
    from numbered join app.companies on companies.id = company_id
)
select
    user_id(i) as id,
    company_id::integer as company_id,
    first_name(i) || ' ' || last_name(i) as full_name,
    case when roll(i, 23, 25) > 0 then email(i, company_id) end as email,
    pick(['Admin', 'Analyst', 'Designer', 'Engineer', 'Product manager', 'Support'], i, 24) as job_title,
    roll(i, 25, 8) = 0 as is_admin,
    plan,
    case when roll(i, 26, 15) > 0 then roll(i, 27, 400) end::integer as login_count,
    case when roll(i, 26, 15) > 0 then timestamp '2025-01-01' + to_seconds(roll(i, 28, 7760000)) end as last_seen_at,
    case when roll(i, 29, 5) = 0 then created_at::date + roll(i, 30, 30)::integer end as onboarded_on,
    password_hash(i) as password_hash,
    created_at,
    created_at + to_seconds(roll(i, 32, date_diff('second', created_at, timestamp '2025-03-31 21:00:00')))
        as updated_at,
    hourly_load(updated_at) as _loaded_at
from employed
order by i;
"""

_TRAFFIC = """
create table app.page_views (
    id bigint, user_id varchar, company_id integer, url varchar, referrer varchar, country_code varchar,
    screen_width integer, screen_height integer, browser_language varchar, user_agent varchar, device_type varchar,
    ip_address varchar, viewed_at timestamp, _loaded_at timestamp
);
create table app.events (
    user_id varchar, company_id integer, name varchar, source varchar, properties json, occurred_at timestamp,
    _loaded_at timestamp
);
"""

# Both read the variables `first_row`, `new_rows`, `start`, `step` (seconds between two rows), `people` (how many users
# there are to choose from) and `loaded_at` (one load for all rows; without it rows are loaded hourly, and some visitors
# are not signed in).
_PAGE_VIEWS = """
insert into app.page_views
with numbered as (
    select n, n + getvariable('first_row') as i, getvariable('step') * 1000000 as step, getvariable('people') as people
    from range(getvariable('new_rows')) as numbers(n)
), drawn as (
    select i, user_id(1 + least(roll(i, 40, people), roll(i, 41, people))) as visitor, roll(i, 42, 3) as device,
           getvariable('loaded_at') is not null or roll(i, 43, 25) > 0 as signed_in,
           getvariable('start') + to_microseconds(n * step + roll(i, 44, step)) as viewed_at
    from numbered
)
select
    500000 + i as id,
    case when signed_in then visitor end as user_id,
    case when signed_in then users.company_id end as company_id,
    'https://app.pinewood.example/'
        || pick(['', 'projects/' || roll(i, 45, 90), 'reports/año-nuevo', 'billing', 'search?q=caf%C3%A9'], i, 46)
        as url,
    case when roll(i, 47, 3) = 0 then pick(['https://www.search.example/', 'https://news.example/item?id=7'], i, 48) end
        as referrer,
    companies.country_code,
    [2560, 1440, 390][1 + device] as screen_width,
    [1440, 900, 844][1 + device] as screen_height,
    pick(['en-US', 'de-DE', 'fr-FR', 'ja-JP'], i, 49) as browser_language,
    'Mozilla/5.0 (' ||
    ['X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0',
     'Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15',
     'iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148'
    ][1 + device] as user_agent,
    ['Desktop', 'Desktop', 'Mobile'][1 + device] as device_type,
    '203.0.113.' || roll(i, 50, 250) as ip_address,
    viewed_at,
    coalesce(getvariable('loaded_at'), hourly_load(viewed_at)) as _loaded_at
from drawn join app.users on users.id = visitor join app.companies on companies.id = users.company_id
order by i;
"""

_EVENTS = """
insert into app.events
with numbered as (
    select n, n + getvariable('first_row') as i, getvariable('step') * 1000000 as step, getvariable('people') as people
    from range(getvariable('new_rows')) as numbers(n)
), drawn as (
    select i, user_id(1 + least(roll(i, 60, people), roll(i, 61, people))) as actor, roll(i, 62, 6) as kind,
           getvariable('start') + to_microseconds(n * step + roll(i, 63, step)) as occurred_at
    from numbered
)
select
    actor as user_id,
    users.company_id,
    ['Project Created', 'Report Exported', 'Teammate Invited', 'Dashboard Shared', 'Payment Failed', 'Signed Out']
        [1 + kind] as name,
    pick(['web', 'web', 'web', 'mobile', 'api'], i, 64) as source,
    -- Text, not json_object(): 249.90 has to stay 249.90.
    case kind
        when 0 then '{"template":"' || pick(['blank', 'roadmap', 'Übersicht'], i, 65) || '","private":'
            || (roll(i, 66, 2) = 0)::varchar || '}'
        when 1 then '{"format":"' || pick(['csv', 'pdf', 'xlsx'], i, 67) || '","rows":' || roll(i, 68, 100000)
            || ',"filter":' || pick(['null', '"last 7 days"', '"\\"quoted\\" \\u2728"'], i, 69) || '}'
        when 2 then '{"role":"' || pick(['viewer', 'editor', 'owner'], i, 70) || '","seats_left":' || roll(i, 71, 12)
            || '}'
        when 3 then '{"title":"' || pick(['Año nuevo ✨', '四半期レポート', 'Q1 / Q2'], i, 72)
            || '","with":["viewer","editor"],"link":{"public":false,"days":' || (1 + roll(i, 73, 30)) || '}}'
        when 4 then '{"amount":' || (1 + roll(i, 74, 900)) || '.' || pick(['00', '50', '90'], i, 75)
            || ',"currency":"EUR","attempt":' || (1 + roll(i, 76, 3)) || '}'
    end::json as properties,
    occurred_at,
    coalesce(getvariable('loaded_at'), hourly_load(occurred_at)) as _loaded_at
from drawn join app.users on users.id = actor
order by i;
"""

# Loads end at 10:05 at the latest, so 14 hours after the last one it is the next day.
_NEXT_DAY = """
set variable start = (select date_trunc('day', max(_loaded_at) + interval 14 hours) from app.events);
set variable loaded_at = getvariable('start') + interval 605 minutes;
set variable round = date_diff('day', timestamp '2025-04-01', getvariable('start'));
set variable people = (select count(*) from app.users);
"""

_UPGRADES = """
create temp table upgraded as
    select id from app.companies where plan <> 'enterprise' and roll(id, 80 + getvariable('round'), 16) = 0;
update app.companies set
    plan = next_plan(plan), mrr = price(next_plan(plan)) * seats, is_trial = false, trial_ends_on = null,
    updated_at = getvariable('start') + to_seconds(21600 + roll(id, 81, 7200)), _loaded_at = getvariable('loaded_at')
where id in (from upgraded);
update app.users set
    plan = next_plan(plan), updated_at = getvariable('start') + to_seconds(28800 + roll(number_of(id), 82, 3600)),
    _loaded_at = getvariable('loaded_at')
where company_id in (from upgraded);
"""

# Loaders write rows again that did not change, and people come back: neither is a reason to send a profile.
_RELOADS = """
update app.users set
    login_count = login_count + 1, last_seen_at = getvariable('start') + to_seconds(roll(number_of(id), 83, 32400)),
    _loaded_at = getvariable('loaded_at')
where company_id not in (from upgraded) and roll(number_of(id), 84 + getvariable('round'), 10) = 0;
"""

_NEW_USERS = """
insert into app.users
select
    user_id(i), companies.id, first_name(i) || ' ' || last_name(i), email(i, companies.id),
    pick(['Analyst', 'Designer', 'Engineer'], i, 24), false, companies.plan, 1, joined_at, null, password_hash(i),
    joined_at, joined_at, getvariable('loaded_at')
from (
    select i, 1001 + roll(i, 85, 200) as company_id, getvariable('start') + to_seconds(roll(i, 86, 32400)) as joined_at
    from range(getvariable('people') + 1, getvariable('people') + 26) as numbers(i)
) join app.companies on companies.id = company_id
order by i;
"""


def create(path: Path) -> dict[str, int]:
    """Make the sample warehouse as a new DuckDB file and return the rows of each table.

    The file appears under its name only when it is complete. Raises `UsageError` when there is a file already: it may
    be somebody's warehouse.
    """
    if path.exists():
        raise UsageError(
            f"{path} exists already, and the sample warehouse is never written over a file",
            hint="Name another folder, or remove the file if it is an earlier sample.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with _connect(unfinished) as warehouse:
        warehouse.execute(f"create schema app; {_COMPANIES} {_USERS} {_TRAFFIC}")
        warehouse.execute("set variable start = timestamp '2025-01-01'; set variable people = 2000")
        _add_traffic(warehouse, page_views=6000, events=8000, seconds=7_740_000)
        rows = {table: _count(warehouse, table) for table in TABLES}
    unfinished.rename(path)
    return rows


def change(path: Path) -> dict[str, int]:
    """Move the sample warehouse on by one day and return, for each table, the rows that a sync has to send.

    Some companies upgrade their plan and their users' with it, people join, look at pages and do things. About a tenth
    of the users is loaded again with nothing new but a login: those rows are not counted.
    """
    if not path.exists():
        raise UsageError(f"there is no sample warehouse at {path}", hint="`warehouse-sync init` makes one.")
    with _connect(path) as warehouse:
        before = {table: _count(warehouse, table) for table in TABLES}
        warehouse.begin()
        warehouse.execute(f"{_NEXT_DAY} {_UPGRADES}")
        upgraded = {table: _count(warehouse, table, "_loaded_at = getvariable('loaded_at')") for table in TABLES}
        warehouse.execute(f"{_RELOADS} {_NEW_USERS}")
        _add_traffic(warehouse, page_views=180, events=240, seconds=32_400)
        sent = {table: upgraded[table] + _count(warehouse, table) - before[table] for table in TABLES}
        warehouse.commit()
    return sent


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    """The DuckDB file, opened for writing, with the arithmetic of this module as temporary macros."""
    import duckdb

    warehouse = duckdb.connect(path)
    warehouse.execute(_MACROS)
    return warehouse


def _add_traffic(warehouse: duckdb.DuckDBPyConnection, *, page_views: int, events: int, seconds: int) -> None:
    """Append page views and events, spread evenly over the `seconds` after the variable `start`."""
    for table, statement, rows in (("page_views", _PAGE_VIEWS, page_views), ("events", _EVENTS, events)):
        warehouse.execute(f"set variable first_row = (select count(*) from app.{table})")
        warehouse.execute(f"set variable new_rows = {rows}; set variable step = {seconds // rows}; {statement}")


def _count(warehouse: duckdb.DuckDBPyConnection, table: str, condition: str = "true") -> int:
    row = warehouse.execute(f"select count(*) from app.{table} where {condition}").fetchone()
    return int(row[0]) if row else 0


__all__ = ["TABLES", "change", "create"]
