"""The package's version, below everything: results and published models carry it."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("geoalign")
except PackageNotFoundError:  # a checkout on the path that nobody installed
    __version__ = "0+not-installed"
