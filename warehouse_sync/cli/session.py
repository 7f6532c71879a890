"""What a verb works with: the shared flags, the console, and config and models, read when they are asked for.

Loaded for `--help`, so everything heavy is imported where it is needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO
from uuid import uuid4

if TYPE_CHECKING:
    from warehouse_sync.extraction.request import Policy
    from warehouse_sync.observe.console import Console
    from warehouse_sync.project.config import Config
    from warehouse_sync.project.model import BrokenModel, ModelSettings
    from warehouse_sync.state.store import Store
    from warehouse_sync.values import Model

API_KEY_VARIABLE = "USERPILOT_API_KEY"

MODELS_SHOWN = 10
"""Names of models in the message that none is selected."""


@dataclass
class Flags:
    """What the shared options say. Filled while click reads the command line, then only read.

    `given` holds the options that stand before the verb: name -> word.
    """

    config: Path | None = None
    select: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    state: Path | None = None
    vars: str | None = None
    quiet: bool = False
    debug: bool = False
    log_format: str = "text"
    output: str = "text"
    full_refresh: bool = False
    fail_fast: bool = False
    given: dict[str, str] = field(default_factory=dict)

    def take(self, name: str, value: Any) -> None:
        """One option's value; lists grow, the rest is replaced."""
        if isinstance(value, tuple):
            getattr(self, name).extend(value)
        else:
            setattr(self, name, value)


class Session:
    """One invocation of the command line. `id` is unique; `close` ends the console."""

    def __init__(self) -> None:
        self.flags = Flags()
        self.id = uuid4().hex
        self._console: Console | None = None
        # Sections of the YAML whose variables need not be set; None: nobody is asked, and none of them has to be.
        self._unused: tuple[str, ...] | None = ()

    # What people see

    @property
    def console(self) -> Console:
        """The reporter on stderr, as the flags want it."""
        if self._console is None:
            from warehouse_sync.observe.console import Console
            from warehouse_sync.observe.scrub import Scrubber
            from warehouse_sync.project.yaml.environment import secret_variables

            secrets = (*secret_variables(os.environ), os.environ.get(API_KEY_VARIABLE, ""))
            self._console = Console(self._look(), sys.stderr, Scrubber(secret for secret in secrets if len(secret) > 3))
            self._console.__enter__()
        return self._console

    def _look(self) -> Any:
        from warehouse_sync.observe.console import Look

        terminal = is_terminal(sys.stderr)
        return Look(
            quiet=self.flags.quiet,
            debug=self.flags.debug,
            json=self.flags.log_format == "json",
            terminal=terminal,
            colour=terminal and not os.environ.get("NO_COLOR"),
        )

    @property
    def prints_json(self) -> bool:
        """True for `--output json`."""
        return self.flags.output == "json"

    def close(self) -> None:
        """End the console, if there was one."""
        if self._console is not None:
            self._console.__exit__(None, None, None)
            self._console = None

    # What the project says

    @cached_property
    def config(self) -> Config:
        """The YAML file. Raises ConfigError or UsageError."""
        from warehouse_sync.errors import UsageError
        from warehouse_sync.project.config import find_config, load_config

        file = find_config(self.flags.config, os.environ)
        if any("\udc80" <= letter <= "\udcff" for letter in str(file.absolute())):
            raise UsageError(f"the path {file.absolute()} is not UTF-8", hint="give its folders other names.")
        config = load_config(file, os.environ, self._unused)
        self.console.scrubber.add(config.secrets())
        return config

    def asks_nobody(self) -> None:
        """Say, before the YAML is read, that no secret of it is needed: neither warehouse nor API will be asked."""
        self._unused = None

    def sends_nothing(self, *unused: str) -> None:
        """The same of a verb that does not ask the API, and does not use the sections `unused` of the YAML either."""
        self._unused = ("userpilot", *unused)

    @cached_property
    def settings(self) -> ModelSettings:
        """What the YAML says of models, `--vars` put in."""
        from warehouse_sync.parts import settings_of

        return settings_of(self.config, os.environ, self._vars())

    @cached_property
    def policy(self) -> Policy:
        """The YAML's rules for extraction."""
        from warehouse_sync.parts import policy_of

        return policy_of(self.config, os.environ, self.settings)

    @cached_property
    def models(self) -> list[Model | BrokenModel]:
        """Every model, broken and disabled ones too."""
        from warehouse_sync.project.model import load_models

        return load_models(self.settings)

    def model(self, name: str) -> Model:
        """The model of that name, enabled or not. Raises UsageError, or the ModelError of a broken one."""
        from warehouse_sync.errors import UsageError
        from warehouse_sync.project.model import BrokenModel
        from warehouse_sync.project.names import nearest

        models = {model.name: model for model in self.models}
        if name not in models:
            hint = "`warehouse-sync ls` lists them."
            raise UsageError(f"there is no model `{name}`{nearest(name, models)}", hint=hint)
        model = models[name]
        if isinstance(model, BrokenModel):
            raise model.error
        return model

    def selected(self) -> list[Model | BrokenModel]:
        """The models that `--select` and `--exclude` leave; a warning for what picks nothing. Raises UsageError."""
        from warehouse_sync.project.select import SelectionScope, select, unmatched

        flags, config = self.flags, self.config
        # Where a variable of its name is missing, state: and result: ask for --state.
        home = None if config.lacks("name", "state") or config.state.lacks("dir") else config.home
        around = SelectionScope(config.models.path, flags.state or home, config.selectors)
        chosen = select(self.models, flags.select, flags.exclude, around)
        idle = unmatched(self.models, flags.select, around) + unmatched(self.models, flags.exclude, around, "excludes")
        for sentence in idle:
            self.console.event("selector_unmatched", sentence, level="warn")
        if not chosen:
            self.console.event("nothing_selected", self._nothing_selected(), level="warn")
        return chosen

    def _nothing_selected(self) -> str:
        from warehouse_sync.cli.output import few

        names = [model.name for model in self.models if model.enabled]
        if not names:
            return f"there is no enabled model in {self.config.models.path}"
        return f"no enabled model is selected; there are {few(names, MODELS_SHOWN)}"

    def store(self) -> Store:
        """The state store, for looking only: a missing one is empty. Raises StateError."""
        from warehouse_sync.state.store import open_store

        return open_store(self.config.state.url.get_secret_value(), read_only=True)

    def keep_log(self) -> None:
        """From here on lines also go into the pipeline's log file."""
        from warehouse_sync.observe.logfile import LogFile
        from warehouse_sync.values import utc_now

        self.console.log = LogFile(self.config.home, started=utc_now(), keep=self.config.retention.logs)

    def _vars(self) -> Mapping[str, Any] | None:
        if self.flags.vars is None:
            return None
        import yaml

        from warehouse_sync.errors import UsageError

        try:
            found = yaml.safe_load(self.flags.vars)
        except yaml.YAMLError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
            raise UsageError("--vars is no mapping of names to values", hint="write it as YAML: --vars '{since: 2025}'")
        return found


def is_terminal(stream: TextIO) -> bool:
    """True when a person looks at it, and it can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"
