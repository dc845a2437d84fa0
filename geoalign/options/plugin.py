"""Makes hydra read our yamls as if each wrote out the defaults of the constructors that it names.

So an option that no yaml writes is set from the command line as ``matcher.radius=5``, interpolations may follow it,
and a run's ``config.yaml`` records it.
"""

from __future__ import annotations

import re

from hydra._internal.core_plugins.file_config_source import FileConfigSource  # hydra has no public one to build on
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from geoalign.options.schema import filled
from geoalign.options.yamls import CONF

GLOBAL = ("experiment", "recipe", "sweep", "launcher")
"""Groups whose yamls set options of every other group."""


class FilledConfigSource(FileConfigSource):
    """A folder of yamls whose calls are filled with the defaults of what they call."""

    @staticmethod
    def scheme() -> str:
        """What stands before ``://``."""
        return "geoalign"

    def load_config(self, config_path: str) -> ConfigResult:
        """The yaml, filled; experiments and the like set options anywhere and are called by their path."""
        result = super().load_config(config_path)
        plain = filled(OmegaConf.to_container(result.config))
        group, _, path = config_path.partition("/")
        if group in GLOBAL:
            result.header["package"] = "_global_"
        if group == "experiment":
            plain = {"name": re.sub("[/_]", "-", path)} | plain
        result.config = OmegaConf.create(plain)
        return result


class FilledSearchPath(SearchPathPlugin):
    """Reads ``conf/`` through the source above, whoever asks for it."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by hydra before every composition."""
        for element in search_path.get_path():
            if element.path == str(CONF):
                element.path = f"{FilledConfigSource.scheme()}://{CONF}"


def register() -> None:
    """Before every use of hydra: a sweep's launcher may have begun its plugins anew."""
    for one in (FilledConfigSource, FilledSearchPath):
        Plugins.instance().register(one)
