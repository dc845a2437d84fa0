"""The package's version, below everything: results and published models carry it."""

__version__ = "0.1.0"
