"""How far apart two results may be, and why."""

from __future__ import annotations

__all__ = ["FLOAT32_ATOL", "ONE_OP_FLOAT32_ATOL"]

# One operator on values of about 1, computed in float32 in two orders of summation. A sum of K
# products is off by at most K * 2**-24 times the sum of their magnitudes, and by about the root of
# K in place of K where the errors are independent: sqrt(64) * 2**-24 = 4.8e-7 for the head dims
# and lengths of the tests, and three such sums in a row stay below 2e-6.
ONE_OP_FLOAT32_ATOL = 2e-6

# Whole models, float32 against float32. Each of a layer's six projections is off by about
# sqrt(K) * 2**-24 * |row| (K at most 3072: 3.3e-6 for values of about 1); layer norm brings the
# hidden states back to about 1 after each sublayer, so errors add up over layers and do not grow:
# 12 layers of independent errors give sqrt(72) * 3.3e-6 = 2.8e-5. A head whose logits are some
# units wide multiplies that by about 3. Measured on the models of the tests: below 2e-5.
FLOAT32_ATOL = 1e-4
