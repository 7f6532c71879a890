"""The state store: windows, batches, jobs, rejects and destinations, each with its life cycle.

`store.open_store` is the way in and `store.Store` the only public class; `rows` holds the values that it takes and
gives, `lifecycle` the states and their legal moves, `lease` the one-runner-at-a-time lock. `rows`,
`lifecycle` and `lease` import no SQLAlchemy, and cost nothing.
"""
