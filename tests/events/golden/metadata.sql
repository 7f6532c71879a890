-- A metadata column: its keys become properties; a column of the same name wins; numbers are spliced as text.

-- # flat JSON is spliced as it is
-- event: identify_user
select * from (values ('u1', '{"a":1,"price":12345678901234567890.10,"b":"x","c":null,"d":true,"e":1E-7}'::json), ('u2', '{ "a" : 34.70 }'), ('u3', '{}'), ('u4', null), ('u5', 'null'), ('u6', '{ }'), ('u7', '{"q":"say \"hi\" \\ \u00e9 \ud83d\ude00"}'), ('u8', ' {"a":1} ')) t(user_id, metadata);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":1,"price":12345678901234567890.10,"b":"x","c":null,"d":true,"e":1E-7}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{ "a" : 34.70 }}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u5","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u6","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u7","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"q":"say \"hi\" \\ \u00e9 \ud83d\ude00"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u8","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":1}}

-- # as text, in any case, in several lines
-- event: identify_user
select 'u1' as user_id, '{' || chr(10) || '  "a": 1.50,' || chr(13) || chr(10) || '  "b": "x"' || chr(10) || '}' as "Metadata";
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{   "a": 1.50,    "b": "x" }}

-- # columns come first, and win
-- event: identify_user
select * from (values ('u1', 'Pro', '{"seats":5,"plan":"Free"}'::json), ('u2', null, '{"plan":"Free"}'), ('u3', 'Pro', '{"note":"\"plan\": x"}'), ('u4', 'Pro', '{"pl\u0061n":1,"x":2}'), ('u5', 'Pro', null), ('u6', 'Pro', '{}')) t(user_id, plan, metadata);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan":"Pro","seats":5}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan":null}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan":"Pro","note":"\"plan\": x"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan":"Pro","x":2}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u5","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan":"Pro"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u6","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan":"Pro"}}

-- # under nulls: omit
-- event: track
select 'e' as event_name, timestamp '2026-01-01' as inserted_at, * from (values ('u1', null, '{"seats":5,"x":null}'::json), ('u2', 'Pro', '{"seats":5}'), ('u3', null, null), ('u4', null, '{}')) t(user_id, plan, metadata);
--> {"event_type":"track","source":"backend-http-import","user_id":"u1","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{"seats":5,"x":null}}
--> {"event_type":"track","source":"backend-http-import","user_id":"u2","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{"plan":"Pro","seats":5}}
--> {"event_type":"track","source":"backend-http-import","user_id":"u3","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> {"event_type":"track","source":"backend-http-import","user_id":"u4","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}

-- # duplicate keys: the last one counts
-- event: identify_user
select 'u1' as user_id, '{"a":1,"b":2.50,"\u0061":3}' as metadata;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"b":2.50,"a":3}}

-- # nested values inside are JSON strings
-- event: identify_user
select 'u1' as user_id, '{"a": {"b": [1.50, "x\"y"]}, "c": [12345678901234567890.10], "d": 1}'::json as metadata;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":"{\"b\": [1.50, \"x\\\"y\"]}","c":"[12345678901234567890.10]","d":1}}

-- # nested values inside, flattened
-- event: identify_user
-- nested: flatten
select 'u1' as user_id, '{"a": {"b": [1.50, "x\"y"], "c": {"d": 1.10}}, "e": 1}'::json as metadata;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a.b":"[1.50, \"x\\\"y\"]","a.c.d":1.10,"e":1}}

-- # nested values inside, refused
-- event: identify_user
-- nested: error
select * from (values ('u1', '{"a": {"b": 1}}'), ('u2', '{"a": "{"}'), ('u3', '[1]'), ('u4', '{"a":}')) t(user_id, metadata);
--> invalid: nested_value
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a": "{"}}
--> invalid: metadata_not_object
--> invalid: metadata_malformed

-- # not an object, or not JSON
-- event: identify_user
select * from (values ('u1', '[1]'), ('u2', '"x"'), ('u3', '1'), ('u4', '{"a":NaN}'), ('u5', '{"a":1,}'), ('u6', '{a:1}'), ('u7', ''), ('u8', '{"a":"\ud83d"}'), ('u9', '{"a":1}{'), ('u10', '{"a":-Infinity}'), ('u11', '{"a":01}'),
    ('u12', '{"a":"' || chr(10) || '"}'), ('u13', '{"a":1.}'), ('u14', '{"\udc00":1}'), ('u15', '{"a":1 "b":2}'), ('u16', '{"a":nan}'), ('u17', '{"a":[1,]}'), ('u18', '{"a":1/*x*/}'), ('u19', 'NULL')) t(user_id, metadata);
--> invalid: metadata_not_object
--> invalid: metadata_not_object
--> invalid: metadata_not_object
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed
--> invalid: metadata_malformed

-- # NUL escapes are removed, noted
-- event: identify_user
select * from (values ('u1', '{"a":"x\u0000y","b\u0000":1}'), ('u2', '{"a":"x\\u0000y"}'), ('u3', '{"a":"\\\u0000\u0000"}')) t(user_id, metadata);
--> (nul_removed) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":"xy","b":1}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":"x\\u0000y"}}
--> (nul_removed) {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":"\\"}}

-- # too deep
-- event: identify_user
select * from (values ('u1', '{"a":' || repeat('[', 11) || repeat(']', 11) || '}'), ('u2', '{"a":' || repeat('[', 12) || repeat(']', 12) || '}')) t(user_id, metadata);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":"[[[[[[[[[[[]]]]]]]]]]]"}}
--> invalid: json_too_deep

-- # STRUCT
-- event: identify_user
select * from (values ('u1', {'plan': 'Pro', 'seats': 5, 'geo': {'lat': 1}}, 'wins'), ('u2', null, null)) t(user_id, metadata, plan);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan":"wins","seats":5,"geo":"{\"lat\":1}"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan":null,"seats":null,"geo":null}}

-- # STRUCT, flattened
-- event: identify_user
-- nested: flatten
select 'u1' as user_id, {'plan': 'Pro', 'geo': {'lat': 1.50}} as metadata;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan":"Pro","geo.lat":1.50}}

-- # STRUCT with nested fields under nested: error
-- event: identify_user
-- nested: error
select 'u1' as user_id, {'plan': 'Pro', 'geo': {'lat': 1.50}} as metadata;
--> error: column 'metadata' is nested, and the model says nested: error

-- # MAP
-- event: identify_user
select * from (values ('u1', map {'plan': 'Free', 'k "q"': 'x' || chr(0), 'n': null}, 'wins'), ('u2', map {}, 'x'), ('u3', null, null)) t(user_id, metadata, plan);
--> (nul_removed) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan":"wins","k \"q\"":"x","n":null}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan":"x"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan":null}}

-- # MAP under nulls: omit
-- event: track
select 'e' as event_name, timestamp '2026-01-01' as inserted_at, * from (values ('u1', map {'x': 1.50, 'n': null}), ('u2', null)) t(user_id, metadata);
--> {"event_type":"track","source":"backend-http-import","user_id":"u1","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{"x":1.50}}
--> {"event_type":"track","source":"backend-http-import","user_id":"u2","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}

-- # MAP of numbers, keys too
-- event: identify_user
select 'u1' as user_id, map {1: 'nan'::double, 2: 9.5} as metadata;
--> (nan_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"1":null,"2":9.5}}

-- # MAP of lists
-- event: identify_user
select 'u1' as user_id, map {'tags': ['a', 'b']} as metadata;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"tags":"[\"a\",\"b\"]"}}

-- # MAP of lists under nested: error
-- event: identify_user
-- nested: error
select 'u1' as user_id, map {'tags': ['a', 'b']} as metadata;
--> error: column 'metadata': its values are nested, and the model says nested: error

-- # MAP of structs, flattened
-- event: identify_user
-- nested: flatten
select 'u1' as user_id, map {'geo': {'lat': 1.50, 'at': {'x': 'y'}}} as metadata;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"geo.lat":1.50,"geo.at.x":"y"}}

-- # metadata and a flattened column together
-- event: identify_user
-- nested: flatten
select 'u1' as user_id, '{"v.a": 1, "w": 2, "plan": 3}'::json as metadata, '{"a": "column", "b": 2}'::json as v, 'Pro' as plan;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"plan":"Pro","v.b":2,"v.a":1,"w":2}}

-- # no metadata column of another type
-- event: identify_user
select 'u1' as user_id, 1 as metadata;
--> error: column 'metadata' is INTEGER, and metadata has to be JSON, VARIANT, STRUCT or MAP

-- # renamed, it is one property
-- event: identify_user
-- rename: {metadata: metadata.metadata}
select 'u1' as user_id, '{"a": 1}'::json as metadata;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"metadata":"{\"a\": 1}"}}

-- # page_view with metadata
-- event: page_view
select 'u1' as user_id, 'https://h/' as url, timestamp '2026-01-01' as inserted_at, '{"a":1}' as metadata;
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u1","hostname":"h","pathname":"/","url":"https://h/","inserted_at":"2026-01-01T00:00:00.000000","metadata":{"a":1}}
