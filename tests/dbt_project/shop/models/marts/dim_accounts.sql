select
    id,
    email,
    plan,
    price_cents / 100.0 as price,
    signed_up_at,
    changed_at
from {{ ref('stg_accounts') }}
