{{ config(materialized='ephemeral') }}

select * from {{ ref('stg_accounts') }} where price_cents > 0
