"""Networks as sequences of blocks, cut in two: what a frozen backbone leaves behind its cut, a tail runs."""

from geoalign.blocks.base import Chain, Rest, kept_blocks, plan
from geoalign.blocks.make import make_chain

__all__ = ["Chain", "Rest", "kept_blocks", "make_chain", "plan"]
