"""One run.

request_queue.py   what each model is read for
run.py             rounds: extract, deliver, settle
results.py         how each model ended
retry.py           what failed, was refused or is held, as the requests of a run
"""
