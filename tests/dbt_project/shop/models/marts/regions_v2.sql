select 'eu' as region, 'Europe' as title
