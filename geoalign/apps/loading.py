"""From a name, a run's folder, a weights file or a hub id to a matcher for people's own pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from geoalign import parts, publish
from geoalign.apps.boxed import FAMILIAR, BoxedMatcher, Familiar, box_of
from geoalign.apps.inputs import usable_device
from geoalign.apps.matcher import ImageMatcher
from geoalign.backbone.base import Backbone
from geoalign.files import read_yaml
from geoalign.matching import Confidence, Matcher
from geoalign.options.make import make_backbone
from geoalign.options.yamls import choices
from geoalign.refiner import Identity, Refiner
from geoalign.refiner.base import CheckpointError
from geoalign.refiner.checkpoint import (
    FOLDER_FILES,
    find_checkpoint,
    innermost,
    make_refiner,
    read_weights,
    recipe_of,
    run_recipe,
)
from geoalign.refiner.tail import frozen_features, start

RefinerChoice = Literal["boxed", "none"]
REFINERS = get_args(RefinerChoice)
BY_CHANNELS = {"lite": [40, 112, 192], "dinov2_b": [768], "sd15_dinov2": [640, 1280, 1280, 768]}
"""Backbones of weights files that do not tell theirs, as the release's, by the channels of their maps."""


def load(
    source: str | Path = "lite",
    backbone: str | Backbone | None = None,
    matcher: Matcher | None = None,
    device: str | None = None,
    confidence: Confidence | str | Path | None = None,
    refiner: RefinerChoice = "boxed",
) -> ImageMatcher:
    """A matcher from a backbone's name, a run's folder, a weights file or folder, or a hub id.

    ``lite`` by its name has a refiner in the box, with frames of its own size; it steps back to frozen features for
    pictures unlike those it learned from (docs/own-images.md). What is loaded names geoalign's own parts only and
    executes nothing (docs/weights.md).

    Args:
        source: a yaml of ``conf/backbone`` by its name, or where a refiner's weights lie.
        backbone: of weights that do not tell theirs; it is found by their channels where it can be.
        matcher: in place of the run's, or of the defaults.
        device: the accelerator where there is one.
        confidence: weights, or a yaml that ``report.analyse confidence`` wrote; else ``confidence.yaml`` of the run's
            folder, else those of frozen ``lite`` features.
        refiner: boxed: the source's own, or that in the box for a backbone's name | none: frozen features alone.

    Raises:
        ValueError or OSError: what cannot be loaded.

    >>> load("lite").grid
    40
    """
    if refiner not in REFINERS:
        raise ValueError(f"refiner is {' or '.join(REFINERS)}, got {refiner!r}; give trained weights as the source")
    device = usable_device(device)
    if str(source) in choices("backbone"):
        if backbone is not None:
            raise ValueError(f"{source!r} is a backbone itself; give no other, or the weights of a refiner first")
        return _named(str(source), matcher, device, confidence, refiner)
    try:
        path = publish.fetch(source)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; backbones have the names {', '.join(choices('backbone'))}") from None
    recipe, contents = run_recipe(path), None
    if "refiner" not in recipe or _class(recipe["refiner"], path) != Identity:  # frozen features have no weights
        contents = read_weights(_weights(path, recipe))
        recipe = {**recipe, **contents.recipe, "refiner": recipe_of(contents, path)}
        _class(recipe["refiner"], path)  # foreign names are refused before anything is made
    if matcher is None:
        matcher = parts.make(recipe["matcher"], Matcher, "matcher") if "matcher" in recipe else Matcher()
    sure = _confidence(confidence, path)
    own = backbone if isinstance(backbone, Backbone) else _backbone(backbone, recipe, source)
    if contents is None or refiner == "none":
        return ImageMatcher(own, _frozen(own), matcher, device, sure)
    sized: dict[str, Any] = {} if innermost(recipe["refiner"]).get("grid") else {"grid": own.grid}
    made = make_refiner(contents, path, **sized)
    if tuple(own.channels) != tuple(made.channels):
        want, got = list(made.channels), list(own.channels)
        raise ValueError(f"{source} refines maps of {want} channels, the backbone gives {got}; give another backbone")
    start(made, own.rest)
    return ImageMatcher(own, made, matcher, device, sure)


def _named(
    name: str,
    matcher: Matcher | None,
    device: str,
    confidence: Confidence | str | Path | None,
    refiner: RefinerChoice,
) -> ImageMatcher:
    """A backbone with the refiner in its box, or frozen; what is given also holds where the refiner steps back."""
    box = box_of(name) if refiner == "boxed" else None
    if box is None:
        own = make_backbone(name)
        return ImageMatcher(own, _frozen(own), matcher or Matcher(), device, _confidence(confidence))
    refined, familiar = load(box, None, matcher, device, confidence), Familiar.read(box / FAMILIAR)
    return BoxedMatcher(refined, lambda: _named(name, matcher, device, confidence, "none"), familiar)


def _class(node: Any, path: Path) -> type[Refiner]:
    return parts.find(node.get(parts.TARGET) if isinstance(node, dict) else None, Refiner, f"{path}: refiner")


def _confidence(given: Confidence | str | Path | None, folder: Path | None = None) -> Confidence:
    """As given, read from a file, or found in a run's folder."""
    if isinstance(given, Confidence):
        return given
    if given is None and folder is not None and (folder / "confidence.yaml").is_file():
        given = folder / "confidence.yaml"
    return Confidence() if given is None else parts.make(read_yaml(Path(given)), Confidence, str(given))


def _frozen(backbone: Backbone) -> Refiner:
    return frozen_features(backbone.channels, backbone.grid, backbone.groups, backbone.rest)


def _weights(path: Path, recipe: dict[str, Any]) -> Path:
    """Where a source's weights lie; a run that only evaluated names them in its config."""
    try:
        return find_checkpoint(path)
    except CheckpointError:
        if not recipe:
            raise
        if isinstance(recipe.get("checkpoint"), str):
            return find_checkpoint(recipe["checkpoint"])
        raise CheckpointError(f"{path} has no {FOLDER_FILES[0]}: the run did not finish; give another") from None


def _backbone(name: str | None, recipe: dict[str, Any], source: str | Path) -> Backbone:
    """The backbone of this name, else the recorded one, else the one that gives maps of the refiner's channels."""
    if name is None and "backbone" in recipe:
        return parts.make(recipe["backbone"], Backbone, "backbone")
    channels = innermost(recipe["refiner"]).get("channels")
    name = name or next((known for known, its in BY_CHANNELS.items() if its == channels), None)
    if name not in choices("backbone"):
        wanted = repr(name) if name is not None else f"maps of {channels} channels"
        raise ValueError(
            f"no backbone is known for {wanted} ({source}); give backbone= one of {', '.join(choices('backbone'))}"
        )
    return make_backbone(str(name))
