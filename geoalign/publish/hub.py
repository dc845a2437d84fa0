"""Publishing: refiners saved, loaded and shared in the hub's way, with a card that says how they score."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HFValidationError

from geoalign.files import replacing
from geoalign.publish.card import make_card
from geoalign.refiner.base import CONFIG, CheckpointError, Refiner
from geoalign.refiner.checkpoint import RECIPE, WEIGHTS, load_refiner, read_weights, run_recipe, write_weights

CARD = "README.md"


def save(
    refiner: Refiner,
    folder: str | Path,
    run: str | Path | None = None,
    backbone: str | None = None,
    half: bool = False,
    around: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``config.json`` (what makes the refiner), ``model.safetensors`` and ``README.md`` (the card).

    Args:
        refiner: any refiner.
        folder: made where it is not there; a card that lies in it stays unless ``run`` or ``backbone`` is given.
        run: the folder of the run whose scores, backbone and matcher are stated (or one with a ``summary.json``).
        backbone: said in words where no run tells it.
        half: store weights as float16, half the bytes; scores are to be measured on what was written.
        around: settings of ``backbone`` and ``matcher``, where no run tells them.

    Raises:
        CheckpointError: the run was not tested, tested other weights, or the folder cannot be written.
    """
    folder, around = Path(folder), dict(around or {})
    if run is not None and (Path(run) / "checkpoints").is_dir():
        _check_same(refiner, Path(run))
        around = run_recipe(run)
    card = make_card(refiner, around.get("backbone"), run, backbone)  # refused before anything is written
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if half and v.is_floating_point() else v for k, v in refiner.state_dict().items()}
    write_weights(state, folder / WEIGHTS, {**around, CONFIG: refiner.recipe()})
    texts = {RECIPE: json.dumps(refiner.recipe(), indent=2) + "\n"}
    if run is not None or backbone is not None or not (folder / CARD).exists():
        texts[CARD] = str(card)
    for name, text in texts.items():
        with replacing(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return folder


def push(
    refiner: Refiner,
    repo_id: str,
    run: str | Path | None = None,
    backbone: str | None = None,
    private: bool | None = None,
    **options: Any,
) -> str:
    """Publish what :func:`save` writes; the commit's address.

    ``options`` are :meth:`huggingface_hub.HfApi.upload_folder`'s, such as ``commit_message``.
    """
    with TemporaryDirectory() as folder:
        save(refiner, folder, run, backbone)
        api = HfApi()
        repo = api.create_repo(repo_id, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo.repo_id, folder_path=folder, **options))


def load(source: str | Path, kind: type[Refiner] | None = None, revision: str | None = None, **options: Any) -> Refiner:
    """The refiner of a weights file, a run's or a saved folder, or a hub id; strictly and in eval mode.

    ``kind`` and ``options`` are :func:`geoalign.refiner.checkpoint.load_refiner`'s, and so are the errors.
    """
    return load_refiner(fetch(source, revision), kind, **options)


def fetch(source: str | Path, revision: str | None = None) -> Path:
    """``source`` itself where it is a path, else the folder that the hub has under this id.

    Raises:
        CheckpointError: neither.
    """
    path = Path(source)
    if path.exists():
        return path
    try:
        if str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
            raise HFValidationError("no such path, nor an id owner/name")
        return Path(snapshot_download(str(source), revision=revision, allow_patterns=[RECIPE, WEIGHTS]))
    except (OSError, HFValidationError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"no refiner at {source}: expected a run's folder, a folder with {WEIGHTS}, a weights file (.ckpt, .pth or "
            f".safetensors), or a hub id that can be reached ({reason})"
        ) from error


def _check_same(refiner: Refiner, run: Path) -> None:
    """A card must not state the scores of other weights."""
    state, own = read_weights(run).state, refiner.state_dict()
    if own.keys() != state.keys() or not all(torch.equal(own[k].cpu(), state[k].cpu()) for k in own):
        raise CheckpointError(f"this refiner is not the one that {run} tested; load it with publish.load({str(run)!r})")
