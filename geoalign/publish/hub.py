"""Publishing: refiners that save, load and share themselves in the hub's way, with a card that says how they score."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import ModelCard, ModelHubMixin, hf_hub_download
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from huggingface_hub.errors import HFValidationError
from torch import nn

from geoalign.refiner.base import Refiner
from geoalign.refiner.checkpoint import (
    CheckpointError,
    architecture,
    find_checkpoint,
    load_released,
    load_state,
    read_weights,
    write_weights,
)


class Publishable(
    ModelHubMixin,
    library_name="geoalign",
    tags=["semantic-correspondence", "keypoint-matching"],
    paper_url="https://arxiv.org/abs/2311.17034",
):
    """``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` for a refiner.

    A saved folder holds ``config.json`` (the constructor's arguments), ``model.safetensors`` and ``README.md``.
    ``run`` is the folder of the run whose scores and backbone the card states (or one with a ``summary.json``);
    ``backbone`` is said in words where no run tells it.
    """

    def save_pretrained(
        self, save_directory: str | Path, *, run: str | Path | None = None, backbone: str | None = None, **options: Any
    ) -> str | None:
        """Write the folder; a card that is there stays unless ``run`` or ``backbone`` is given.

        ``options`` are :meth:`huggingface_hub.ModelHubMixin.save_pretrained`'s.
        """
        options.setdefault("model_card_kwargs", {"run": run, "backbone": backbone})
        card = self.generate_model_card(**options["model_card_kwargs"])  # refused before anything is written
        config = options.pop("config", None) or self.recipe()
        super().save_pretrained(save_directory, config=config, **options)
        if run is not None or backbone is not None:
            card.save(Path(save_directory) / "README.md")
        return None

    def push_to_hub(
        self, repo_id: str, *, run: str | Path | None = None, backbone: str | None = None, **options: Any
    ) -> str:
        """Publish; the commit's address. ``options`` are :meth:`huggingface_hub.ModelHubMixin.push_to_hub`'s."""
        options.setdefault("model_card_kwargs", {"run": run, "backbone": backbone})
        return super().push_to_hub(repo_id, **options)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Self:
        """From a saved folder, a hub id or a weights file, strictly and in eval mode.

        Raises:
            CheckpointError: nothing there, or weights that do not fit the config.
        """
        source = pretrained_model_name_or_path
        if Path(source).is_file():
            return load_released(source, **options)  # type: ignore[return-value]
        try:
            return super().from_pretrained(source, **options)
        except CheckpointError:
            raise
        except (OSError, ValueError, TypeError, HFValidationError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise CheckpointError(
                f"no refiner at {source}: expected a folder with {SAFETENSORS_SINGLE_FILE} and config.json, a weights "
                f"file, or a hub id that can be reached ({reason})"
            ) from error

    def generate_model_card(self, run: str | Path | None = None, backbone: str | None = None) -> ModelCard:
        """The card; see the class."""
        from geoalign.publish.card import make_card

        assert isinstance(self, Refiner)
        if run is not None and (Path(run) / "checkpoints").is_dir():
            _check_same(self, Path(run))
        parameters = sum(p.numel() for p in self.parameters())
        return make_card(self.recipe(), parameters, self._hub_mixin_info.model_card_data, run, backbone)

    def _save_pretrained(self, save_directory: Path) -> None:
        assert isinstance(self, Refiner)
        write_weights(self.state_dict(), save_directory / SAFETENSORS_SINGLE_FILE)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Self:
        names = ("revision", "cache_dir", "force_download", "local_files_only", "token")
        hub = {name: options.pop(name) for name in names}
        local = Path(model_id).is_dir()
        path = find_checkpoint(model_id) if local else Path(hf_hub_download(model_id, SAFETENSORS_SINGLE_FILE, **hub))
        state, config = read_weights(path)
        options.pop("_target_", None)
        if "grid" not in {**config, **options}:
            raise CheckpointError(f"no config.json in {model_id}; give the refiner's grid (cells a side), grid=...")
        refiner = cls(**{**config, **architecture(state, path)._asdict(), **options})
        assert isinstance(refiner, Refiner)
        load_state(refiner, state, path)
        refiner.eval()
        return refiner


def _check_same(refiner: nn.Module, run: Path) -> None:
    """A card must not state the scores of other weights."""
    state = read_weights(run).state
    own = refiner.state_dict()
    if own.keys() != state.keys() or not all(torch.equal(own[k].cpu(), state[k].cpu()) for k in own):
        raise CheckpointError(
            f"this refiner is not the one that {run} tested; load it with from_pretrained({str(run)!r})"
        )
