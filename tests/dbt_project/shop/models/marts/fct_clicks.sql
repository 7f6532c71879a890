{{ config(materialized='incremental', unique_key='click_id') }}

select click_id, account_id, page, clicked_at
from {{ source('app', 'clicks') }}
{% if is_incremental() %}
where clicked_at > (select max(clicked_at) from {{ this }})
{% endif %}
