"""Refiners in the hub's format, with a card."""
