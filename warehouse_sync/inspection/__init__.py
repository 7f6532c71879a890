"""Looks without acting: nothing in here has a client or a writable store in its hands.

preview.py    what a run would do (`plan`, `show`)
explain.py    why one key was or was not sent
validate.py   whether models would still run, without reading a row
"""
