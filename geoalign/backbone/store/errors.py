"""The one error of the feature store."""

from __future__ import annotations


class StoreError(ValueError):
    """A store cannot be opened, read or written; one line with the file and the remedy."""
