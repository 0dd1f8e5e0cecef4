"""How many replicas a deployment of Ray Serve should have, by the tokens that wait.

Ray runs this in its controller, which need not have bert_rt: nothing of it is imported here.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["QUEUE_TOKENS", "QueueTokens"]

QUEUE_TOKENS = "queue_tokens"
"""The figure that a replica reports: tokens that wait or are being computed."""


class QueueTokens:
    """A policy of Ray Serve: so many replicas that each has about so many tokens to do.

    Ray itself keeps the number between min_replicas and max_replicas, and waits for
    upscale_delay_s and downscale_delay_s.
    """

    def __init__(self, target_queue_tokens: float = 2048) -> None:
        """Set the aim.

        Args:
            target_queue_tokens: Tokens that wait or are being computed on a replica.

        Raises:
            ValueError: It is not above 0.
        """
        if not 0 < target_queue_tokens < math.inf:
            raise ValueError(
                f"target_queue_tokens: got {target_queue_tokens!r}, want a number above 0"
            )
        self._target = target_queue_tokens

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """Return how many replicas are wanted.

        Args:
            context: Ray's AutoscalingContext.

        Returns:
            The number, and the state that Ray keeps for the next call: none.
        """
        tokens = (context.aggregated_metrics or {}).get(QUEUE_TOKENS)
        if not tokens:  # no replica has reported yet
            return context.target_num_replicas, {}
        # A replica that has just begun has not reported: it is not one without work.
        mean = sum(tokens.values()) / len(tokens)
        num_replicas = max(context.current_num_replicas, len(tokens))
        return math.ceil(num_replicas * mean / self._target), {}
