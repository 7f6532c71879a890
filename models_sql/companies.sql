{#
  Customer accounts -> Userpilot companies.

  One row per company, as it is now. Each run reads what was loaded since the last one, compares it with what Userpilot
  was sent before, and sends the companies that are new or changed. The SQL is your warehouse's own dialect; this one
  runs unchanged on DuckDB, Snowflake and PostgreSQL.

    unique_key   what makes a row the same company next time
    cursor       the column that says which rows are read; without one, every run reads the whole table
    lag          read this much again behind the cursor, for rows that were committed late (1 hour is the default)
    nulls        'send' (the default for profiles): a NULL is sent and empties the property; 'omit' leaves it out
    rename       the name that people will see in Userpilot
    tags         for warehouse-sync run --select tag:profiles
#}
{{ config(
    event='identify_company',
    unique_key='company_id',
    cursor='_loaded_at',
    lag='1 hour',
    nulls='send',
    rename={'mrr': 'MRR'},
    tags=['profiles', 'daily'],
    description='Customer accounts with their plan and size'
) }}

select
    c.id as company_id,                  -- becomes the field company_id; numbers are sent as text

    -- Every other column is a property. Send all of them every time: Userpilot may clear what a later row leaves out.
    c.name,
    c.industry,
    c.country_code,
    c.plan,
    c.mrr,                               -- a decimal keeps its digits: 34.70 is sent as 34.70
    c.seats,
    c.employees,
    c.is_trial,
    c.trial_ends_on,
    c.health_score,
    c.created_at,

    -- When this state was true, by the app's clock. Of two rows for one company, Userpilot keeps the later.
    c.updated_at as inserted_at,

    -- The loader's clock. It moves whenever a row is written, updated_at does not always. Names that begin with an
    -- underscore are never sent.
    c._loaded_at

from {{ source('app', 'companies') }} as c

-- The run adds this bound itself. Saying it here as well helps where the warehouse cannot push it into the query.
{% if is_incremental() %}
where c._loaded_at >= {{ cursor_from() }}
{% endif %}
