"""Refiners in the hub's format, with a card."""

from geoalign.publish.hub import fetch, load, push, save

__all__ = ["fetch", "load", "push", "save"]
