"""Makes hydra read our yamls as if each wrote out the defaults of the constructors that it names.

So an option that no yaml writes is set from the command line as ``matcher.radius=5``, interpolations may follow it,
and a run's ``config.yaml`` records it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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
_READ: dict[tuple[str, str, int], tuple[dict[str, Any], Any]] = {}
"""Headers and contents by file, place and when the file was written."""


class FilledConfigSource(FileConfigSource):
    """A folder of yamls whose calls are filled with the defaults of what they call."""

    @staticmethod
    def scheme() -> str:
        """What stands before ``://``."""
        return "geoalign"

    def load_config(self, config_path: str) -> ConfigResult:
        """The yaml, filled; experiments and the like set options anywhere and are called by their path.

        Read once, and again when its file is another: parsing was most of the time of a composition.
        """
        path = Path(self.path, self._normalize_file_name(config_path))
        key = str(path), config_path, path.stat().st_mtime_ns if path.is_file() else 0
        if key not in _READ:
            _READ[key] = self._load(config_path)
        header, plain = _READ[key]
        return ConfigResult(self.provider, f"{self.scheme()}://{self.path}", OmegaConf.create(plain), dict(header))

    def _load(self, config_path: str) -> tuple[dict[str, Any], Any]:
        result = super().load_config(config_path)
        plain = filled(OmegaConf.to_container(result.config))
        group, _, path = config_path.partition("/")
        if group in GLOBAL:
            result.header["package"] = "_global_"
        if group == "experiment":
            plain = {"name": re.sub("[/_]", "-", path)} | plain
        return result.header, plain


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
