{#
  People who sign in -> Userpilot users.

  One row per user, as it is now. Company first, then user, then events: a run sends the models in that order.

  Names and e-mail addresses are personal data. Check with whoever is responsible for it before you send them; a column
  that is not selected here never leaves the warehouse.

    rename          Userpilot has its own places for name, email and created_at
    ignore_changes  sent, but a login alone is no reason to send somebody again
#}
{{ config(
    event='identify_user',
    unique_key='user_id',
    cursor='_loaded_at',
    rename={'full_name': 'name'},
    ignore_changes=['last_seen_at', 'login_count'],
    tags=['profiles', 'daily'],
    description='People who sign in, with their role and plan'
) }}

select
    u.id as user_id,
    u.company_id,                        -- a user has one company in Userpilot; another id here moves the user
    u.full_name,
    u.email,
    u.job_title,
    u.is_admin,
    u.plan,
    u.login_count,
    u.last_seen_at,                      -- times without a zone are read in models.timezone of the YAML (default UTC)
    u.onboarded_on,
    u.created_at,
    u.updated_at as inserted_at,
    u._loaded_at

from {{ source('app', 'users') }} as u

{% if is_incremental() %}
where u._loaded_at >= {{ cursor_from() }}
{% endif %}
