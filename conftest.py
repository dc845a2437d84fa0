"""Every test, doctests too: the package's annotations are checked at run time, shapes and types alike.

Here and not as ``--jaxtyping-packages`` in addopts: xdist's workers would not see it, and nothing would be checked.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

assert "geoalign" not in sys.modules, "imported before its annotations could be checked; import it later"
# the tower: a whole number is a float (PEP 484), as for mypy
install_import_hook("geoalign", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """``make test-long`` imports the files of long tests alone."""
    if config.option.markexpr == "long" and collection_path.suffix == ".py":
        return None if "mark.long" in collection_path.read_text(encoding="utf-8") else True
    return None


def pytest_collection_finish() -> None:
    """Spare the collector of garbage the million objects of the libraries, which it would walk again and again."""
    gc.collect()
    gc.freeze()
