-- Nested values: nested: json (a JSON string), flatten (a.b), error.

-- # STRUCT, LIST, MAP and ARRAY as JSON strings
-- event: identify_user
select * from (values ('u1', {'city': 'Bonn "x"', 'zip': 53111, 'geo': {'lat': 50.7::double, 'ok': true}}, ['a', null, 'b' || chr(10)], map {'k "1"': 1.50, 'k2': null}, [1, 2]::int[2]),
    ('u2', {'city': null, 'zip': null, 'geo': null}, [], map {}, [3, null]), ('u3', null, null, null, null)) t(user_id, address, tags, limits, pair);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"address":"{\"city\":\"Bonn \\\"x\\\"\",\"zip\":53111,\"geo\":{\"lat\":50.7,\"ok\":true}}","tags":"[\"a\",null,\"b\\n\"]","limits":"{\"k \\\"1\\\"\":1.50,\"k2\":null}","pair":"[1,2]"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"address":"{\"city\":null,\"zip\":null,\"geo\":null}","tags":"[]","limits":"{}","pair":"[3,null]"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"address":null,"tags":null,"limits":null,"pair":null}}

-- # every leaf follows the value table
-- event: identify_user
select 'u1' as user_id, {'d': 34.70::decimal(10,2), 'w': 12345678901234567890.10::decimal(38,2), 's': 0.05::decimal(2,2), 'f': 1e20::double, 'day': date '2026-01-02', 'at': timestamp '2026-01-02 03:04:05', 'tz': timestamptz '2026-01-02 03:04:05+01',
    'ns': timestamp_ns '2026-01-02 03:04:05.123456789', 't': time '01:02:03', 'i': interval '1 day', 'u': '00000000-0000-0000-0000-000000000001'::uuid, 'e': 'x'::enum('x'), 'b': false, 'l': [[1], null, []]} as all;
--> (beyond_2_53) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"all":"{\"d\":34.70,\"w\":12345678901234567890.10,\"s\":0.05,\"f\":1e+20,\"day\":\"2026-01-02\",\"at\":\"2026-01-02T03:04:05.000000\",\"tz\":\"2026-01-02T02:04:05.000000Z\",\"ns\":\"2026-01-02T03:04:05.123456\",\"t\":\"01:02:03\",\"i\":\"1 day\",\"u\":\"00000000-0000-0000-0000-000000000001\",\"e\":\"x\",\"b\":false,\"l\":[[1],null,[]]}"}}

-- # NaN, infinities, far times, NUL and numbers beyond 2^53 inside
-- event: identify_user
select * from (values ('u1', {'x': ['nan'::double, 1, '-inf']}), ('u2', {'x': [1, null]}), ('u3', null)) t(user_id, v);
--> (nan_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"{\"x\":[null,1.0,null]}"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"{\"x\":[1.0,null]}"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":null}}

-- # far times, NUL and numbers beyond 2^53 inside
-- event: identify_user
select 'u1' as user_id, ['infinity'::timestamp] as times, ['a' || chr(0) || 'b'] as texts, map {'k' || chr(0): 9007199254740993::bigint} as numbers, [['2026-01-01'::date], ['infinity'::date]] as dates;
--> (beyond_2_53) (nul_removed) (time_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"times":"[null]","texts":"[\"ab\"]","numbers":"{\"k\":9007199254740993}","dates":"[[\"2026-01-01\"],[null]]"}}

-- # nested under nulls: omit
-- event: identify_user
-- nulls: omit
select * from (values ('u1', null, [1]), ('u2', {'a': 1}, null), ('u3', {'a': null}, null), ('u4', null, null)) t(user_id, a, b);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"b":"[1]"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":"{\"a\":1}"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":"{\"a\":null}"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}

-- # names with quotes inside
-- event: identify_user
select 'u1' as user_id, {'it''s "x"': 1, 'ü\': 2} as "odd ""name"" it's";
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"odd \"name\" it's":"{\"it's \\\"x\\\"\":1,\"ü\\\\\":2}"}}

-- # UNION: the member's value
-- event: identify_user
select * from (values ('u1', union_value(n := 1)::union(n integer, s varchar, l integer[])), ('u2', 'x"'::union(n integer, s varchar, l integer[])), ('u3', union_value(l := [1,2])::union(n integer, s varchar, l integer[])), ('u4', null)) t(user_id, v);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":1}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"x\""}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"[1,2]"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":null}}

-- # JSON: scalars are sent as they are, objects and arrays as JSON strings, NULL and JSON null as null
-- event: identify_user
select * from (values ('u1', '{"b": [1.50, 12345678901234567890.10]}'::json), ('u2', '[1, 2]'), ('u3', '"Pro \u00fc \"x\""'), ('u4', '12345678901234567890.10'), ('u5', 'true'), ('u6', 'null'), ('u7', ' "x" '), ('u8', null), ('u9', '"a\u0000b"')) t(user_id, v);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"{\"b\": [1.50, 12345678901234567890.10]}"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"[1, 2]"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"Pro \u00fc \"x\""}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":12345678901234567890.10}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u5","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":true}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u6","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":null}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u7","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"x"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u8","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":null}}
--> (nul_removed) {"event_type":"identify_user","source":"backend-http-import","user_id":"u9","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"ab"}}

-- # JSON under nulls: omit
-- event: identify_user
-- nulls: omit
select * from (values ('u1', '"x"'::json), ('u2', 'null'), ('u3', null)) t(user_id, v);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"x"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}

-- # JSON in several lines stays one line
-- event: identify_user
select 'u1' as user_id, ('{' || chr(10) || '  "a": 1' || chr(13) || chr(10) || '}')::json as v;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"{\n  \"a\": 1\r\n}"}}

-- # JSON inside other values
-- event: identify_user
select 'u1' as user_id, {'j': '{"a": 1.50}'::json, 'k': '"x"'::json, 'n': null::json} as v;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"{\"j\":\"{\\\"a\\\": 1.50}\",\"k\":\"\\\"x\\\"\",\"n\":null}"}}

-- # VARIANT
-- event: identify_user
select * from (values ('u1', {'a': 1.5::decimal(3,1)}::variant), ('u2', 'x'::variant), ('u3', 5::variant), ('u4', null), ('u5', 'nan'::double::variant), ('u6', 34.70::decimal(9,2)::variant)) t(user_id, v);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"{\"a\":1.5}"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"x"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":5}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":null}}
--> (nan_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u5","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":null}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u6","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":34.7}}

-- # flatten: STRUCTs to a.b, lists to JSON strings
-- event: identify_user
-- nested: flatten
select * from (values ('u1', {'city': 'Bonn', 'geo': {'lat': 50.7::double}, 'tags': ['x']}), ('u2', null)) t(user_id, address);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"address.city":"Bonn","address.geo.lat":50.7,"address.tags":"[\"x\"]"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"address.city":null,"address.geo.lat":null,"address.tags":null}}

-- # flatten under nulls: omit
-- event: identify_user
-- nested: flatten
-- nulls: omit
select * from (values ('u1', {'city': 'Bonn', 'geo': {'lat': null::double}}), ('u2', null)) t(user_id, address);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"address.city":"Bonn"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}

-- # flatten: MAPs row by row
-- event: identify_user
-- nested: flatten
select * from (values ('u1', map {'seats': 5, 'a"b': null}, 1), ('u2', map {}, 2), ('u3', null, 3)) t(user_id, limits, n);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"n":1,"limits.seats":5,"limits.a\"b":null}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"n":2}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"n":3}}

-- # flatten: MAPs under nulls: omit
-- event: track
-- nested: flatten
select 'e' as event_name, timestamp '2026-01-01' as inserted_at, * from (values ('u1', map {'seats': 5, 'x': null}, null::int), ('u2', map {}, 2), ('u3', null, null)) t(user_id, limits, n);
--> {"event_type":"track","source":"backend-http-import","user_id":"u1","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{"limits.seats":5}}
--> {"event_type":"track","source":"backend-http-import","user_id":"u2","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{"n":2}}
--> {"event_type":"track","source":"backend-http-import","user_id":"u3","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}

-- # flatten: JSON row by row, to every depth, numbers as text
-- event: identify_user
-- nested: flatten
select * from (values ('u1', '{"plan": "Pro", "limits": {"seats": 5, "price": {"eur": 12345678901234567890.10, "list": [1.50, {"a": 1}]}}, "none": null, "empty": {}}'::json), ('u2', '[1, {"a": 2}]'), ('u3', '"x"'), ('u4', ' 1.50 '), ('u5', 'null'), ('u6', null), ('u7', '{}'),
    ('u8', '{"a": {"b": 1}, "a.b": 2}'), ('u9', '{"a\u0000": "x\u0000y"}')) t(user_id, v);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v.plan":"Pro","v.limits.seats":5,"v.limits.price.eur":12345678901234567890.10,"v.limits.price.list":"[1.50, {\"a\": 1}]","v.none":null}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"[1, {\"a\": 2}]"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"x"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":1.50}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u5","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u6","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u7","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u8","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v.a.b":2}}
--> (nul_removed) {"event_type":"identify_user","source":"backend-http-import","user_id":"u9","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v.a":"xy"}}

-- # flatten: a known property wins over one that a row tells
-- event: identify_user
-- nested: flatten
select 'u1' as user_id, '{"a": 1, "b": 2}'::json as v, 'known' as "v.a", map {'x': 1} as m, 'known' as "m.x";
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v.a":"known","m.x":"known","v.b":2}}

-- # flatten: two properties of one name
-- event: identify_user
-- nested: flatten
select 'u1' as user_id, {'b': 1} as a, 2 as "a.b";
--> error: two properties would both be sent as 'a.b'

-- # flatten: JSON deeper than 12 levels is refused
-- event: identify_user
-- nested: flatten
select * from (values ('u1', (repeat('{"a":', 12) || '1' || repeat('}', 12))::json), ('u2', (repeat('{"a":', 13) || '1' || repeat('}', 13))::json)) t(user_id, v);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v.a.a.a.a.a.a.a.a.a.a.a.a":1}}
--> invalid: json_too_deep

-- # flatten: STRUCT with JSON and MAP inside
-- event: identify_user
-- nested: flatten
select 'u1' as user_id, {'j': '{"a": {"b": 1}}'::json, 'm': map {'k': {'z': 1}}} as s;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"s.j":"{\"a\": {\"b\": 1}}","s.m.k.z":1}}

-- # error: a nested column
-- event: identify_user
-- nested: error
select 'u1' as user_id, [1] as tags;
--> error: column 'tags' is nested, and the model says nested: error

-- # error: a JSON column
-- event: identify_user
-- nested: error
select 'u1' as user_id, '1'::json as tags;
--> error: column 'tags' is nested, and the model says nested: error

-- # MAPs with nested keys
-- event: identify_user
select 'u1' as user_id, map {[1]: 2} as odd;
--> error: column 'odd': a MAP with nested keys cannot be sent; cast it to text, or exclude it

-- # VARIANT: NaN and infinities inside are null, in strings they stay
-- event: identify_user
select * from (values ('u1', {'a': 'nan'::double, 'b': ['inf'::double, 1, '-inf'::double]}::variant), ('u2', {'NaN': ',NaN]', 'b': '"-Infinity'}::variant), ('u3', {'x': '-NaN:', 'n': -1, 'I': 'nan'::float, 'y': 'NaN'}::variant)) t(user_id, v);
--> (nan_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"{\"a\":null,\"b\":[null,1.0,null]}"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"{\"NaN\":\",NaN]\",\"b\":\"\\\"-Infinity\"}"}}
--> (nan_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"v":"{\"I\":null,\"n\":-1,\"x\":\"-NaN:\",\"y\":\"NaN\"}"}}

-- # VARIANT: NaN in metadata
-- event: identify_user
select * from (values ('u1', {'a': 'nan'::double, 'b': 1}::variant), ('u2', {'a': 1.5::double, 'b': 1}::variant)) t(user_id, metadata);
--> (nan_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":null,"b":1}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":1.5,"b":1}}

-- # VARIANT: NaN further in, and flattened
-- event: identify_user
-- nested: flatten
select 'u1' as user_id, {'a': {'b': 'nan'::double}}::variant as v, {'s': ['inf'::double::variant]} as st;
--> (nan_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"st.s":"[null]","v.a.b":null}}

-- # a STRUCT without names
-- event: identify_user
select 'u1' as user_id, [row(1, 'x')] as st;
--> error: column 'st': a STRUCT whose fields have no names cannot be sent; name them ({'a': 1}, struct_pack), or cast it to text
