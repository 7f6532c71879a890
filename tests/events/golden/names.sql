-- Columns to fields: rename, exclude_columns, `_`, case, folding, clashes.

-- # rename first
-- event: identify_user
-- rename: {id: user_id, host: metadata.hostname, _secret: secret, plan: _plan}
select 1 as id, 'h' as host, 's' as _secret, 'p' as plan, 'x' as _loaded_at;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"hostname":"h","secret":"s"}}

-- # a field's name forced into metadata
-- event: page_view
-- rename: {hostname: metadata.hostname, h: hostname}
select 'u' as user_id, 'https://h/' as url, timestamp '2026-01-01' as inserted_at, 'sent as property' as hostname, 'loses against url' as h;
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"h","pathname":"/","url":"https://h/","inserted_at":"2026-01-01T00:00:00.000000","metadata":{"hostname":"sent as property"}}

-- # fields match without case, properties keep theirs
-- event: identify_user
select 'u1' as "User_ID", 'c' as COMPANY_ID, 'x' as "PlanName", 'y' as "PLAN";
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","company_id":"c","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"PlanName":"x","PLAN":"y"}}

-- # names that Snowflake folded are lower-cased
-- event: identify_user
-- fold_upper: true
-- rename: {KEEP: KEEP}
select 'u1' as "USER_ID", 'x' as "PLAN_1", 'y' as "Plan", 'k' as "KEEP", 'l' as "ÄRA";
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan_1":"x","Plan":"y","KEEP":"k","ära":"l"}}

-- # the header names columns without case
-- event: identify_user
-- unique_key: user_id
-- cursor: _loaded
-- exclude_columns: [Secret]
-- rename: {plan: Tarif}
select 'u1' as "USER_ID", 'x' as "PLAN", 'y' as "SECRET", timestamp '2026-01-01' as "_LOADED";
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"Tarif":"x"}}

-- # the cursor is sent like any other column
-- event: identify_user
-- cursor: updated_at
select 'u1' as user_id, timestamp '2026-01-01' as updated_at;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"updated_at":"2026-01-01T00:00:00.000000"}}

-- # two equal names after folding
-- event: identify_user
-- fold_upper: true
-- rename: {a: plan}
select 'u1' as user_id, 'x' as a, 'y' as "PLAN";
--> error: columns 'a' and 'PLAN' would both be sent as 'plan'

-- # two columns for one field
-- event: identify_user
-- rename: {id: user_id}
select 'u1' as user_id, 'x' as id;
--> error: columns 'user_id' and 'id' would both be sent as 'user_id'

-- # a forced property and a column of its name
-- event: identify_user
-- rename: {a: metadata.plan}
select 'u1' as user_id, 'x' as a, 'y' as plan;
--> error: columns 'a' and 'plan' would both be sent as 'plan'

-- # an empty name
-- event: identify_user
-- rename: {a: metadata.}
select 'u1' as user_id, 'x' as a;
--> error: 'metadata.' is no name for a property

-- # unique_key names no column
-- event: track
-- unique_key: event_idd
select 'u' as user_id, 'e' as event_name, timestamp '2026-01-01' as inserted_at, 1 as event_id;
--> error: unique_key names 'event_idd', which the query does not return

-- # cursor names no column
-- event: identify_user
-- cursor: updated
select 'u1' as user_id, timestamp '2026-01-01' as xyz;
--> error: cursor names 'updated', which the query does not return

-- # ignore_changes names no column
-- event: identify_user
-- ignore_changes: [plam]
select 'u1' as user_id, 1 as plan;
--> error: ignore_changes names 'plam', which the query does not return

-- # exclude_columns names no column
-- event: identify_user
-- exclude_columns: [plam]
select 'u1' as user_id, 1 as plan;
--> error: exclude_columns names 'plam', which the query does not return

-- # rename names no column
-- event: identify_user
-- rename: {plam: x}
select 'u1' as user_id, 1 as plan;
--> error: rename names 'plam', which the query does not return

-- # a required field that is excluded
-- event: identify_user
-- exclude_columns: [user_id]
select 'u1' as user_id, 1 as plan;
--> error: identify_user needs user_id, which the query does not return

-- # nested keys and cursors
-- event: identify_user
-- unique_key: tags
select 'u1' as user_id, [1] as tags;
--> error: unique_key names 'tags', which is nested (INTEGER[])

-- # a key of several columns; NULL in one is refused
-- event: track
-- unique_key: [_a, b]
select 'u' as user_id, 'e' as event_name, timestamp '2026-01-01' as inserted_at, * from (values ('x', 1), (null, 1), ('x', null)) t(_a, b);
--> {"event_type":"track","source":"backend-http-import","user_id":"u","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{"b":1}}
--> invalid: key_missing
--> invalid: key_missing

-- # odd names
-- event: identify_user
select 'u1' as user_id, 1 as "it's", 2 as "100% ""sure""", 3 as "ü\n", 4 as " ", 5 as "warehouse_sync.v0";
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"it's":1,"100% \"sure\"":2,"ü\\n":3," ":4,"warehouse_sync.v0":5}}

-- # names that only Unicode's folding of case makes equal are several
-- event: identify_user
select 'u1' as user_id, 1 as "ß", 2 as "SS", 'x' as "ſource";
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"ß":1,"SS":2,"ſource":"x"}}
