{#
  What people do in the app -> Userpilot tracked events.

  This event log has no id of its own, so there is no unique_key. Rows that were read before are then told apart by
  their whole content, at the cursor's last value only: the lag is 0, and a row that is loaded later must not carry an
  earlier _loaded_at. Where your log has an id, name it in unique_key as page_views.sql does.

    nulls   'omit' (the default for events): a property that is NULL is left out
    nested  'json' (the default): a list or an object inside metadata is sent as JSON text
    rename  see the column source below
#}
{{ config(
    event='track',
    cursor='_loaded_at',
    begin='all',
    nulls='omit',
    nested='json',
    rename={'source': 'metadata.source'},
    tags=['events', 'hourly'],
    description='Actions of users in the app'
) }}

select
    e.user_id,
    e.company_id,
    e.name as event_name,                -- keep the number of distinct names small: put what varies into properties

    -- `source` is a field of the Import API with fixed values. Our column means something else, the channel of the app;
    -- rename makes it a property. The field itself comes from userpilot.source in the YAML.
    e.source,

    -- A JSON (VARIANT, jsonb, STRUCT, MAP) column of this name: each of its keys becomes a property.
    e.properties as metadata,

    e.occurred_at as inserted_at,
    e._loaded_at

from {{ source('app', 'events') }} as e

{% if is_incremental() %}
where e._loaded_at >= {{ cursor_from() }}
{% endif %}
