"""From a name, a run's folder, a weights file or a hub id to a matcher for people's own pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from geoalign.apps.inputs import usable_device
from geoalign.apps.matcher import ImageMatcher
from geoalign.backbone.base import Backbone
from geoalign.matching import Matcher
from geoalign.refiner import Identity, load_released
from geoalign.refiner.checkpoint import FOLDER_FILES, CheckpointError, load_weights


class Known(NamedTuple):
    """How to make a backbone, and the channels of its maps, by which refiner files find it."""

    make: Callable[[], Backbone]
    channels: tuple[int, ...]


def _lite() -> Backbone:
    from geoalign.backbone.lite import Lite

    return Lite(blocks=[4, 10, 14])


def _dinov2_b() -> Backbone:
    from geoalign.backbone.dino import Dino

    return Dino()


def _sd15_dinov2() -> Backbone:
    from geoalign.backbone.diffusion.backbone import StableDiffusion
    from geoalign.backbone.fusion import Fusion

    return Fusion([StableDiffusion(), _dinov2_b()])


BACKBONES = {
    "lite": Known(_lite, (40, 112, 192)),
    "dinov2_b": Known(_dinov2_b, (768,)),
    "sd15_dinov2": Known(_sd15_dinov2, (640, 1280, 1280, 768)),
}
"""Backbones that are known by name, with their settings in ``conf/backbone``."""


def load(
    source: str | Path = "lite",
    backbone: str | Backbone | None = None,
    matcher: Matcher | None = None,
    device: str | None = None,
) -> ImageMatcher:
    """A matcher from a backbone's name (zero-shot), a run's folder, a weights file or folder, or a hub id.

    ``backbone`` belongs to weights that do not tell theirs; it is found by their channels where it can be.
    ``device`` is the accelerator where there is one. Raises ValueError or OSError for what cannot be loaded.

    >>> load("lite").grid
    40
    """
    device = usable_device(device)
    if str(source) in BACKBONES:
        if backbone is not None:
            raise ValueError(f"{source!r} is a backbone itself; give no other, or the weights of a refiner first")
        own = BACKBONES[str(source)].make()
        return ImageMatcher(own, _identity(own), matcher or Matcher(), device)
    run = _run_of(Path(source))
    if run is not None and backbone is None:
        return _from_run(run, Path(source), matcher, device)
    refiner = _refiner(source)
    own = _backbone_for(refiner, backbone, source)
    return ImageMatcher(own, refiner, matcher or Matcher(), device)


def _identity(backbone: Backbone) -> nn.Module:
    return Identity(backbone.channels, backbone.grid, backbone.groups)


def _run_of(path: Path) -> Path | None:
    """The run that a folder is, or that a checkpoint lies in."""
    places = (path, path.parent.parent) if path.parent.name == "checkpoints" else (path,)
    return next((place for place in places if (place / "config" / "config.yaml").is_file()), None)


def _from_run(run: Path, weights: Path, matcher: Matcher | None, device: str) -> ImageMatcher:
    """The run's own backbone, refiner and matching settings with its best weights."""
    from omegaconf import DictConfig, OmegaConf

    from geoalign.build import make, make_refiner

    cfg = OmegaConf.load(run / "config" / "config.yaml")
    assert isinstance(cfg, DictConfig)
    backbone = make(cfg.backbone)
    refiner = make_refiner(cfg.refiner, backbone)
    if not isinstance(refiner, Identity):
        trained = weights if weights.is_file() or (run / FOLDER_FILES[0]).is_file() else cfg.get("checkpoint")
        if trained is None:
            raise CheckpointError(f"{run} has no {FOLDER_FILES[0]}: the run did not finish; give another")
        load_weights(refiner, trained)
    return ImageMatcher(backbone, refiner, matcher or make(cfg.matcher), device)


def _refiner(source: str | Path) -> Any:
    from geoalign.refiner import Aggregation

    path = Path(source)
    if path.is_file():
        return load_released(path)
    if path.is_dir() or (str(source).count("/") == 1 and not str(source).startswith((".", "/"))):
        return Aggregation.from_pretrained(str(source)).eval()
    raise CheckpointError(
        f"no {str(source)!r}: expected {', '.join(BACKBONES)}, a run's folder, a .ckpt, .pth or .safetensors file, "
        "or a hub id owner/name"
    )


def _backbone_for(refiner: Any, wanted: str | Backbone | None, source: str | Path) -> Backbone:
    """The named backbone, or the one that gives maps of the refiner's channels; its grid must be the refiner's."""
    if isinstance(wanted, Backbone):
        found = wanted
    else:
        names = [wanted] if wanted is not None else [n for n, k in BACKBONES.items() if k.channels == refiner.channels]
        if not names or names[0] not in BACKBONES:
            told = f"{wanted!r}" if wanted is not None else f"maps of {list(refiner.channels)} channels"
            raise ValueError(
                f"no backbone is known for {told} ({source}); give backbone= one of {', '.join(BACKBONES)}"
            )
        found = BACKBONES[names[0]].make()
    if tuple(found.channels) != tuple(refiner.channels):
        want, got = list(refiner.channels), list(found.channels)
        raise ValueError(f"{source} refines maps of {want} channels, the backbone gives {got}; give another backbone")
    return found
