"""What of a chain of blocks is trained: the blocks themselves, LoRA beside their layers, or AdaptFormer's adapters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from geoalign.blocks import Chain

TUNES = ("whole", "lora", "adaptformer", "none")


class AdaptFormer(nn.Module):
    """``scale · Up(ReLU(Down(LN(x))))`` with Up zero at first (Chen et al. 2022, with MARCO's norm).

    It stands beside a block's MLP: ``x + A(x) + mlp(norm(x))``.
    """

    def __init__(self, channels: int, width: int, scale: float) -> None:
        super().__init__()
        self.norm, self.scale = nn.LayerNorm(channels), scale
        self.down, self.up = nn.Linear(channels, width), nn.Linear(width, channels)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Float[Tensor, "u t c"]) -> Float[Tensor, "u t c"]:
        """What is added to the state after the attention."""
        return self.scale * self.up(F.relu(self.down(self.norm(x))))


def tune_chain(
    chain: Chain,
    tune: str,
    blocks: Sequence[int] | None,
    norm: bool,
    rank: int,
    alpha: float | None,
    modules: Sequence[str] | None,
    width: int | None,
    scale: float,
) -> None:
    """Say what of a chain is trained, and add what a tuning adds; nothing changes the maps at first.

    Raises:
        ValueError: blocks or modules that are not there, or a tuning that these blocks do not take.
    """
    if tune not in TUNES:
        raise ValueError(f"refiner.tune is one of {', '.join(TUNES)}, got {tune!r}")
    if tune == "none":
        return
    chosen = chosen_blocks(chain, blocks)
    if tune == "whole":
        for block in chosen.values():
            block.requires_grad_(True)
    elif tune == "lora":
        add_lora(chain, chosen, rank, rank if alpha is None else alpha, modules)
    else:
        for block in chosen.values():
            add_adapter(block, width, scale)
    chain.norm.requires_grad_(norm)


def chosen_blocks(chain: Chain, blocks: Sequence[int] | None) -> dict[str, nn.Module]:
    """The blocks of these numbers, by name."""
    wanted = list(chain.blocks) if blocks is None else [str(number) for number in blocks]
    if not wanted or not set(wanted) <= set(chain.blocks):
        there = ", ".join(chain.blocks)
        raise ValueError(f"refiner.blocks are numbers of blocks behind the cut ({there}), got {', '.join(wanted)}")
    return {name: chain.blocks[name] for name in wanted}


def add_lora(
    chain: Chain, chosen: dict[str, nn.Module], rank: int, alpha: float, modules: Sequence[str] | None
) -> None:
    """Low-rank products beside linear layers and 1×1 convolutions (Hu et al. 2022), through peft.

    Depthwise convolutions have no low rank to speak of: each of their channels is a matrix of rank one.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if rank < 1:
        raise ValueError(f"refiner.rank is a positive number, got {rank}")
    names = [f"{name}.{one}" for name, block in chosen.items() for one in lora_names(block, modules)]
    setting = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names)  # type: ignore[arg-type]
    inject_adapter_in_model(setting, chain.blocks)


def lora_names(block: nn.Module, modules: Sequence[str] | None) -> list[str]:
    """Layers of a block whose names end as ``modules`` do; null: its last.

    Raises:
        ValueError: a name that no layer has, with those that are there.
    """
    there = [name for name, module in block.named_modules() if _has_low_rank(module)]
    if modules is None:
        return there[-1:]
    unknown = [one for one in modules if not any(_ends(name, one) for name in there)]
    if unknown or not modules:
        got = ", ".join(unknown) or "none"
        raise ValueError(f"refiner.modules are names of layers as {', '.join(there)} or their ends, got {got}")
    return [name for name in there if any(_ends(name, one) for one in modules)]


def add_adapter(block: nn.Module, width: int | None, scale: float) -> None:
    """An adapter beside the MLP of a transformer's block, fed what the MLP's norm is fed.

    Raises:
        ValueError: a block without such a norm.
    """
    norms = [module for module in block.children() if isinstance(module, nn.LayerNorm)]
    if not norms:
        raise ValueError(
            "adaptformer stands beside a transformer's MLP, these blocks have none; set tune=whole or lora"
        )
    (channels,) = norms[-1].normalized_shape
    if width is not None and width < 1:
        raise ValueError(f"refiner.width is a positive number of channels, got {width}")
    block.adapter = AdaptFormer(channels, width or channels // 2, scale)
    norms[-1].register_forward_pre_hook(_note)
    block.register_forward_hook(_add)


def _note(norm: Any, inputs: tuple[Tensor, ...]) -> None:
    norm.seen = inputs[0]


def _add(block: Any, inputs: Any, output: Any) -> Any:
    norm = [module for module in block.children() if isinstance(module, nn.LayerNorm)][-1]
    added = block.adapter(norm.__dict__.pop("seen"))
    return (output[0] + added, *output[1:]) if isinstance(output, tuple) else output + added


def _has_low_rank(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return tuple(module.kernel_size) == (1, 1) and tuple(module.stride) == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")
