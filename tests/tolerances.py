"""How far apart two results may be, and why."""

from __future__ import annotations

__all__ = [
    "BFLOAT16_ATTENTION",
    "FLOAT32_ATOL",
    "FLOAT32_ATTENTION",
    "INT8_FLOAT_ERROR",
    "INT8_OUTLIER_ERROR",
    "INT8_ROUNDING_SLACK",
    "INT8_TIE_ATOL",
    "INT_PRODUCT_RTOL",
    "ONE_OP_FLOAT32_ATOL",
]

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

# Beyond half a step of a quantized value, in steps. The quotient x / scale, at most 255, is rounded
# to float32 before it is rounded to an integer, and so are the product q * scale and the ends of
# the range: each by at most 255 * 2**-24 = 1.5e-5 steps.
INT8_ROUNDING_SLACK = 1e-4

# Squared error over squared output of an INT8 layer with normal inputs and weights. Rounding to
# steps of s has a variance of s**2 / 12. Over 1,024 rows of 64 channels normal inputs reach about
# +-4.3 standard deviations, so s = 8.6 / 255 and 9.5e-5 of the variance is lost; weights reach
# about 2.6 in a column of 64, s = 2.6 / 127 and 3.5e-5 is lost. Doubled, for what varies.
INT8_OUTLIER_ERROR = 2.6e-4

# A quantized layer whose integers are given, relative to its largest output. The integer product is
# exact; the product of the two scales, the product with it, the outlier term and the two sums are
# each rounded to float32: five times 2**-24 at most.
INT_PRODUCT_RTOL = 5 * 2**-24

# Logits of two engines on one INT8 graph, the tiny one of tests/unit/compile. A value on the edge
# between two steps may fall to either side where the float operators before it differ in the last
# bit. That moves one input of one layer by one step (at most 0.021 there), and an output by 0.021
# times a weight (0.2 on average), before a layer norm that keeps the scale: 0.004 a value, and two
# or three at once are possible. Measured over twelve batches of 420 tokens: at most 0.0027.
INT8_TIE_ATOL = 0.015

# The tiny model's logits in INT8 against float, squared error over their variance. The plans say
# what part of its output's square each of the eight layers loses: 2.2e-4 together. These errors are
# independent, so they add up; the residual stream, which is not quantized, only dilutes them.
# Measured over twelve batches: 1.3e-5 to 3.6e-5.
INT8_FLOAT_ERROR = 2.2e-4

# Two ways to compute attention in float32, of outputs and gradients of two layers, as the norm of
# the difference over the norm. Sums of at most 64 products in another order, some ten in a row:
# 10 * sqrt(64) * 2**-24 = 4.8e-6.
FLOAT32_ATTENTION = 1e-5

# The same with every operand rounded to bfloat16 (2**-9 of its value at most, 2**-10 on average).
# Scores are some units wide there, so an error of 2**-10 of a score of 8 is 0.8 % of a probability;
# a dozen such roundings in a row, forward and backward, are independent: sqrt(12) * 0.8 % = 2.7 %.
BFLOAT16_ATTENTION = 0.04
