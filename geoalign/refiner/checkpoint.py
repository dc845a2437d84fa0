"""Refiner weights in and out: runs' checkpoints, saved folders, the release's ``.pth`` files, safetensors.

``geoalign convert IN OUT`` turns any of them into ``.safetensors`` or into the release's
``.pth``. Nothing in a file is executed (``weights_only``), nothing but geoalign's refiners is made of it.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor, nn

from geoalign import parts
from geoalign.files import check_output, read_json, read_yaml, replacing
from geoalign.refiner.aggregation import Aggregation
from geoalign.refiner.base import CONFIG, PREFIX, CheckpointError, Refiner
from geoalign.refiner.released import MARCO, architecture, is_marco, renamed_marco
from geoalign.refiner.tail import tails_in
from geoalign.refiner.tail_start import BEGAN, began
from geoalign.tensors import fault, read_tensors

WEIGHTS, RECIPE = "model.safetensors", "config.json"
"""What a saved or published folder holds."""
FOLDER_FILES = ("checkpoints/best.ckpt", WEIGHTS)
"""Where a folder's weights lie: of a run, or of a refiner that was saved or published."""
WRITTEN = (".safetensors", ".pth")
RUN_PARTS = ("backbone", "refiner", "matcher", "checkpoint")
HEAD = "head"
_METADATA = "geoalign"
_BESIDE = re.compile(r"\$\{(\.+)(\w+)\}")


class Contents(NamedTuple):
    """A weights file: the refiner's tensors, and what it says of the parts to make, by name."""

    state: dict[str, Tensor]
    recipe: dict[str, Any]


def find_checkpoint(path: str | Path) -> Path:
    """A weights file itself, or the one in a run's or a published refiner's folder; raises :class:`CheckpointError`."""
    path = Path(path)
    if path.is_dir():
        inside = [path / name for name in FOLDER_FILES if (path / name).is_file()]
        if inside:
            return inside[0]
        raise CheckpointError(
            f"{path} is a folder without {' or '.join(FOLDER_FILES)}; give a run's folder or a weights file"
        )
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}; give a run's folder, a .ckpt, .pth or .safetensors file")
    return path


def run_recipe(path: str | Path) -> dict[str, Any]:
    """Settings (:data:`RUN_PARTS`) of the run that a folder is or a checkpoint lies in; empty where there is none.

    Raises:
        FileError or PartError: a config that cannot be read, or is more than plain data.
    """
    path = Path(path)
    places = (path, path.parent.parent) if path.parent.name == "checkpoints" else (path,)
    configs = [place / "config" / "config.yaml" for place in places]
    config = next((read_yaml(config) for config in configs if config.is_file()), None)
    config = config if isinstance(config, dict) else {}
    nodes = {name: parts.plain(_settled(config[name]), name) for name in RUN_PARTS if config.get(name)}
    head = parts.plain(config.get(HEAD), HEAD)
    if isinstance(head, dict) and head.get(parts.TARGET):  # a run's refiner stands in its head, as its recipe does
        nodes["refiner"] = {**head, "refiner": nodes.get("refiner")}
    return nodes


def _settled(node: Any, above: tuple[dict[Any, Any], ...] = ()) -> Any:
    """A part's settings, references to a value beside or above it in the same part (``${..channels}``) followed.

    Any other reference stays as it is, and is refused: it could read an environment, or another part.
    """
    if not isinstance(node, dict):
        return node
    own, chain = dict(node), (*above, node)
    for name, value in node.items():
        said = _BESIDE.fullmatch(value) if isinstance(value, str) else None
        if said and len(said[1]) <= len(chain):
            found = chain[-len(said[1])].get(said[2], value)
            own[name] = value if isinstance(found, dict) else found  # a mapping could hold itself
    return {name: _settled(value, (*above, own)) for name, value in own.items()}


def read_weights(path: str | Path) -> Contents:
    """The refiner in any supported file.

    Raises:
        CheckpointError: no file, a damaged one, or tensors that are no weights.
    """
    path = find_checkpoint(path)
    content, metadata = read_tensors(path)
    recipe, state = {}, content
    if isinstance(content, Mapping):
        recipe, state = {k: content[k] for k in (CONFIG,) if k in content}, content.get("state_dict", content)
        state = state["model"] if isinstance(state, Mapping) and isinstance(state.get("model"), Mapping) else state
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path} holds a {type(state).__name__}, expected named tensors; give a weights file")
    state = {k.removeprefix(PREFIX): v for k, v in state.items() if str(k).startswith(PREFIX)} or dict(state)
    if not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise CheckpointError(f"{path} holds no refiner weights; expected keys such as mixing_weights")
    for name, value in state.items():
        if reason := fault(value):
            raise CheckpointError(f"{path}: {name} is {reason}; expected finite numbers, save or fetch it again")
    try:
        recipe |= json.loads(metadata.get(_METADATA, "{}"))
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} says something unreadable of its parts ({error}); save it again") from error
    if path.name == WEIGHTS and (beside := path.with_name(RECIPE)).is_file():
        recipe[CONFIG] = read_json(beside)
    if not isinstance(recipe.get(CONFIG, {}), Mapping):
        raise CheckpointError(f"{path} says {type(recipe[CONFIG]).__name__} of its refiner, expected settings by name")
    return Contents(state, recipe)


def load_weights(refiner: nn.Module, path: str | Path) -> None:
    """Load strictly; a file of another shape is refused (:class:`CheckpointError`) with both shapes named."""
    state = read_weights(path).state
    if is_marco(state):
        state = _continued(refiner, state, path)
    check_fit(refiner, state, path)
    try:
        refiner.load_state_dict(state)
    except CheckpointError as error:  # of a tail that started elsewhere
        raise CheckpointError(f"{path}: {error}") from error


def _continued(refiner: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """MARCO's released tensors for a head on a tail; of what they go on from the file says nothing but its shapes.

    Raises:
        CheckpointError: a refiner that is something else.
    """
    tails = [tail for tail in tails_in(refiner) if tail is getattr(refiner, "within", None)]  # type: ignore[arg-type]
    facts = [(tail.network["config"].get("model_type"), tail.network["normed"]) for tail in tails]
    if facts != [("dinov2_with_registers", True)]:
        got = f"one of {facts[0][0]}, its norm {facts[0][1]}" if facts else f"no tail but {type(refiner).__name__}"
        raise CheckpointError(
            f"{path} holds {MARCO}: expected a head on a tail of dinov2_with_registers, its last norm True, got {got}; "
            "set experiment=released/marco"
        )
    return {**renamed_marco(state, path), f"within.{BEGAN}": began(tails[0].network)}


def check_fit(refiner: nn.Module, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise :class:`CheckpointError` unless ``state`` has the refiner's names, shapes and kinds of numbers."""
    own = refiner.state_dict()
    missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    if missing or extra:
        faults = [f"lacks {name}" for name in missing[:1]] + [f"also holds {name}" for name in extra[:1]]
        raise CheckpointError(f"{path} does not fit the refiner: it {' and '.join(faults)}; check refiner and backbone")
    for name, value in own.items():
        want, got = [(tuple(t.shape), t.is_floating_point()) for t in (value, state[name])]
        if want != got:
            raise CheckpointError(
                f"{path}: {name} is {got[0]} of {state[name].dtype}, the refiner wants {want[0]} of {value.dtype}; "
                "check the refiner's sizes and the backbone"
            )


def recipe_of(contents: Contents, path: str | Path) -> dict[str, Any]:
    """How to make a file's refiner: what it says itself, else the aggregation that its tensors' names tell."""
    recipe = contents.recipe.get(CONFIG, {})
    if parts.TARGET not in recipe:
        recipe = {parts.TARGET: parts.name_of(Aggregation), **architecture(contents.state, path)._asdict(), **recipe}
    return dict(parts.plain(recipe, f"{path}: {CONFIG}"))


def innermost(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recipe of the refiner that stands in all others, which reads the frozen maps: it says channels and grid."""
    while isinstance(inner := recipe.get("refiner"), Mapping):
        recipe = inner
    return recipe


def make_refiner(contents: Contents, path: str | Path, kind: type[Refiner] | None = None, **options: Any) -> Refiner:
    """The refiner of a file that was read; see :func:`load_refiner`."""
    recipe = {**recipe_of(contents, path), **options}
    if Path(path).suffix == ".ckpt" and innermost(recipe).get("grid") is None:
        raise CheckpointError(f"{path} does not say its refiner's grid (an early run); give it: grid=<cells a side>")
    place = f"{path}: {CONFIG}"
    with torch.device("meta"):  # sizes that do not fit the tensors take no memory
        check_fit(parts.make(recipe, Refiner, place, kind), contents.state, path)
    refiner = parts.make(recipe, Refiner, place, kind)
    refiner.load_state_dict(contents.state)
    return refiner.eval()


def load_refiner(path: str | Path, kind: type[Refiner] | None = None, **options: Any) -> Refiner:
    """The refiner of any weights file or folder, strictly and in eval mode.

    Args:
        path: what :func:`find_checkpoint` takes; files of the release are sized by their tensors.
        kind: your own class, if the file names that; without it, refiners of geoalign are made and no others.
        options: of the constructor, in place of the file's, such as ``grid`` (cells a side; the release's files do
            not tell it, the paper's is 60).

    Raises:
        CheckpointError: nothing there, damaged, or tensors that do not fit.
        PartError: a foreign refiner, or options that it does not take.
    """
    path = find_checkpoint(path)
    return make_refiner(read_weights(path), path, kind, **options)


load_released = load_refiner


def convert(source: str | Path, target: str | Path, force: bool = False, **options: Any) -> Refiner:
    """Write ``source``'s refiner as ``target``, in the format that its ending names; whole or not at all.

    A ``.safetensors`` file also says how to make the refiner, and the run's backbone and matcher; the release's
    ``.pth`` has no place for that. ``options`` are as in :func:`load_refiner`.

    Raises:
        CheckpointError, FileError or PartError: nothing to read, or nowhere to write.
    """
    source, target = find_checkpoint(source), Path(target)
    if target.suffix.lower() not in WRITTEN:
        raise CheckpointError(f"the output is a {' or '.join(WRITTEN)} file, got {target}")
    if not target.parent.is_dir():
        raise CheckpointError(f"no folder {target.parent} to write {target} into; make it first")
    check_output(target, [source], force)
    contents = read_weights(source)
    refiner = make_refiner(contents, source, **options)
    around = {**run_recipe(source), **contents.recipe, CONFIG: {**recipe_of(contents, source), **options}}
    write_weights(refiner.state_dict(), target, around)
    return refiner


def write_weights(state: Mapping[str, Tensor], target: Path, recipe: Mapping[str, Any]) -> None:
    """Tensors as ``.safetensors`` (with ``recipe``) or ``.pth``, whole, or not at all and :class:`CheckpointError`."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    try:
        with replacing(target) as partial:
            if target.suffix.lower() == ".safetensors":
                # One entry alone: the order of several differs from time to time, and with it the file.
                metadata = {_METADATA: json.dumps({k: recipe[k] for k in RUN_PARTS[:3] if k in recipe})}
                partial.write_bytes(save(tensors, metadata))  # a file with the user's own permissions
            else:
                torch.save(tensors, partial)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise CheckpointError(f"cannot write {target}: {str(error).splitlines()[0]}") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """``convert IN OUT``; returns the exit status."""
    made = parser()
    options = made.parse_args(arguments)
    try:
        grid = {} if options.grid is None else {"grid": options.grid}
        refiner = convert(options.source, options.target, options.force, **grid)
    except ValueError as error:
        made.exit(1, f"error: {error}\n")
    total = sum(p.numel() for p in refiner.parameters())
    settings = ", ".join(f"{name} {value}" for name, value in refiner.config().items())
    print(f"{total:,} parameters of {type(refiner).__name__}: {settings}")
    print(f"wrote {options.target}; use it with refiner=aggregation checkpoint={options.target}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="geoalign")
    about = "Write a refiner's weights in another format, by the ending of OUT."
    command = made.add_subparsers(required=True).add_parser("convert", description=about)
    command.add_argument("source", metavar="IN", help="a run's folder, a .ckpt, .pth or .safetensors file")
    command.add_argument("target", metavar="OUT", help="a .safetensors or .pth file")
    command.add_argument("--grid", type=int, help="cells a side, for files that do not say it")
    command.add_argument("--force", action="store_true", help="write over a file that is there")
    return made


if __name__ == "__main__":
    raise SystemExit(main())
