"""From an Arrow schema and a model header to DuckDB SQL that checks, hashes and encodes rows. Pure: text comes out."""
