"""One file per kind of warehouse, all behind one Protocol (`base.py`)."""
