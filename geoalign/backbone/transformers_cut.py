"""Any plain vision transformer cut in two, and the proof that both parts are the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from geoalign.blocks import Rest, kept_blocks, make_chain, plan
from geoalign.blocks.vit import block_list, check_family, cut_network, plain_config, split_tokens
from geoalign.types import Maps

_CLOSE = 1e-4
"""Of the largest value: what rounding may make of float32, and another norm may not."""


def cut_vision(network: Any, cut: int, layers: Sequence[int] | None, tokens: int, weights: Mapping[str, str]) -> Rest:
    """Leave the first ``cut`` blocks of a network; what lies between there and the last of ``layers``.

    Raises:
        ValueError: a family that was not tested, or a cut outside the network.
    """
    check_family(network.config.model_type)
    parent, name = block_list(network)
    count = len(getattr(parent, name))
    taps = [count] if layers is None else [layer % (count + 1) for layer in layers]
    last = max(taps)
    width = dict.fromkeys(range(last + 1), int(network.config.hidden_size))
    cut = kept_blocks(cut, last)
    made = plan(cut, taps, tokens, width)
    facts = {"family": "transformers", **weights, "config": plain_config(network.config), "normed": last == count}
    return Rest(facts | made, cut_network(network, cut, last, last == count))


def cut_maps(rest: Rest, hidden: Sequence[Tensor], state: Tensor) -> list[Tensor]:
    """The maps of a cut network: chosen hidden states before the cut, the state there, and its other tokens."""
    cut, taps = rest.network["cut"], rest.network["taps"]
    grid = math.isqrt(state.shape[1] - rest.network["tokens"])
    here, tokens = split_tokens(state.float(), grid)
    early = [here if tap == cut else split_tokens(hidden[tap].float(), grid)[0] for tap in taps if tap <= cut]
    return early + ([] if cut in taps else [here]) + ([tokens] if rest.network["tokens"] else [])


@torch.no_grad()
def proven(rest: Rest, cut: Maps, whole: Maps) -> Rest:
    """``rest`` with or without its last norm, whichever gives the ``whole`` network's maps from those of the ``cut``.

    Raises:
        ValueError: neither does.
    """
    for normed in {rest.network["normed"], False}:
        state = {name: value for name, value in rest.state.items() if normed or not name.startswith("norm.")}
        one = Rest({**rest.network, "normed": normed}, state)
        chain = make_chain(one.network)
        chain.fill(one.state)
        pairs = zip(chain.eval()(cut), whole, strict=True)
        if all((a - b).abs().max() <= _CLOSE * b.abs().max() for a, b in pairs):
            return one
    raise ValueError(
        f"the blocks of {rest.network['id']} behind block {rest.network['cut']} do not give its maps by themselves; "
        "set backbone.cut=null"
    )
