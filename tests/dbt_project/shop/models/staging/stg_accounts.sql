select id, email, plan, price_cents, signed_up_at, changed_at
from {{ source('app', 'accounts') }}
