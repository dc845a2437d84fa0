"""A bank answers: what is at these points, and how similar is every cell of a view to these descriptors."""

from geoalign.bank.base import Bank, Queries, Reads, Source, full_precision
from geoalign.bank.decoded import DecodedBank, Decoder, forgetting
from geoalign.bank.plain import PlainBank
from geoalign.bank.recalling import RecallingBank

__all__ = [
    "Bank", "DecodedBank", "Decoder", "PlainBank", "Queries", "Reads", "RecallingBank", "Source", "forgetting",
    "full_precision",
]  # fmt: skip
