"""A dbt project beside the models, read as dbt reads it. dbt itself is never imported.

dbt_project.yml -> DbtProject                  project_file.py, ignore.py
profiles.yml    -> the warehouse's settings    profiles.py, config.py
manifest.json   -> ref() and source()          manifest.py, target.py, relations.py
                -> empty tables to bind to     shadow.py
run_results.json, sources.json -> who may run  gate.py
exposures for dbt                              exposures.py
"""
