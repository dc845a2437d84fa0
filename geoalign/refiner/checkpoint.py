"""Refiner weights in and out: runs' checkpoints, the release's ``.pth`` files, safetensors.

``python -m geoalign.refiner.checkpoint convert IN OUT`` turns any of them into ``.safetensors`` or into the release's
``.pth``. Nothing in a file is executed (``weights_only``).
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from geoalign.files import replacing
from geoalign.refiner.base import CONFIG, PREFIX

if TYPE_CHECKING:
    from geoalign.refiner.aggregation import Aggregation

FOLDER_FILES = ("checkpoints/best.ckpt", "model.safetensors")
"""Where a folder's weights lie: of a run, or of a refiner that was saved or published."""
WRITTEN = (".safetensors", ".pth")

_LAYER = "bottleneck_layers.{}.0."


class CheckpointError(ValueError):
    """A weights file is missing, damaged, or of another shape; the message says what to do."""


class Architecture(NamedTuple):
    """What the shapes of a refiner's tensors say of it."""

    channels: tuple[int, ...]  # of the frozen maps, in order
    width: int
    hidden: int


def find_checkpoint(path: str | Path) -> Path:
    """A weights file itself, or the one in a run's or a published refiner's folder."""
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in FOLDER_FILES if (path / name).is_file()]
        if found:
            return found[0]
        raise CheckpointError(
            f"{path} is a folder without {' or '.join(FOLDER_FILES)}; give a run's folder or a weights file"
        )
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}; give a run's folder, a .ckpt, .pth or .safetensors file")
    return path


class Contents(NamedTuple):
    """A weights file: the refiner's tensors, and its constructor's arguments where the file tells them."""

    state: dict[str, Tensor]
    config: dict[str, Any]


def read_weights(path: str | Path) -> Contents:
    """The refiner in any supported file."""
    path = find_checkpoint(path)
    loaded = _read(path)
    config = loaded.get(CONFIG, {})
    state = loaded.get("state_dict", loaded)
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path} holds no tensors under state_dict; give a run's folder or a weights file")
    refiner = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)} or dict(state)
    if not refiner or not all(isinstance(v, Tensor) for v in refiner.values()):
        raise CheckpointError(f"{path} holds no refiner weights; expected keys such as mixing_weights")
    config = dict(config) if isinstance(config, Mapping) else {}
    config.pop("_target_", None)
    return Contents(refiner, config)


def architecture(state: Mapping[str, Tensor], path: str | Path) -> Architecture:
    """Channels, width and hidden channels of an aggregation's ``state``; ``path`` only names it in errors."""
    if "mixing_weights" not in state or state["mixing_weights"].ndim != 1:
        raise CheckpointError(
            f"{path} holds no aggregation weights: expected mixing_weights (maps), the first key is {min(state)}"
        )
    maps = range(len(state["mixing_weights"]))
    first, last = ([_kernel(state, _LAYER.format(i) + name, path) for i in maps] for name in ("conv1", "conv3"))
    widths, hiddens = sorted({shape[0] for shape in last}), sorted({shape[0] for shape in first})
    if len(widths) != 1 or len(hiddens) != 1:
        raise CheckpointError(
            f"{path} is of another architecture: its bottlenecks have widths {widths} and hidden channels {hiddens}, "
            "one of each is expected; give weights of the paper's post-processor"
        )
    return Architecture(tuple(shape[1] for shape in first), widths[0], hiddens[0])


def load_weights(refiner: nn.Module, path: str | Path) -> None:
    """Load strictly; a file of another shape is refused with both shapes named."""
    load_state(refiner, read_weights(path).state, path)


def load_state(refiner: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """:func:`load_weights` of tensors that are read already."""
    own = refiner.state_dict()
    missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    if missing or extra:
        told = [f"lacks {name}" for name in missing[:1]] + [f"also holds {name}" for name in extra[:1]]
        raise CheckpointError(f"{path} does not fit the refiner: it {' and '.join(told)}; check refiner and backbone")
    for name, value in own.items():
        if value.shape != state[name].shape:
            want, got = tuple(value.shape), tuple(state[name].shape)
            raise CheckpointError(
                f"{path}: {name} is {got}, the refiner wants {want}; check refiner.width and backbone"
            )
    refiner.load_state_dict(state)


def load_released(path: str | Path, **options: Any) -> Aggregation:
    """The paper's refiner from any weights file, sized by its tensors, in eval mode.

    ``options`` are :class:`Aggregation`'s, such as ``grid`` (cells a side; released files do not tell it, the paper's
    is 60).
    """
    from geoalign.refiner.aggregation import Aggregation

    state, config = read_weights(path)
    refiner = Aggregation(**{**config, **architecture(state, path)._asdict(), **options})
    load_state(refiner, state, path)
    return refiner.eval()


def convert(source: str | Path, target: str | Path) -> Aggregation:
    """Write ``source``'s refiner as ``target``, in the format that its ending names; whole or not at all."""
    target = Path(target)
    if target.suffix.lower() not in WRITTEN:
        raise CheckpointError(f"the output is a {' or '.join(WRITTEN)} file, got {target}")
    if not target.parent.is_dir():
        raise CheckpointError(f"no folder {target.parent} to write {target} into; make it first")
    refiner = load_released(source)
    write_weights(refiner.state_dict(), target)
    return refiner


def write_weights(state: Mapping[str, Tensor], target: Path) -> None:
    """Tensors as ``.safetensors`` or ``.pth``, whole or not at all."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        with replacing(target) as partial:
            if target.suffix.lower() == ".safetensors":
                partial.write_bytes(save(tensors, metadata={"format": "pt"}))  # a file with the user's own permissions
            else:
                torch.save(tensors, partial)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise CheckpointError(f"cannot write {target}: {str(error).splitlines()[0]}") from error


def _kernel(state: Mapping[str, Tensor], layer: str, path: str | Path) -> torch.Size:
    """Shape of a convolution's weight."""
    name = f"{layer}.weight"
    if name not in state or state[name].ndim != 4:
        got = tuple(state[name].shape) if name in state else "nothing"
        raise CheckpointError(
            f"{path}: expected {name} (out in k k), got {got}; give weights of the paper's post-processor"
        )
    return state[name].shape


def _read(path: Path) -> Mapping[str, Any]:
    from safetensors import SafetensorError

    try:
        if path.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's text would advise to load it unsafely
        raise CheckpointError(
            f"{path} is not a readable weights file (not a PyTorch file, or more than plain tensors in it); give one "
            "that holds a state dict"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not a readable weights file ({reason}); fetch or save it again") from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"{path} holds a {type(loaded).__name__}, expected named tensors; give a weights file")
    return loaded


def main(arguments: Sequence[str] | None = None) -> int:
    """``convert IN OUT``; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m geoalign.refiner.checkpoint")
    command = parser.add_subparsers(required=True).add_parser("convert", help="write a refiner's weights in a format")
    command.add_argument("source", metavar="IN", help="a run's folder, a .ckpt, .pth or .safetensors file")
    command.add_argument("target", metavar="OUT", help="a .safetensors or .pth file")
    options = parser.parse_args(arguments)
    try:
        refiner = convert(options.source, options.target)
    except CheckpointError as error:
        parser.exit(1, f"error: {error}\n")
    found = architecture(refiner.state_dict(), options.target)
    total = sum(p.numel() for p in refiner.parameters())
    print(f"{total:,} parameters: maps of {list(found.channels)} channels, width {found.width}, hidden {found.hidden}")
    print(f"wrote {options.target}; use it with refiner=aggregation checkpoint={options.target}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
