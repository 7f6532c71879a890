"""One window of one model, from its SQL file to sealed batches.

`prepare` makes the model ready to read, `cursors` looks at its cursor column, `reading` streams and compares its rows
(`inside`: where the warehouse does that), `narrow` finds refused rows again, `guard` stops what looks wrong, and
`extract` seals and records the rest.
"""
