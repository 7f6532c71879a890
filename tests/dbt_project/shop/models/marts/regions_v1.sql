select 'eu' as region
