"""AdamW and LAMB, the parameter groups of BERT, and clipping.

Both keep the running means of each parameter's gradient (m) and squared gradient (v):

    m = b1 m + (1 - b1) g        m^ = m / (1 - b1^t)
    v = b2 v + (1 - b2) g^2      v^ = v / (1 - b2^t)        r = m^ / (sqrt(v^) + eps)

    AdamW   w -= lr (r + decay w)
    LAMB    w -= lr |w| / |r + decay w| (r + decay w)      with norms over each parameter

Source: Loshchilov and Hutter 2017, arXiv:1711.05101, algorithm 2; You et al. 2019,
arXiv:1904.00962, algorithm 2 (phi the identity, and a ratio of 1 where a norm is 0).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["OPTIMIZERS", "AdamW", "Lamb", "clip_gradients", "parameter_groups"]

_LAYER = re.compile(r"\bencoder\.layer\.(\d+)\.")


class AdamW(torch.optim.Optimizer):
    """Adam with decoupled weight decay.

    Each group has a `learning_rate_scale` beside torch's usual fields: the schedule's learning
    rate times that is the group's.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        """Take over parameters.

        Args:
            groups: As parameter_groups makes them.
            learning_rate: The largest learning rate; the loop changes it by the schedule.
            betas: Decay of the running means of gradient and squared gradient.
            eps: Added to the root of the squared gradient's mean.
        """
        super().__init__(groups, {"lr": learning_rate, "betas": betas, "eps": eps})

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set every group's learning rate: its scale times the given one."""
        for group in self.param_groups:
            group["lr"] = learning_rate * group["learning_rate_scale"]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient.

        Args:
            closure: Not supported; there for torch's signature.
        """
        assert closure is None, "AdamW.step: closures are not supported"
        for group in self.param_groups:
            parameters: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            gradients = [p.grad for p in parameters if p.grad is not None]
            if parameters:
                self._step_group(group, parameters, gradients)

    def _step_group(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]
    ) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["exp_avg"] = torch.zeros_like(parameter)
                self.state[parameter]["exp_avg_sq"] = torch.zeros_like(parameter)
        # Counted by the group: all its parameters have a gradient in every step.
        group["num_steps"] = group.get("num_steps", 0) + 1
        means = [self.state[p]["exp_avg"] for p in parameters]
        squares = [self.state[p]["exp_avg_sq"] for p in parameters]
        self._update(group, parameters, gradients, means, squares)

    def _update(
        self,
        group: dict[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        means: list[Tensor],
        squares: list[Tensor],
    ) -> None:
        beta1, beta2 = group["betas"]
        step = torch.tensor(float(group["num_steps"]), device=parameters[0].device)
        # torch's kernel reads and writes everything once; the equations written out as tensor
        # operations go over memory eight times and take four times as long on a CPU.
        torch._fused_adamw_(
            parameters,
            gradients,
            means,
            squares,
            [],
            [step] * len(parameters),
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


class Lamb(AdamW):
    """AdamW whose update of each parameter has that parameter's own norm: for large batches."""

    def _update(
        self,
        group: dict[str, Any],
        parameters: list[Tensor],
        gradients: list[Tensor],
        means: list[Tensor],
        squares: list[Tensor],
    ) -> None:
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - beta2)
        # m^ / (sqrt(v^) + eps), with the two corrections moved out of the arrays.
        root = (1 - beta2 ** group["num_steps"]) ** 0.5
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_add_(denominators, group["eps"] * root)
        updates = list(torch._foreach_div(means, denominators))
        torch._foreach_mul_(updates, root / (1 - beta1 ** group["num_steps"]))
        if group["weight_decay"]:
            torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
        ratios = []
        norms = zip(torch._foreach_norm(parameters), torch._foreach_norm(updates), strict=True)
        for weight_norm, update_norm in norms:
            is_usable = (weight_norm > 0) & (update_norm > 0)
            ratios.append(torch.where(is_usable, weight_norm / update_norm, 1.0))
        torch._foreach_mul_(updates, ratios)
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])


OPTIMIZERS: Mapping[str, type[AdamW]] = {"adamw": AdamW, "lamb": Lamb}


def parameter_groups(
    model: nn.Module, *, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Group parameters by how they are decayed and how fast they learn.

    Args:
        model: A model as bert_rt.tasks.checkpoints makes it.
        weight_decay: Decay of the weights; biases and layer norms have none.
        layer_decay: Learning rate of a layer over that of the one above it; the heads have the
            full rate, the embeddings the lowest one.

    Returns:
        Groups for AdamW, with the names of their parameters under "names".

    Source: decay in Devlin et al.'s optimization.py; layer-wise rates in Howard and Ruder 2018,
        arXiv:1801.06146, section 3.2, and ELECTRA, arXiv:2003.10555, appendix B.
    """
    layers = [
        int(found[1]) for name, _ in model.named_parameters() if (found := _LAYER.search(name))
    ]
    num_layers = 1 + max(layers, default=-1)
    groups: dict[tuple[bool, int], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_decayed = not (name.endswith("bias") or "LayerNorm" in name)
        found = _LAYER.search(name)
        if found:
            depth = num_layers - int(found[1])
        else:
            depth = num_layers + 1 if ".embeddings." in f".{name}" else 0
        key = (is_decayed, depth if layer_decay != 1.0 else 0)
        group = groups.setdefault(
            key,
            {
                "params": [],
                "names": [],
                "weight_decay": weight_decay if is_decayed else 0.0,
                "learning_rate_scale": layer_decay ** key[1],
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def clip_gradients(model: nn.Module, max_norm: float) -> Tensor:
    """Scale all gradients down together where their norm is too large.

    Args:
        model: Its parameters' gradients are changed in place.
        max_norm: Largest norm allowed; 0 for no limit.

    Returns:
        The norm before clipping, a float32 scalar; it may be infinite or NaN.
    """
    return torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm or float("inf"))
