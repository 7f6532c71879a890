-- inserted_at: between 1970-01-01 and 24 h after the window's start (2026-06-01 12:00 UTC in these tests), in UTC, microseconds, no suffix.

-- # the edges
-- event: identify_user
select * from (values ('u1', timestamp '1970-01-01'), ('u2', timestamp '1969-12-31 23:59:59.999999'), ('u3', timestamp '2026-06-02 12:00:00'), ('u4', timestamp '2026-06-02 12:00:00.000001'),
    ('u5', 'infinity'::timestamp), ('u6', '-infinity'::timestamp), ('u7', timestamp '12024-01-01'), ('u8', '0044-03-15 (BC)'::timestamp), ('u9', null)) t(user_id, inserted_at);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"1970-01-01T00:00:00.000000","metadata":{}}
--> invalid: inserted_at_out_of_range
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-02T12:00:00.000000","metadata":{}}
--> invalid: inserted_at_out_of_range
--> invalid: inserted_at_out_of_range
--> invalid: inserted_at_out_of_range
--> invalid: inserted_at_out_of_range
--> invalid: inserted_at_out_of_range
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u9","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}

-- # aware
-- event: identify_user
select * from (values ('u1', timestamptz '2026-01-01 02:00:00+02'), ('u2', timestamptz '1970-01-01 00:00:00+01'), ('u3', 'infinity'::timestamptz), ('u4', null)) t(user_id, inserted_at);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> invalid: inserted_at_out_of_range
--> invalid: inserted_at_out_of_range
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}

-- # naive in models.timezone
-- event: identify_user
-- timezone: Europe/Berlin
select * from (values ('u1', timestamp '2026-01-01'), ('u2', timestamp '2025-07-01'), ('u3', timestamp '1970-01-01'), ('u4', 'infinity'::timestamp), ('u5', timestamp '12024-01-01')) t(user_id, inserted_at);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2025-12-31T23:00:00.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2025-06-30T22:00:00.000000","metadata":{}}
--> invalid: inserted_at_out_of_range
--> invalid: inserted_at_out_of_range
--> invalid: inserted_at_out_of_range

-- # dates are midnight in models.timezone
-- event: identify_user
-- timezone: Asia/Tokyo
select * from (values ('u1', date '2026-01-01'), ('u2', 'infinity'::date), ('u3', date '1970-01-01'), ('u4', null), ('u5', '290000-01-01 (BC)'::date)) t(user_id, inserted_at);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2025-12-31T15:00:00.000000","metadata":{}}
--> invalid: inserted_at_out_of_range
--> invalid: inserted_at_out_of_range
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}
--> invalid: inserted_at_out_of_range

-- # seconds, milliseconds
-- event: identify_user
select * from (values ('u1', timestamp_s '2026-01-01 01:02:03'), ('u2', '12024-01-01'::timestamp_s)) t(user_id, inserted_at);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-01-01T01:02:03.000000","metadata":{}}
--> invalid: inserted_at_out_of_range

-- # nanoseconds are cut off, not rounded
-- event: identify_user
select * from (values ('u1', timestamp_ns '2026-01-01 01:02:03.999999999'), ('u2', 'infinity'::timestamp_ns), ('u3', '1969-12-31 23:59:59.999999999'::timestamp_ns)) t(user_id, inserted_at);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-01-01T01:02:03.999999","metadata":{}}
--> invalid: inserted_at_out_of_range
--> invalid: inserted_at_out_of_range

-- # text has to be ISO 8601
-- event: identify_user
-- timezone: Europe/Berlin
select row_number() over () as user_id, * from (values ('2026-01-01T01:02:03.123456Z'), ('2026-01-01 01:02:03.123456789+02:00'), ('2026-01-01T01:02:03+0200'), ('2026-01-01T01:02:03-02'), ('2026-01-01T01:02Z'),
    ('2026-01-01T01:02:03'), ('2026-01-01 01:02'), ('2026-01-01'), ('01/02/2026'), ('1767225600'), ('2026-01-01T25:00:00'), ('2026-02-30'), ('2026-01-01T01:02:03 UTC'), ('now'), ('infinity'), (' 2026-01-01'), ('2026-01-01T'), (''),
    ('12024-01-01'), ('1969-12-31T23:00:00Z'), ('2026-01-01T01:02:03,5Z'), ('epoch'), (null)) t(inserted_at);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"1","inserted_at":"2026-01-01T01:02:03.123456","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"2","inserted_at":"2025-12-31T23:02:03.123456","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"3","inserted_at":"2025-12-31T23:02:03.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"4","inserted_at":"2026-01-01T03:02:03.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"5","inserted_at":"2026-01-01T01:02:00.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"6","inserted_at":"2026-01-01T00:02:03.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"7","inserted_at":"2026-01-01T00:02:00.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"8","inserted_at":"2025-12-31T23:00:00.000000","metadata":{}}
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_out_of_range
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"23","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}

-- # events need a time in every row
-- event: track
select 'u' as user_id, 'e' as event_name, * from (values (timestamp '2026-01-01'), (null)) t(inserted_at);
--> {"event_type":"track","source":"backend-http-import","user_id":"u","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> invalid: inserted_at_missing

-- # text times of events
-- event: track
select 'u' as user_id, 'e' as event_name, * from (values ('2026-01-01'), (null), ('x')) t(inserted_at);
--> {"event_type":"track","source":"backend-http-import","user_id":"u","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> invalid: inserted_at_missing
--> invalid: inserted_at_unreadable

-- # whole numbers are no time
-- event: track
select 'u' as user_id, 'e' as event_name, 1767225600 as inserted_at;
--> error: column 'inserted_at' is INTEGER, and inserted_at has to be a timestamp, a date or ISO text

-- # nor are booleans
-- event: track
select 'u' as user_id, 'e' as event_name, true as inserted_at;
--> error: column 'inserted_at' is BOOLEAN, and inserted_at has to be a timestamp, a date or ISO text

-- # offsets that no clock has
-- event: identify_user
select row_number() over () as user_id, * from (values ('2026-01-01T01:02:03+23:59'), ('2026-01-01T01:02:03-0130'), ('2026-01-01T01:02:03+24:00'), ('2026-01-01T01:02:03+02:60'), ('2026-01-01T01:02:03-99:99'), ('2026-01-01T01:02:03+99')) t(inserted_at);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"1","inserted_at":"2025-12-31T01:03:03.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"2","inserted_at":"2026-01-01T02:32:03.000000","metadata":{}}
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
--> invalid: inserted_at_unreadable
