-- The four event types: which columns are fields, which properties; required fields; rules of the page "Row Validation".

-- # identify_company reads company_id and inserted_at only; every other column is a property
-- event: identify_company
select 'c1' as company_id, timestamp '2026-01-01' as inserted_at, 'Acme' as name, 'x' as hostname, 'y' as source, 'u' as user_id;
--> {"event_type":"identify_company","source":"backend-http-import","company_id":"c1","inserted_at":"2026-01-01T00:00:00.000000","metadata":{"name":"Acme","hostname":"x","source":"y","user_id":"u"}}

-- # identify_user: without context the page's columns are properties
-- event: identify_user
select 'u1' as user_id, 'c1' as company_id, 'app.example.com' as hostname, 'e' as event_name, 's' as source, 'Ada' as name;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","company_id":"c1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"hostname":"app.example.com","event_name":"e","source":"s","name":"Ada"}}

-- # identify_user with context: they are fields
-- event: identify_user
-- context: true
select 'u1' as user_id, 'Desktop' as device_type, 'app.example.com' as hostname, '/a' as pathname, 1280 as screen_width, 'Ada' as name;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","hostname":"app.example.com","pathname":"/a","screen_width":1280,"device_type":"Desktop","inserted_at":"2026-06-01T12:00:00.000000","metadata":{"name":"Ada"}}

-- # page_view: fields in the order of the examples; no metadata without properties
-- event: page_view
select timestamp '2026-01-01 10:00:00' as inserted_at, 'agent "x"' as user_agent, 'Desktop' as device_type, 'en-US' as browser_language, 'Chrome' as browser, 'Mac' as operating_system,
    720 as screen_height, 1280 as screen_width, 'DE' as country_code, '/a' as pathname, 'app.example.com' as hostname, '' as event_name, 'c1' as company_id, 'u1' as user_id;
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u1","company_id":"c1","event_name":"","hostname":"app.example.com","pathname":"/a","country_code":"DE","screen_width":1280,"screen_height":720,"operating_system":"Mac","browser":"Chrome","browser_language":"en-US","user_agent":"agent \"x\"","device_type":"Desktop","inserted_at":"2026-01-01T10:00:00.000000"}

-- # page_view with properties
-- event: page_view
select * from (values ('u1', 'h', '/', timestamp '2026-01-01', 'x'), ('u2', 'h', '/', timestamp '2026-01-01', null)) t(user_id, hostname, pathname, inserted_at, theme);
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u1","hostname":"h","pathname":"/","inserted_at":"2026-01-01T00:00:00.000000","metadata":{"theme":"x"}}
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u2","hostname":"h","pathname":"/","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}

-- # track: optional fields are left out when NULL and sent when empty; metadata is always there
-- event: track
select * from (values ('u1', 'login', timestamp '2026-01-01', null, ''), ('u2', 'login', timestamp '2026-01-01', '', null)) t(user_id, event_name, inserted_at, company_id, country_code);
--> {"event_type":"track","source":"backend-http-import","user_id":"u1","event_name":"login","country_code":"","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> {"event_type":"track","source":"backend-http-import","user_id":"u2","company_id":"","event_name":"login","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}

-- # required: NULL, empty, and nothing but white space, separators and control characters
-- event: track
select * from (values (null, 'login', timestamp '2026-01-01'), ('', null, timestamp '2026-01-01'), (' ' || chr(9) || chr(160) || chr(8232) || chr(8203) || chr(127), ' x ', timestamp '2026-01-01'),
    ('~', '!', timestamp '2026-01-01'), ('ü', '~x', timestamp '2026-01-01'), ('u', ' ', null), (chr(12288), 'a', timestamp '2026-01-01')) t(user_id, event_name, inserted_at);
--> invalid: user_id_missing
--> invalid: user_id_missing, event_name_missing
--> invalid: user_id_missing
--> {"event_type":"track","source":"backend-http-import","user_id":"~","event_name":"!","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> {"event_type":"track","source":"backend-http-import","user_id":"ü","event_name":"~x","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> invalid: event_name_missing, inserted_at_missing
--> invalid: user_id_missing

-- # ids of other types
-- event: identify_user
select 42 as user_id, 12345678901234567890::decimal(38,0) as company_id;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"42","company_id":"12345678901234567890","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}

-- # NUL in ids and required fields is refused, in optional fields removed
-- event: track
select * from (values ('u' || chr(0), 'e', null, 'x', timestamp '2026-01-01'), ('u', 'e' || chr(0), null, 'x', timestamp '2026-01-01'), ('u', 'e', 'c' || chr(0), 'x', timestamp '2026-01-01'), ('u', 'e', 'c', 'D' || chr(0) || 'E', timestamp '2026-01-01'))
    t(user_id, event_name, company_id, country_code, inserted_at);
--> invalid: nul_character
--> invalid: nul_character
--> invalid: nul_character
--> (nul_removed) {"event_type":"track","source":"backend-http-import","user_id":"u","company_id":"c","event_name":"e","country_code":"DE","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}

-- # event_type has to be the header's
-- event: identify_user
select * from (values ('u1', 'identify_user'), ('u2', 'track'), ('u3', null)) t(user_id, event_type);
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}
--> invalid: event_type_mismatch
--> invalid: event_type_mismatch

-- # source as a column
-- event: track
select * from (values ('backend-http'), ('backend-hubspot'), ('backend-salesforce'), ('backend-segment'), ('backend-http-import'), ('web'), (''), (null)) t(source), (select 'u' as user_id, 'e' as event_name, timestamp '2026-01-01' as inserted_at);
--> {"event_type":"track","source":"backend-http","user_id":"u","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> {"event_type":"track","source":"backend-hubspot","user_id":"u","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> {"event_type":"track","source":"backend-salesforce","user_id":"u","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> {"event_type":"track","source":"backend-segment","user_id":"u","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> {"event_type":"track","source":"backend-http-import","user_id":"u","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> invalid: unknown_source
--> invalid: unknown_source
--> invalid: unknown_source

-- # web-client rows need hostname, pathname and user_agent
-- event: track
select *, 'u' as user_id, 'e' as event_name, timestamp '2026-01-01' as inserted_at from (values ('web-client', 'h', '/', 'a'), ('web-client', null, ' ', ''), ('backend-http', null, ' ', '')) t(source, hostname, pathname, user_agent);
--> {"event_type":"track","source":"web-client","user_id":"u","event_name":"e","hostname":"h","pathname":"/","user_agent":"a","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> invalid: hostname_missing, pathname_missing, user_agent_missing
--> {"event_type":"track","source":"backend-http","user_id":"u","event_name":"e","pathname":" ","user_agent":"","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}

-- # web-client rows without these columns at all
-- event: track
select *, 'u' as user_id, 'e' as event_name, timestamp '2026-01-01' as inserted_at from (values ('web-client'), ('backend-http')) t(source);
--> invalid: hostname_missing, pathname_missing, user_agent_missing
--> {"event_type":"track","source":"backend-http","user_id":"u","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}

-- # a web-client model makes them required
-- event: track
-- source: web-client
select *, 'u' as user_id, 'e' as event_name, timestamp '2026-01-01' as inserted_at from (values ('https://a.example/x', 'a'), (null, 'a'), ('https://a.example', chr(9))) t(url, user_agent);
--> {"event_type":"track","source":"web-client","user_id":"u","event_name":"e","hostname":"a.example","pathname":"/x","url":"https://a.example/x","user_agent":"a","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> invalid: hostname_missing, pathname_missing
--> invalid: user_agent_missing

-- # a web-client model of companies needs nothing more
-- event: identify_company
-- source: web-client
select 'c1' as company_id;
--> {"event_type":"identify_company","source":"web-client","company_id":"c1","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}

-- # url: hostname and pathname are taken from it, and all three are sent
-- event: page_view
select *, 'u' as user_id, timestamp '2026-01-01' as inserted_at from (values ('https://app.example.com/users/list?tab=1#top'), ('http://app.example.com'), ('https://app.example.com?x=1'), ('https://app.example.com#a/b'),
    ('https://ada:pw@app.example.com:8443/a%20b/?q'), ('HTTPS://[2001:db8::1]:80/six'), ('https://a.example/with space'), ('app+x://host/p'), ('https://bücher.example/ü'), ('https://h:/p')) t(url);
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"app.example.com","pathname":"/users/list","url":"https://app.example.com/users/list?tab=1#top","inserted_at":"2026-01-01T00:00:00.000000"}
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"app.example.com","pathname":"/","url":"http://app.example.com","inserted_at":"2026-01-01T00:00:00.000000"}
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"app.example.com","pathname":"/","url":"https://app.example.com?x=1","inserted_at":"2026-01-01T00:00:00.000000"}
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"app.example.com","pathname":"/","url":"https://app.example.com#a/b","inserted_at":"2026-01-01T00:00:00.000000"}
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"app.example.com","pathname":"/a%20b/","url":"https://ada:pw@app.example.com:8443/a%20b/?q","inserted_at":"2026-01-01T00:00:00.000000"}
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"[2001:db8::1]","pathname":"/six","url":"HTTPS://[2001:db8::1]:80/six","inserted_at":"2026-01-01T00:00:00.000000"}
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"a.example","pathname":"/with space","url":"https://a.example/with space","inserted_at":"2026-01-01T00:00:00.000000"}
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"host","pathname":"/p","url":"app+x://host/p","inserted_at":"2026-01-01T00:00:00.000000"}
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"bücher.example","pathname":"/ü","url":"https://bücher.example/ü","inserted_at":"2026-01-01T00:00:00.000000"}
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"h","pathname":"/p","url":"https://h:/p","inserted_at":"2026-01-01T00:00:00.000000"}

-- # url without scheme or host
-- event: page_view
select *, 'u' as user_id, timestamp '2026-01-01' as inserted_at from (values ('app.example.com/users'), ('https:///x'), ('https://'), ('//host/x'), ('mailto:a@b'), (''), ('https://a b/x'), ('1http://h/'), ('https://@/x'), (null), ('https://h:x/p'), ('https://[::1/p')) t(url);
--> invalid: url_invalid
--> invalid: url_invalid
--> invalid: url_invalid
--> invalid: url_invalid
--> invalid: url_invalid
--> invalid: url_invalid
--> invalid: url_invalid
--> invalid: url_invalid
--> invalid: url_invalid
--> invalid: hostname_missing, pathname_missing
--> invalid: url_invalid
--> invalid: url_invalid

-- # url wins over hostname and pathname, which stand in for a NULL url
-- event: page_view
select *, 'u' as user_id, timestamp '2026-01-01' as inserted_at from (values ('https://a.example/x', 'b', '/y'), (null, 'b', '/y'), (null, 'b', null), ('https://a.example', null, '/y')) t(url, hostname, pathname);
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"a.example","pathname":"/x","url":"https://a.example/x","inserted_at":"2026-01-01T00:00:00.000000"}
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"b","pathname":"/y","inserted_at":"2026-01-01T00:00:00.000000"}
--> invalid: pathname_missing
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"a.example","pathname":"/","url":"https://a.example","inserted_at":"2026-01-01T00:00:00.000000"}

-- # url in track is optional
-- event: track
select *, 'u' as user_id, 'e' as event_name, timestamp '2026-01-01' as inserted_at from (values ('https://a.example/x'), (null)) t(url);
--> {"event_type":"track","source":"backend-http-import","user_id":"u","event_name":"e","hostname":"a.example","pathname":"/x","url":"https://a.example/x","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}
--> {"event_type":"track","source":"backend-http-import","user_id":"u","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}

-- # several reasons at once
-- event: page_view
select '' as user_id, null::varchar as hostname, ' ' as pathname, 'nowhere' as source, timestamp '1969-12-31' as inserted_at, 'track' as event_type;
--> invalid: user_id_missing, hostname_missing, pathname_missing, event_type_mismatch, unknown_source, inserted_at_out_of_range

-- # event_name has to be there in track
-- event: track
select 'u' as user_id, timestamp '2026-01-01' as inserted_at;
--> error: track needs event_name, which the query does not return

-- # page_view needs hostname and pathname, or url
-- event: page_view
select 'u' as user_id, 'h' as hostname, timestamp '2026-01-01' as inserted_at;
--> error: page_view needs pathname (or url, which gives both), which the query does not return

-- # page_view and track need inserted_at
-- event: page_view
select 'u' as user_id, 'https://h/' as url;
--> error: page_view needs inserted_at, the time when it happened, which the query does not return

-- # a time that is NULL and of no type is not one that is not returned
-- event: page_view
select 'u1' as user_id, 'h' as hostname, 'p' as pathname, NULL as inserted_at;
--> error: page_view needs inserted_at, the time when it happened, and inserted_at is NULL in every row

-- # a renamed load time is no accident
-- event: track
-- rename: {loaded: inserted_at}
select 'u' as user_id, 'e' as event_name, timestamp '2026-01-01' as loaded;
--> {"event_type":"track","source":"backend-http-import","user_id":"u","event_name":"e","inserted_at":"2026-01-01T00:00:00.000000","metadata":{}}

-- # ids of floats are a configuration error
-- event: identify_user
select 1.5::double as user_id;
--> error: column 'user_id' is DOUBLE, and user_id has to be text, UUID, enum or a whole number

-- # ids of decimals with a fraction are a configuration error
-- event: identify_user
select 1.50::decimal(10,2) as user_id;
--> error: column 'user_id' is DECIMAL(10,2), and user_id has to be text, UUID, enum or a whole number

-- # ids of timestamps are a configuration error
-- event: identify_user
select 'u' as user_id, timestamp '2026-01-01' as company_id;
--> error: column 'company_id' is TIMESTAMP, and company_id has to be text, UUID, enum or a whole number

-- # ids of JSON are a configuration error
-- event: identify_user
select '"u"'::json as user_id;
--> error: column 'user_id' is JSON, and user_id has to be text, UUID, enum or a whole number

-- # screen sizes are whole numbers
-- event: page_view
select 'u' as user_id, 'https://h/' as url, timestamp '2026-01-01' as inserted_at, 1280::decimal(38,0) as screen_width, null::int as screen_height;
--> {"event_type":"page_view","source":"backend-http-import","user_id":"u","hostname":"h","pathname":"/","url":"https://h/","screen_width":1280,"inserted_at":"2026-01-01T00:00:00.000000"}

-- # screen sizes as text are a configuration error
-- event: page_view
select 'u' as user_id, 'https://h/' as url, timestamp '2026-01-01' as inserted_at, '1280' as screen_width;
--> error: column 'screen_width' is VARCHAR, and has to be a whole number

-- # a web-client model of users without context
-- event: identify_user
-- source: web-client
select 'u' as user_id, 'h' as hostname, '/' as pathname, 'a' as user_agent;
--> error: source web-client needs hostname, pathname, user_agent, which the query does not return

-- # an unknown source in the header
-- event: identify_user
-- source: web
select 'u' as user_id;
--> error: source 'web' is unknown

-- # binary columns are a configuration error
-- event: identify_user
select 'u' as user_id, 'x'::blob as picture;
--> error: column 'picture': BLOB values cannot be sent; cast the column to text, or exclude it

-- # unless excluded
-- event: identify_user
-- exclude_columns: [picture]
select 'u' as user_id, 'x'::blob as picture, 'y'::blob as _raw;
--> {"event_type":"identify_user","source":"backend-http-import","user_id":"u","inserted_at":"2026-06-01T12:00:00.000000","metadata":{}}

-- # binary inside a struct
-- event: identify_user
select 'u' as user_id, {'a': [{'b': 'x'::blob}]} as profile;
--> error: column 'profile': binary values cannot be sent; cast the column to text, or exclude it
