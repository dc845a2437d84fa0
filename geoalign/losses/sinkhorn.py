"""Entropic optimal transport with a bin on either side and relaxed marginals, in logarithms."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from geoalign.geometry import Real


def log_plan(
    similarity: Float[Tensor, "n m"],
    src_mass: Float[Tensor, "n_and_bin"],
    trg_mass: Float[Tensor, "m_and_bin"],
    bin_score: Real = 0.3,
    entropy: Real = 0.1,
    relaxation: Real = 10.0,
    iterations: int = 10,
) -> Float[Tensor, "n_and_bin m_and_bin"]:
    """Logarithm of the plan that moves ``src_mass`` to ``trg_mass``; the last row and column are the bins.

    ``max Σ P·S − entropy·Σ P (log P − 1) − relaxation·(KL(P1, src) + KL(Pᵀ1, trg))`` over P, with S the similarities
    and ``bin_score`` for everything to or from a bin, by so many Sinkhorn iterations, each damped by
    ``relaxation / (relaxation + entropy)`` (GECO; Séjourné et al. 2019). Gradients are those of the iterations.
    Memory: a few maps of S's size, however many iterations.
    """
    score = F.pad(similarity, (0, 1, 0, 1), value=float(bin_score)) / entropy
    damping = relaxation / (relaxation + entropy)
    src, trg = src_mass.log(), trg_mass.log()
    v = torch.zeros_like(trg)
    for _ in range(iterations):
        u = damping * (src - _LogSumExp.apply(score, v))
        v = damping * (trg - _LogSumExp.apply(score.T, u))
    return score + u.unsqueeze(1) + v


class _LogSumExp(torch.autograd.Function):
    """``logsumexp(score + v, dim=1)``: the sum is made again in the backward pass instead of being kept."""

    @staticmethod
    def forward(ctx: Any, score: Tensor, v: Tensor) -> Tensor:
        out = torch.logsumexp(score + v, dim=1)
        ctx.save_for_backward(score, v, out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        score, v, out = ctx.saved_tensors
        share = torch.exp(score + v - out.unsqueeze(1)).mul_(gradient.unsqueeze(1))
        return share, share.sum(0)
