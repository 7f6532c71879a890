-- Every row of the value table (design, section 3).

-- # integers of every width, digits only
-- event: identify_user
select 'u1' as user_id, 127::tinyint as a, (-32768)::smallint as b, 2147483647::int as c, 9007199254740992::bigint as d,
    255::utinyint as e, 65535::usmallint as f, 4294967295::uinteger as g, 7::ubigint as h;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":127,"b":-32768,"c":2147483647,"d":9007199254740992,"e":255,"f":65535,"g":4294967295,"h":7}}

-- # integers beyond 2^53 in full, noted
-- event: identify_user
select * from (values ('u1', 9007199254740993::bigint, 18446744073709551615::ubigint, 170141183460469231731687303715884105727::hugeint),
    ('u2', 1, 1, 1)) t(user_id, a, b, c);
--> (beyond_2_53) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":9007199254740993,"b":18446744073709551615,"c":170141183460469231731687303715884105727}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":1,"b":1,"c":1}}

-- # decimals keep their zeros
-- event: identify_user
select 'u1' as user_id, 34.70::decimal(10,2) as price, 0.05::decimal(2,2) as share, (-0.05)::decimal(2,2) as loss,
    (-0.50)::decimal(18,18) as fine, 0.5::decimal(38,38) as finest, 0::decimal(4,4) as nil,
    12345678901234567890.10::decimal(38,2) as wide, 12.50::decimal(38,2) as fits, 99999999999999999999999999999999999999::decimal(38,0) as widest,
    1.0000000000000000000000000::decimal(38,25) as precise;
--> (beyond_2_53) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"price":34.70,"share":0.05,"loss":-0.05,"fine":-0.500000000000000000,"finest":0.50000000000000000000000000000000000000,"nil":0.0000,"wide":12345678901234567890.10,"fits":12.50,"widest":99999999999999999999999999999999999999,"precise":1.0000000000000000000000000}}

-- # floats: shortest digits; NaN and infinities are null, noted
-- event: identify_user
select * from (values ('u1', 0.1::double, 0.1::float), ('u2', 1e20, 3.4e38::float), ('u3', 5.0, '-0.0'::float), ('u4', 'nan', 1::float), ('u5', 1e-7, '-inf'),
    ('u6', 1.7976931348623157e308, 1e-45::float), ('u7', 5e-324, 16777216::float)) t(user_id, score, ratio);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"score":0.1,"ratio":0.1}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"score":1e+20,"ratio":3.4e+38}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"score":5.0,"ratio":-0.0}}
--> (nan_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"score":null,"ratio":1.0}}
--> (nan_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u5","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"score":1e-07,"ratio":null}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u6","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"score":1.7976931348623157e+308,"ratio":1e-45}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u7","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"score":5e-324,"ratio":16777216.0}}

-- # floats that are no number are left out under nulls: omit
-- event: identify_user
-- nulls: omit
select * from (values ('u1', 'nan'::double, 1), ('u2', 2, NULL), ('u3', 'inf', NULL), ('u4', NULL, 4)) t(user_id, score, n);
--> (nan_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"n":1}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"score":2.0}}
--> (nan_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"n":4}}

-- # booleans
-- event: identify_user
select * from (values ('u1', true), ('u2', false), ('u3', null)) t(user_id, is_admin);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"is_admin":true}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"is_admin":false}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"is_admin":null}}

-- # text: quotes, backslashes, control characters, U+2028, emoji; NUL is removed from properties, noted
-- event: identify_user
select * from (values ('u1', 'say "hi" \ / ok'), ('u2', 'a' || chr(10) || chr(13) || chr(9) || chr(1) || chr(127) || 'b'), ('u3', 'x' || chr(8232) || 'y 😀 ü'),
    ('u4', 'n' || chr(0) || 'u' || chr(0) || 'l "'), ('u5', ''), ('u6', '\u0000'), ('u7', chr(0)), ('u8', null)) t(user_id, name);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"name":"say \"hi\" \\ / ok"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"name":"a\n\r\t\u0001b"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"name":"x y 😀 ü"}}
--> (nul_removed) {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"name":"nul \""}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u5","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"name":""}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u6","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"name":"\\u0000"}}
--> (nul_removed) {"event_type":"identify_user","source":"backend-http-import","user_id":"u7","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"name":""}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u8","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"name":null}}

-- # UUID and enum
-- event: identify_user
select 'e9b2a0c4-7f6f-4a39-8d7e-3c1c36b3a5f1'::uuid as user_id, '00000000-0000-0000-0000-000000000001'::uuid as device, 'pro "x"'::enum('free', 'pro "x"') as plan;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"e9b2a0c4-7f6f-4a39-8d7e-3c1c36b3a5f1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"device":"00000000-0000-0000-0000-000000000001","plan":"pro \"x\""}}

-- # date; far years are null, noted
-- event: identify_user
select * from (values ('u1', date '2026-02-03'), ('u2', date '0044-03-15'), ('u3', 'infinity'::date), ('u4', '0044-03-15 (BC)'::date), ('u5', date '12024-01-01'), ('u6', null)) t(user_id, born);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"born":"2026-02-03"}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"born":"0044-03-15"}}
--> (time_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"born":null}}
--> (time_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"born":null}}
--> (time_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u5","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"born":null}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u6","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"born":null}}

-- # time and interval as text
-- event: identify_user
select 'u1' as user_id, time '08:05:00.5' as opens, interval '1 month 2 days 3 seconds' as trial, interval '-90 minutes' as late;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"opens":"08:05:00.5","trial":"1 month 2 days 00:00:03","late":"-01:30:00"}}

-- # time with zone and bit strings as text
-- event: identify_user
-- native_only: true
select 'u1' as user_id, '08:05:00+02'::timetz as opens, '0101'::bit as flags;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"opens":"08:05:00+02","flags":"0101"}}

-- # timestamps: naive ones without suffix, aware ones in UTC with Z, nanoseconds cut off
-- event: identify_user
select 'u1' as user_id, timestamp '2026-01-02 03:04:05.678901' as us, timestamp_s '2026-01-02 03:04:05' as s, timestamp_ms '2026-01-02 03:04:05.678' as ms,
    timestamp_ns '2026-01-02 03:04:05.678901999' as ns, timestamp_ns '1969-12-31 23:59:59.999999999' as before,
    timestamptz '2026-01-02 03:04:05.678901+02' as aware, timestamp '0044-03-15' as ides;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"us":"2026-01-02T03:04:05.678901","s":"2026-01-02T03:04:05.000000","ms":"2026-01-02T03:04:05.678000","ns":"2026-01-02T03:04:05.678901","before":"1969-12-31T23:59:59.999999","aware":"2026-01-02T01:04:05.678901Z","ides":"0044-03-15T00:00:00.000000"}}

-- # naive timestamps are in models.timezone and are sent in UTC
-- event: identify_user
-- timezone: Europe/Berlin
select 'u1' as user_id, timestamp '2026-07-02 03:04:05' as summer, timestamp '2026-01-02 03:04:05' as winter, timestamp '2026-03-29 02:30:00' as gap,
    timestamptz '2026-07-02 03:04:05+00' as aware, timestamp '0001-01-01' as first, timestamp '9999-12-31 23:59:59.999999' as last;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"summer":"2026-07-02T01:04:05.000000","winter":"2026-01-02T02:04:05.000000","gap":"2026-03-29T01:30:00.000000","aware":"2026-07-02T03:04:05.000000Z","first":"0001-01-01T00:00:00.000000","last":"9999-12-31T23:59:59.999999"}}

-- # infinite timestamps and far years are null, noted
-- event: identify_user
select * from (values ('u1', 'infinity'::timestamp, 'infinity'::timestamptz), ('u2', '-infinity', '-infinity'), ('u3', timestamp '12024-01-01', '12024-01-01 00:00:00+00'),
    ('u4', '0044-03-15 (BC) 00:00:00', '0044-03-15 (BC) 00:00:00+00'), ('u5', '290309-12-22 (BC) 00:00:00', '294247-01-10 04:00:54.775806+00'), ('u6', null, null)) t(user_id, a, b);
--> (time_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":null,"b":null}}
--> (time_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":null,"b":null}}
--> (time_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":null,"b":null}}
--> (time_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u4","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":null,"b":null}}
--> (time_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u5","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":null,"b":null}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u6","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":null,"b":null}}

-- # far timestamps in another zone do not stop the query
-- event: identify_user
-- timezone: America/Los_Angeles
select * from (values ('u1', 'infinity'::timestamp), ('u2', timestamp '294247-01-10 04:00:54'), ('u3', timestamp '290309-12-22 (BC) 00:00:00')) t(user_id, a);
--> (time_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":null}}
--> (time_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":null}}
--> (time_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"a":null}}

-- # infinite timestamps of other units
-- event: identify_user
select 'u1' as user_id, 'infinity'::timestamp_ns as ns, '-infinity'::timestamp_ns as before, '12024-01-01'::timestamp_s as s, '12024-01-01'::timestamp_ms as ms;
--> (time_to_null) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"ns":null,"before":null,"s":null,"ms":null}}

-- # a column of NULLs without a type
-- event: identify_user
select 'u1' as user_id, null as nothing, null as company_id, null as inserted_at, null as metadata;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"nothing":null}}

-- # big integers
-- event: identify_user
-- native_only: true
select * from (values ('u1', 123456789012345678901234567890123456789012345678901234567890::bignum, 340282366920938463463374607431768211455::uhugeint), ('u2', -1, 1), ('u3', null, null)) t(user_id, n, u);
--> (beyond_2_53) {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"n":123456789012345678901234567890123456789012345678901234567890,"u":340282366920938463463374607431768211455}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u2","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"n":-1,"u":1}}
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u3","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"n":null,"u":null}}
