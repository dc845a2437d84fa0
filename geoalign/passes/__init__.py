"""Passes over all views on all ranks: features into the store, masks."""
