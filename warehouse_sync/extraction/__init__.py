"""One window of one model, from its SQL file to sealed batches.

request.py     what is asked of an extraction, and the YAML's rules for it
prepare.py     the model ready to read: contract.py, what it was when rows were sent;
               statement.py, its query within bounds
cursors.py     a look at its cursor column before the first window
reading.py     its rows streamed and compared; pushdown.py: where the warehouse compares
guard.py       what looks wrong is stopped; emptied.py: what is gone is said; renamed.py: new names beside old state
recall.py      refused rows, found again
extract.py     sealed and recorded
"""
