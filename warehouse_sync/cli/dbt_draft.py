"""What `init` writes into a dbt project: a YAML that goes by its profile, and the draft of a first model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from warehouse_sync.project.dbt.manifest import ArtefactError, mapping, read_artefact

if TYPE_CHECKING:
    from warehouse_sync.project.dbt.project_file import DbtProject

_PEOPLE = ("user", "person", "people", "contact", "member", "customer", "account")

_CONFIG = """\
# The sync of one dbt project to Userpilot. Everything that is left out has a default; the README lists all keys.
# Relative paths start at this file. `warehouse-sync debug` checks the lot.
#
# yaml-language-server: $schema=schema.json

version: 1
name: {name}                              # names this pipeline in the state store: do not change it later

warehouse:
  # The target of profiles.yml, found as dbt finds it: $DBT_PROFILES_DIR, the project's folder, ~/.dbt. `target: prod`
  # chooses another one than the profile's default, `profiles_dir:` another folder.
  dbt: {{{profile}}}

dbt:
  project_dir: {project}                  # ref() and source() are those of its target/manifest.json

userpilot:
  # From the Environment page in Userpilot: the API key, not the app token (NX-...). Never write it into this file.
  api_key: ${{USERPILOT_API_KEY}}
  # The Environment page shows yours; a wrong region is accepted without an error.
  endpoint: {endpoint}

models:
  path: ../models_sql

state:
  url: sqlite:///../.warehouse_sync/state.db
  dir: ../.warehouse_sync                 # batches and snapshots; keep it, and back it up together with state.db
"""

_MODEL = """\
{{#
  A draft: people -> Userpilot users. Put your columns in, then take `enabled=false` out. Any column that is not a field
  (user_id, company_id, inserted_at) becomes a property; `warehouse-sync show -s users` shows what would go.
#}}
{{{{ config(
    event='identify_user',
    unique_key='user_id',
    enabled=false
) }}}}

select
    id as user_id,
    email,
    updated_at as inserted_at            -- when this state was true; leave it out, and it is the time of the run
from {{{{ ref('{ref}') }}}}
"""


def config_text(name: str, endpoint: str, project: DbtProject, folder: Path) -> str:
    """The YAML, to stand in `folder`/configs."""
    above = os.path.relpath(project.folder, (folder / "configs").absolute())
    profile = f"profile: {json.dumps(project.profile)}" if project.profile else ""
    return _CONFIG.format(name=name, endpoint=endpoint, project=json.dumps(above), profile=profile)


def model_text(project: DbtProject) -> str:
    """The draft; it refers to the model of the project that looks most like people, `dim_users` where none is known."""
    names = _models(project)
    people = [name for word in _PEOPLE for name in names if word in name.lower()]
    return _MODEL.format(ref=next(iter([*people, *names]), "dim_users"))


def _models(project: DbtProject) -> list[str]:
    """Models that are tables or views, those that nothing is built from first; none without a manifest.

    A manifest of any version will do: these are names in a draft, and a run says what is wrong with the version.
    """
    try:
        document = read_artefact(project.manifest, "dbt parse")
    except ArtefactError:
        return []
    nodes = {id_: mapping(raw) for id_, raw in mapping(document.get("nodes")).items()}
    mine = {
        id_: node
        for id_, node in nodes.items()
        if node.get("resource_type") == "model" and node.get("package_name") == project.name and "name" in node
    }
    needed = {above for node in mine.values() for above in mapping(node.get("depends_on")).get("nodes") or ()}
    ranked = [
        (id_ in needed, str(node["name"]))
        for id_, node in mine.items()
        if mapping(node.get("config")).get("materialized") != "ephemeral"
    ]
    return [name for _, name in sorted(ranked)]
