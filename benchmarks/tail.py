"""What training deeper costs: a tail's step beside its network's blocks alone, memory at DINOv2-B's sizes, heads, work.

``python -m benchmarks.tail`` times steps of ``lite`` cut before its last four blocks, with the state at the cut read
from a feature store and with it at hand; ``python -m benchmarks.tail memory`` takes two views of 60 x 60 cells through
the last two blocks of a network of DINOv2-B's size with random weights, each tuning in a process of its own;
``python -m benchmarks.tail heads`` has heads compare 40 keypoints on 240 x 240 cells, each in a process of its own;
``python -m benchmarks.tail work`` counts what ``recipe=strong`` computes on DINOv2-B, without computing it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import inputs
from benchmarks.timing import Contender, compare, describe, machine, resident_mb
from geoalign.backbone import Lite
from geoalign.backbone.store import FeatureStore, view_key
from geoalign.blocks import Rest, make_chain, plan
from geoalign.losses import Moment
from geoalign.refiner import Aggregation, Blend, FieldHead, Identity, Refiner, Tail, UpsampleHead

IMAGES, CUT = 2, 11
TUNINGS: dict[str, dict[str, Any]] = {
    "whole": {}, "whole, blocks run again": {"checkpointing": True}, "lora, rank 16 on fc2": {"tune": "lora"},
    "adaptformer": {"tune": "adaptformer"},
}  # fmt: skip


def step_times(repeats: int = 5) -> str:
    """Seconds of a step with cached prefix and without reading it, their ratio, and that of running the whole network.

    Two images with flips: four views, and the paper's four kinds of row.
    """
    sizes = inputs.Sizes(cells=40, channels=(40, 112, 192), map_cells=(48, 24, 12))
    backbone, views = Lite(cut=CUT), 2 * IMAGES
    frames = torch.randint(0, 256, (views, 3, 384, 384), dtype=torch.uint8)
    maps, keys = backbone({384: frames}), [view_key("tail", str(i), "upright") for i in range(views)]
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(folder).bind(backbone)
        store.prepare()
        store.add_batch(keys, maps)
        step = _step(backbone, sizes)
        sides = {
            "cached": lambda: step(tuple(store.read_many(keys))), "at hand": lambda: step(maps),
            "from pixels": lambda: step(backbone({384: frames})),
        }  # fmt: skip
        contenders = [Contender(name, side) for name, side in sides.items() if name != "at hand"]
        found = compare(sides["at hand"], contenders, unit="step", setting="lite", repeats=repeats)
    said = [f"{c.name}: {c.fast.cpu_s:.3f} s, {1 / c.cpu_ratio:.3f} of {c.plain.cpu_s:.3f} s" for c in found]
    return f"{describe(machine())}\nprocessor time of a step of {views} views, {'; '.join(said)} (the tail alone)"


def _step(backbone: Lite, sizes: inputs.Sizes) -> Callable[[tuple[torch.Tensor, ...]], None]:
    rest = backbone.rest
    assert rest is not None
    tail = Tail(Aggregation(sizes.channels, sizes.cells, 256, dropout_at="native"), rest.network).train()
    tail.start(rest)
    optimizer = torch.optim.AdamW([p for p in tail.parameters() if p.requires_grad], lr=1e-4)
    batch, loss = inputs.clique(IMAGES, sizes), inputs.loss(sizes).train()

    def step(maps: tuple[torch.Tensor, ...]) -> None:
        optimizer.zero_grad()
        loss(tail.bank(maps, sizes.frame_px), batch, Moment(tail.scale)).mean.backward()
        optimizer.step()

    return step


def memory_of_a_step(tuning: str) -> None:
    """Print peak MB above the process's own before; called in a process of its own."""
    network = _dinov2_b() | plan(10, [12], 1, {10: 768, 12: 768})
    state = {name: 0.02 * torch.randn(value.shape) for name, value in make_chain(network).named_parameters()}
    tail = Tail(Identity((768,), 60), network, **TUNINGS[tuning]).train()
    tail.start(Rest(network, state))
    maps = torch.randn(2, 768, 60, 60), torch.randn(2, 768, 1, 1)
    optimizer = torch.optim.AdamW([p for p in tail.parameters() if p.requires_grad], lr=1e-4)
    before = resident_mb()
    tail(maps).square().sum().backward()
    optimizer.step()
    trained = sum(tail.get_parameter(name).numel() for name in tail.trained())
    print(f"{resident_mb(peak=True) - before:.0f} MB above {before:.0f} MB, {trained:,} parameters trained")


HEADS: dict[str, Callable[[Refiner], Refiner]] = {
    "upsample, fine maps held": lambda refiner: UpsampleHead(refiner, 4),
    "upsample, memory=rows": lambda refiner: UpsampleHead(refiner, 4, memory="rows"),
    "field, around=2": lambda refiner: FieldHead(refiner, 4, around=2),
}


def memory_of_a_head(name: str) -> None:
    """Print seconds and peak MB of a pass there and back, from 60 to 240 cells; called in a process of its own."""
    torch.manual_seed(0)
    head, maps = HEADS[name](Identity((768,), 60)).train(), (torch.randn(2, 768, 60, 60),)
    view, xy_px = torch.tensor([0, 1]).repeat_interleave(20), 840 * torch.rand(40, 2)
    before, start = resident_mb(), time.process_time()
    found = head.bank(maps, 840).read(view, xy_px, (1 - view).sort().values)
    found.similarity.square().mean().backward()
    kept = found.similarity.nbytes / 1e6
    took = time.process_time() - start
    print(
        f"{took:.1f} s, {resident_mb(peak=True) - before:.0f} MB above {before:.0f} MB; {kept:.1f} MB of similarities"
    )


def work() -> str:
    """FLOP of a view under ``recipe=strong`` on DINOv2-B at 840 px, counted on tensors without memory."""
    from torch.utils.flop_counter import FlopCounterMode

    facts = _dinov2_b() | plan(8, [12], 1, {8: 768, 12: 768})
    with torch.device("meta"):
        tail = Tail(Blend(Aggregation((768,), 60, 256, dropout=0.5, dropout_at="native")), facts).train()
        tail.start(Rest(facts, dict(tail.chain.named_parameters())))
        maps = torch.randn(1, 768, 60, 60), torch.randn(1, 768, 1, 1)
        with FlopCounterMode(display=False) as blocks:
            tail.maps(maps)
        with FlopCounterMode(display=False) as both:
            answer = tail(maps)
            there = both.get_total_flops()
            answer.sum().backward()
    counts = 2 * blocks.get_total_flops(), there, both.get_total_flops()  # twice: four blocks of twelve
    eight, once, total = (f"{count / 1e12:.2f}" for count in counts)
    return f"TFLOP a view: the eight frozen blocks {eight}, tail and refiner {once}, there and back {total}"


def _dinov2_b() -> dict[str, Any]:
    sizes = {"hidden_size": 768, "num_attention_heads": 12, "image_size": 518, "patch_size": 14}
    config = {"model_type": "dinov2", **sizes}
    return {"family": "transformers", "id": "random", "hash": "0", "config": config, "normed": False}


def main() -> None:
    """Times, work, or memory."""
    modes = {"memory": ("memory_of_a_step", TUNINGS), "heads": ("memory_of_a_head", HEADS)}
    if sys.argv[1:2] == ["work"]:
        print(work())
    elif sys.argv[1:2] and sys.argv[1] in modes:
        measure, names = modes[sys.argv[1]]
        for name in names:
            code = f"from benchmarks.tail import {measure}; {measure}({name!r})"
            done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
            print(f"{name}: {done.stdout.splitlines()[-1]}", flush=True)
    else:
        print(step_times())


if __name__ == "__main__":
    main()
