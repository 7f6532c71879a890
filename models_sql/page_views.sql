{#
  Pages that signed-in users looked at -> Userpilot page views.

  Events are append-only: Userpilot cannot take one back. A page_view_id that was delivered never goes again, whatever
  happens to its row later; so rows may come late or be loaded twice without harm.

    lag              how late a row may come; a longer one costs reading, nothing else, as known keys are dropped
    begin            where the first run starts: 'all', 'now', or a value of the cursor such as '2025-02-01'
    exclude_columns  needed to tell rows apart, of no use in Userpilot
#}
{{ config(
    event='page_view',
    unique_key='page_view_id',
    cursor='_loaded_at',
    lag='2 hours',
    begin='all',
    exclude_columns=['page_view_id'],
    tags=['events', 'hourly'],
    description='Page views of signed-in users'
) }}

select
    pv.id as page_view_id,
    pv.user_id,
    pv.company_id,

    -- Columns with these names are fields of the event. From url, hostname and pathname are derived; all three are sent.
    pv.url,
    pv.country_code,
    pv.screen_width,
    pv.screen_height,
    pv.browser_language,
    pv.user_agent,                       -- Userpilot derives browser and operating system from it
    pv.device_type,

    -- Any other column becomes a property of the event.
    pv.referrer,

    pv.viewed_at as inserted_at,         -- required for events: when it happened, never when it was loaded
    pv._loaded_at

from {{ source('app', 'page_views') }} as pv

-- Visitors who are not signed in have no user_id. Without this line each such row would be refused and counted.
where pv.user_id is not null
{% if is_incremental() %}
    and pv._loaded_at >= {{ cursor_from() }}
{% endif %}
