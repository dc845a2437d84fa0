"""What lies behind a cut: the plain data that make it, its weights, and how it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from geoalign.types import Maps

MOST_BLOCKS = 1000
_VIEWS_ON_CPU = 2
"""Views run together on a CPU: more fall out of its cache."""


class Rest(NamedTuple):
    """What a cut backbone leaves out.

    ``network`` is plain data: ``family``, ``id`` and ``hash`` of the weights, ``cut`` (blocks before it), ``taps``
    (numbers of blocks after which the whole network gives a map), ``tokens`` (class and register tokens, which travel
    as a map ``(u c 1 t)``; 0: none), ``first`` (the network's first map among the backbone's), ``inputs`` and
    ``outputs`` (channels of all the backbone's maps with and without the cut), ``groups`` of the outputs, and what the
    family needs. ``state`` are the weights of its :class:`Chain`, by name.
    """

    network: dict[str, Any]
    state: dict[str, Tensor]


def kept_blocks(cut: int, blocks: int) -> int:
    """How many of the ``blocks`` blocks that are used stay frozen; a negative ``cut`` counts from the end.

    Raises:
        ValueError: it does not.
    """
    if not -blocks <= cut < blocks:
        raise ValueError(
            f"backbone.cut is the number of blocks kept frozen, 0 to {blocks - 1} of the {blocks} used here (-2: all "
            f"but the last two), got {cut}; null keeps them all"
        )
    return cut % blocks


def plan(cut: int, taps: Sequence[int], tokens: int, width: Mapping[int, int]) -> dict[str, Any]:
    """The part of :attr:`Rest.network` that says which maps go in and out; ``width``: channels after each block."""
    early = [width[tap] for tap in taps if tap <= cut]
    state = [] if cut in taps else [width[cut]]
    outputs = [width[tap] for tap in taps]
    return {
        "cut": cut, "taps": list(taps), "tokens": tokens, "first": 0,
        "inputs": early + state + [width[cut]] * bool(tokens),
        "outputs": outputs, "groups": [list(range(len(outputs)))],
    }  # fmt: skip


class Chain(nn.Module, ABC):
    """The blocks behind a cut: the maps that the whole network would give, from those of the cut one.

    A family sets ``blocks``, named by their numbers in the whole network, and ``norm`` (of the last tap, or nothing).
    Its weights are undefined until :meth:`fill`; nothing is trained until somebody says so.
    """

    blocks: nn.ModuleDict
    norm: nn.Module

    def __init__(self, network: Mapping[str, Any]) -> None:
        super().__init__()
        self.cut, self.taps, self.tokens = int(network["cut"]), tuple(network["taps"]), int(network["tokens"])
        self.last = max(self.taps)
        if self.last > MOST_BLOCKS:
            raise ValueError(f"a network has at most {MOST_BLOCKS} blocks, got {self.last}; leave refiner.network null")
        kept_blocks(self.cut, self.last)
        early = [tap for tap in self.taps if tap <= self.cut]
        self.first, self.early, self.inputs = int(network["first"]), len(early), tuple(network["inputs"])
        self.at = early.index(self.cut) if self.cut in early else self.early
        """Where the state at the cut lies among the network's own maps."""
        self.own = max(self.early, self.at + 1) + bool(self.tokens)
        """How many maps of the network's own there are."""
        self.checkpointing = False

    @abstractmethod
    def enter(self, state: Float[Tensor, "u c h w"], tokens: Tensor | None) -> Tensor:
        """The state at the cut as blocks take it."""

    @abstractmethod
    def leave(self, state: Tensor, like: Float[Tensor, "u c h w"]) -> Float[Tensor, "u d i j"]:
        """The state as a map; ``like`` is the map at the cut."""

    def around(self, like: Float[Tensor, "u c h w"]) -> dict[str, Any]:
        """What every block takes beside the state."""
        return {}

    def forward(self, maps: Maps) -> Maps:
        """One map per tap in place of the network's own; maps of other networks pass.

        Raises:
            ValueError: maps of other channels, or without the tokens.
        """
        self._check(maps)
        end = self.first + self.own
        own = maps[self.first : end]
        step = _VIEWS_ON_CPU if own[0].device.type == "cpu" else len(own[0])
        parts = [self._run(some) for some in zip(*(m.split(max(1, step)) for m in own), strict=True)]
        tapped = {number: torch.cat([part[number] for part in parts]) for number in parts[0]}
        early = iter(own)
        mine = tuple(next(early) if tap <= self.cut else tapped[tap] for tap in self.taps)
        return (*maps[: self.first], *mine, *maps[end:])

    def fill(self, state: Mapping[str, Tensor], but: frozenset[str] = frozenset()) -> None:
        """Copy the weights of a :class:`Rest` into the blocks, those named ``but`` left out."""
        own = {plain_name(name): value for name, value in self.named_parameters() if is_start(name)}
        for name in sorted(own.keys() - but):
            own[name].data.copy_(state[name])

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """``torch.compile`` of every block."""
        for block in self.blocks.values():
            block.compile(*args, **kwargs)

    def _run(self, own: Maps) -> dict[int, Tensor]:
        like = own[self.at]
        state, around = self.enter(like, own[-1] if self.tokens else None), self.around(like)
        found: dict[int, Tensor] = {}
        for name, block in self.blocks.items():
            state = self._step(block, state, around)
            if int(name) + 1 in self.taps:
                last = int(name) + 1 == self.last
                found[int(name) + 1] = self.leave(self.norm(state) if last else state, like)
        return found

    def _step(self, block: nn.Module, state: Tensor, around: dict[str, Any]) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled() and any(p.requires_grad for p in block.parameters()):
            after = checkpoint(block, state, use_reentrant=False, **around)
        else:
            after = block(state, **around)
        return after[0] if isinstance(after, tuple) else after  # transformers 4 gives tuples

    def _check(self, maps: Maps) -> None:
        got = tuple(m.shape[1] for m in maps)
        specials = maps[self.first + self.own - 1].shape[2:] if len(got) == len(self.inputs) else ()
        if got != self.inputs or (self.tokens and specials != (1, self.tokens)):
            tokens = f", the last of the network's {self.own} with {self.tokens} tokens" if self.tokens else ""
            shapes = [tuple(m.shape[1:]) for m in maps]
            raise ValueError(
                f"tail expects maps of {self.inputs} channels{tokens}, got {shapes}; extract the features again with "
                f"backbone.cut={self.cut}"
            )


def is_start(name: str) -> bool:
    """Whether a parameter of a chain is of the whole network, and not an adapter's.

    >>> is_start("blocks.3.mlp.fc2.base_layer.weight"), is_start("blocks.3.mlp.fc2.lora_A.default.weight")
    (True, False)
    """
    return not {"lora_A", "lora_B", "adapter"} & set(name.split("."))


def plain_name(name: str) -> str:
    """A parameter's name without the layers that adapters wrap around it."""
    return name.replace(".base_layer.", ".")
