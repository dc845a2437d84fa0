"""What people ask for besides pictures, checked: points, mirror pairs and poses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Points = np.ndarray | Tensor | Sequence[float] | Sequence[Sequence[float]]
Align = Literal["off", "flip", "rotate"]
"""Which poses of the source are tried: none but its own, or a set of matching.methods.POSES."""


def usable_device(name: str | None) -> str:
    """The device of that name, or the accelerator where there is one; ValueError for one that cannot compute here.

    >>> usable_device("cpu")
    'cpu'
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.ones(1, device=name).cpu()  # meta tensors are made anywhere, but hold nothing
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(
            f"device {name!r} cannot be used here: {str(error).splitlines()[0]}; give cpu, or none"
        ) from error
    return name


def outside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Which points ``(n 2)`` do not lie on an image of ``size = (h, w)``.

    >>> outside(np.array([[0, 0], [6, 4], [7, 0]]), (4, 6)).tolist()
    [False, False, True]
    """
    return np.asarray(~((points >= 0) & (points <= [size[1], size[0]])).all(-1))


def checked_points(points: Points, size: tuple[int, int]) -> Tensor:
    """Points ``(n 2)`` on an image of ``size``, or a ValueError that names the first that is not."""
    xy = np.asarray(points, dtype=np.float32)
    if xy.ndim != 2 or xy.shape[-1] != 2:
        raise ValueError(f"points are (x, y) rows, shape (n, 2), got {xy.shape}")
    wrong = outside(xy, size)
    if wrong.any():
        x, y = xy[wrong][0].tolist()
        raise ValueError(f"point ({x:g}, {y:g}) lies outside the {size[1]}x{size[0]} image; points are x, y in px")
    return torch.from_numpy(xy)


def partners(count: int, mirror_pairs: Sequence[tuple[int, int]]) -> Tensor:
    """The mirror partner of each of ``count`` points; its own where no pair names it.

    >>> partners(3, [(0, 2)]).tolist()
    [2, 1, 0]
    """
    partner = list(range(count))
    for pair in mirror_pairs:
        if len(pair) != 2 or pair[0] == pair[1] or not all(0 <= i < count and partner[i] == i for i in pair):
            raise ValueError(f"mirror_pairs are pairs of numbers below {count}, each once, got {tuple(pair)}")
        partner[pair[0]], partner[pair[1]] = pair[1], pair[0]
    return torch.tensor(partner, dtype=torch.long)
