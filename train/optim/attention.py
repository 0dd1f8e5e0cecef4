"""Self-attention for training on a CPU: plain matrix products, forward and backward.

torch's fused attention for CPUs spares memory and pays for it in time: its backward pass, which
computes the probabilities anew in small blocks, takes longer than all matrix products of a small
encoder's forward pass. With sequences of a few hundred tokens the probabilities fit into memory;
kept, they leave four batched products and a softmax to the backward pass. Queries, keys and
values come from one product in place of three.

Shape suffixes: B sequences, S padded length, D hidden, N heads, H head dim, G = B N.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert_rt.model.encoder import BertSelfAttention

__all__ = ["FastSelfAttention", "use_fast_attention"]


class _Attend(torch.autograd.Function):
    """softmax(q k^T scale + mask) v, with the probabilities kept for backward."""

    @staticmethod
    def forward(
        ctx: Any, q_GSH: Tensor, k_GSH: Tensor, v_GSH: Tensor, mask: Tensor, scale: float
    ) -> Tensor:
        b, _, rows, s = mask.shape
        if rows == 1:
            mask_G1S = mask.expand(b, len(q_GSH) // b, 1, s).reshape(-1, 1, s)
            scores_GSS = torch.baddbmm(mask_G1S, q_GSH, k_GSH.transpose(1, 2), alpha=scale)
        else:
            # A mask with rows of its own is as large as a head's scores: not copied for each head.
            scores_GSS = torch.bmm(q_GSH, k_GSH.transpose(1, 2)).mul_(scale)
            scores_GSS.view(b, -1, s, s).add_(mask)
        p_GSS = torch.softmax(scores_GSS, dim=-1)
        ctx.save_for_backward(q_GSH, k_GSH, v_GSH, p_GSS)
        ctx.scale = scale
        return torch.bmm(p_GSS, v_GSH)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (grad_GSH,) = gradients
        q_GSH, k_GSH, v_GSH, p_GSS = ctx.saved_tensors
        grad_v_GSH = torch.bmm(p_GSS.transpose(1, 2), grad_GSH)
        grad_p_GSS = torch.bmm(grad_GSH, v_GSH.transpose(1, 2))
        grad_scores_GSS = torch._softmax_backward_data(grad_p_GSS, p_GSS, -1, p_GSS.dtype)
        grad_q_GSH = torch.bmm(grad_scores_GSS, k_GSH).mul_(ctx.scale)
        grad_k_GSH = torch.bmm(grad_scores_GSS.transpose(1, 2), q_GSH).mul_(ctx.scale)
        return grad_q_GSH, grad_k_GSH, grad_v_GSH, None, None


class FastSelfAttention(nn.Module):
    """Takes the place of a BertSelfAttention, and over its parameters.

    Probabilities are not dropped; see train.optim.dropout.
    """

    def __init__(self, replaced: BertSelfAttention) -> None:
        """Take over the projections.

        Args:
            replaced: The module whose parameters, and their names, this one goes on with.
        """
        super().__init__()
        self.num_heads = replaced.num_heads
        self.head_dim = replaced.head_dim
        self.query = replaced.query
        self.key = replaced.key
        self.value = replaced.value

    def forward(self, x_BSD: Tensor, mask: Tensor) -> Tensor:
        """Let every position look at the others; arguments and result as in BertSelfAttention.

        Under autocast everything, the probabilities included, is of its dtype.
        """
        is_cast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if is_cast else x_BSD.dtype
        b, s, _ = x_BSD.shape
        projections = (self.query, self.key, self.value)
        weight = torch.cat([projection.weight for projection in projections])
        bias = torch.cat([projection.bias for projection in projections])
        # Cast once and by hand: autocast would cast the input of each product again.
        with torch.autocast("cpu", enabled=False):
            qkv = F.linear(x_BSD.to(dtype), weight.to(dtype), bias.to(dtype))
            heads_3BNSH = qkv.view(b, s, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
            q_GSH, k_GSH, v_GSH = heads_3BNSH.reshape(3, -1, s, self.head_dim).unbind(0)
            out_GSH: Tensor = _Attend.apply(  # type: ignore[no-untyped-call]
                q_GSH, k_GSH, v_GSH, mask.to(dtype), self.head_dim**-0.5
            )
        return out_GSH.view(b, self.num_heads, s, self.head_dim).transpose(1, 2).flatten(-2)


def use_fast_attention(model: nn.Module) -> None:
    """Replace the self-attention of a model that is trained on the CPU, in place.

    Args:
        model: A model as bert_rt.tasks.checkpoints makes it; its parameters keep their names.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, BertSelfAttention):
                module._modules[name] = FastSelfAttention(child)
