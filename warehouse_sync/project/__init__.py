"""The project on disk: the YAML file and the models, read, rendered and checked into frozen values.

yaml/           the YAML file: read, expanded, checked        -> config.py: Config
header.py       config() of a model and the YAML's defaults   -> model.py: Model
template.py     Jinja, names of tables                        -> render.py: the SQL of a run
dbt/            manifest, profiles and results of dbt
select.py       --select and --exclude
unit_tests.py   what unit tests give and expect
manifest.py     the models as a file, to compare with later
"""
