"""Unit tests of models on the embedded DuckDB: the real way of a row, on rows that a file gives, with no warehouse.

models_sql/tests/*.yml  ->  project/unit_tests.py: what is given, what is expected
given.py                    rows -> views; source() and ref() -> their names
translate.py                the warehouse's SQL -> DuckDB's, or the line that cannot be
fixture.py                  both as a Warehouse
check.py                    render, prepare, read, encode, as `run` does; then
match.py                    what came, beside what was expected
junit.py                    the outcomes for a CI server
"""
