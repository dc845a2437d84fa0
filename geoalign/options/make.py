"""A part from its config, and the parts that a yaml names, for tools that are no runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate

from geoalign.options.entry import composed

if TYPE_CHECKING:
    from geoalign.backbone.base import Backbone


def make(config: Any, **extra: Any) -> Any:
    """Instantiate with plain containers; an empty config gives None. Errors are those of the part itself."""
    if not config or config.get("_target_") is None:
        return None
    try:
        return instantiate(config, _convert_="all", **extra)
    except InstantiationException as error:
        raise error.__cause__ or error from None


def make_backbone(name: str, overrides: Sequence[str] = ()) -> Backbone:
    """The backbone of ``conf/backbone/<name>.yaml``; ValueError for a name or an override that does not exist."""
    try:
        backbone: Backbone = make(composed("evaluate", [f"backbone={name}", *overrides]).backbone)
    except HydraException as error:
        raise ValueError(str(error).strip().splitlines()[0]) from error
    return backbone
