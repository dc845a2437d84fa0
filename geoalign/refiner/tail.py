"""The last blocks of a network as a refiner: what lies behind a backbone's cut, tuned from the same weights.

Frozen stays frozen: the blocks before the cut are the backbone's, and their maps are cached as any others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jaxtyping import Float, UInt8
from torch import Tensor

from geoalign.bank import Bank
from geoalign.blocks import Rest, make_chain
from geoalign.blocks.base import plain_name
from geoalign.geometry import FRAME_PX, Real
from geoalign.refiner.base import CheckpointError, Refiner
from geoalign.refiner.identity import Identity
from geoalign.refiner.tail_start import check_start, keep_what_is_trained
from geoalign.refiner.tail_tuning import tune_chain
from geoalign.types import Maps

Tune = Literal["whole", "lora", "adaptformer", "none"]


class Tail(Refiner):
    """The blocks behind ``backbone.cut``, then another refiner on the maps that they give.

    At first the maps are those of the uncut network. Checkpoints hold what is trained, and the name and hash of the
    weights that it started from.

    Args:
        refiner: takes the tail's maps
        network: what lies behind the cut; null: taken from the backbone
        channels: of the maps at the cut, in order; the network's
        grid: cells a side; the refiner's
        tune: whole: the blocks themselves | lora: beside them | adaptformer: beside their MLPs | none
        blocks: numbers of the blocks that are tuned, in the whole network; null: all behind the cut
        norm: also train the network's last norm, where its maps go through it
        rank: of lora's products
        alpha: lora's products are scaled by alpha / rank; null: rank
        modules: of a block that lora tunes, by the end of their names, as [fc2] or [q_proj, v_proj]; null: the last
        adapter_width: channels inside adaptformer's adapters; null: half the network's
        adapter_scale: of what adaptformer's adapters add
        rate: share of optimizer.lr for the tail's own tensors; the inner refiner has all of it
        checkpointing: run blocks again in the backward pass, which spares memory

    Raises:
        ValueError: no cut, or a tuning that these blocks do not take.
    """

    def __init__(
        self,
        refiner: Refiner,
        network: Mapping[str, Any] | None = None,
        channels: Sequence[int] | None = None,
        grid: int | None = None,
        tune: Tune = "whole",
        blocks: Sequence[int] | None = None,
        norm: bool = True,
        rank: int = 16,
        alpha: float | None = None,
        modules: Sequence[str] | None = None,
        adapter_width: int | None = None,
        adapter_scale: float = 0.1,
        rate: float = 0.1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if network is None:
            raise ValueError(
                "refiner=tail runs what lies behind a backbone's cut, and this one has none; set backbone.cut"
            )
        if rate <= 0:
            raise ValueError(f"refiner.rate is a positive share of optimizer.lr, got {rate}")
        self.network, self.chain = dict(network), make_chain(network)
        self._check_fit(refiner, channels, grid)
        self.channels, self.grid, self.finer = self.chain.inputs, refiner.grid, refiner.finer
        self.needs_px, self.width, self.within, self.rate = refiner.needs_px, refiner.width, refiner, rate
        self.chain.checkpointing = checkpointing
        self._settings = {
            "tune": tune, "blocks": None if blocks is None else list(blocks), "norm": norm, "rank": rank,
            "alpha": alpha, "modules": None if modules is None else list(modules), "adapter_width": adapter_width,
            "adapter_scale": adapter_scale, "rate": rate, "checkpointing": checkpointing,
        }  # fmt: skip
        tune_chain(self.chain, tune, blocks, norm, rank, alpha, modules, adapter_width, adapter_scale)
        keep_what_is_trained(self)
        self.started = self.loaded = False

    @property
    def scale(self) -> Float[Tensor, ""] | None:
        """The inner refiner's own."""
        return self.within.scale

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, the inner refiner by its recipe."""
        own = {"network": self.network, "channels": list(self.channels), "grid": self.grid}
        return {"refiner": self.within.recipe(), **own, **self._settings}

    def forward(self, maps: Maps) -> Float[Tensor, "u c g g"]:
        """The inner refiner's descriptors of the tail's maps."""
        return self.within(self.maps(maps))

    def bank(self, maps: Maps, frame_px: Real = FRAME_PX) -> Bank:
        """The inner refiner's bank of the tail's maps."""
        return self.within.bank(self.maps(maps), frame_px)

    def bank_seeing(
        self, maps: Maps, frames: Mapping[int, UInt8[Tensor, "u 3 s s"]], frame_px: Real = FRAME_PX
    ) -> Bank:
        """The inner refiner's bank of the tail's maps and of the frames that it wants."""
        return self.within.bank_seeing(self.maps(maps), frames, frame_px)

    def maps(self, maps: Maps) -> Maps:
        """The maps of the whole network, from those at the cut.

        Raises:
            RuntimeError: nobody has called :meth:`start`.
            ValueError: maps that do not fit.
        """
        if not self.started:
            raise RuntimeError("this tail has no weights yet; call start(backbone.rest) of the backbone that it is for")
        return self.chain(maps)

    def start(self, rest: Rest) -> None:
        """Take the weights of the network behind the cut; tensors that were loaded from a file stay.

        Raises:
            CheckpointError: another network, or other weights than it was trained from.
        """
        check_start(self.network, rest.network)
        trained = {plain_name(name) for name, value in self.chain.named_parameters() if value.requires_grad}
        self.chain.fill(rest.state, frozenset(trained) if self.loaded else frozenset())
        self.started = True

    def rates(self) -> dict[str, float]:
        """The tail's own tensors at its rate, the inner refiner's at theirs."""
        own = {f"chain.{name}": self.rate for name, value in self.chain.named_parameters() if value.requires_grad}
        return own | super().rates()

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """``torch.compile`` of the blocks, and of the inner refiner its own way."""
        self.chain.compile(*args, **kwargs)
        self.within.compile(*args, **kwargs)

    def _check_fit(self, refiner: Refiner, channels: Sequence[int] | None, grid: int | None) -> None:
        outputs = tuple(self.network["outputs"])
        want = self.chain.inputs, outputs, refiner.grid
        got = tuple(channels or self.chain.inputs), tuple(refiner.channels), grid or refiner.grid
        if want != got:
            raise ValueError(
                f"a tail takes maps of {want[0]} channels, its refiner those of {want[1]} it gives, on {want[2]} cells "
                f"a side; got {got[0]}, {got[1]} and {got[2]}; leave channels and grid null"
            )


def tails_in(refiner: Refiner) -> list[Tail]:
    """The tail that a refiner is or has within it, where there is one."""
    return [module for module in refiner.modules() if isinstance(module, Tail)]


def start(refiner: Refiner, rest: Rest | None) -> None:
    """Give the tail in a refiner, or in one within it, what lies behind the backbone's cut.

    Raises:
        ValueError: a cut without a tail, which would leave the network's last blocks out.
        CheckpointError: a tail of another network, or of other weights.
    """
    tails = tails_in(refiner)
    if rest is None and tails:
        cut, name = tails[0].network["cut"], tails[0].network["id"]
        raise CheckpointError(
            f"this refiner goes on from block {cut} of {name}, the backbone has no cut; set backbone.cut={cut}"
        )
    if rest is not None and not tails:
        raise ValueError(
            f"backbone.cut={rest.network['cut']} leaves the blocks behind it to a tail, and the refiner has none; set "
            "refiner=tail (or tail_small, tail_blend, tail_aggregation), or backbone.cut=null"
        )
    for tail in tails:
        assert rest is not None
        tail.start(rest)


def frozen_features(
    channels: Sequence[int],
    grid: int,
    groups: Sequence[Sequence[int]],
    rest: Rest | None = None,
    centre: bool = False,
) -> Refiner:
    """Zero-shot descriptors of a backbone: its maps themselves, with a cut those of its whole network, untuned."""
    if rest is None:
        return Identity(channels, grid, groups, centre)
    whole = Identity(rest.network["outputs"], grid, rest.network["groups"], centre)
    tail = Tail(whole, rest.network, tune="none")
    tail.start(rest)
    return tail.eval()
