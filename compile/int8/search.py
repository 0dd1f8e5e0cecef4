"""How one linear layer is quantized: found by trying, judged by the error of the layer's output.

Static INT8 fails on BERT where a few channels are much larger than the rest: one scale for a
whole tensor then leaves nothing for the others. Three remedies are tried together, and the one
with the least squared error of x W on real rows is taken:

- smoothing: a factor per channel moves range from the activation into the weight;
- clipping: a narrower range than the observed one, when rare values cost less than coarse steps;
- outlier channels: a handful that smoothing cannot tame is computed in float beside the rest.

Sources: smoothing, Xiao et al. 2023 (SmoothQuant), arXiv:2211.10438, section 4; its strength
searched per layer as in Lin et al. 2024 (AWQ), arXiv:2306.00978, section 3.2; outlier channels in
float, Dettmers et al. 2022 (LLM.int8()), arXiv:2208.07339, section 3; bias correction, Nagel et
al. 2019, arXiv:1906.04721, section 4.2. What was found is then rounded by compile.int8.rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bert_rt.types import FloatArray
from compile.int8.calibrate import Observer
from compile.int8.pairs import choose_scales, find_partners, nearest_in_pairs
from compile.int8.rounding import Rounding

__all__ = [
    "LayerPlan",
    "choose_smoothing",
    "dequantize_rows",
    "plan_layer",
    "quantize_rows",
    "quantize_weight",
]

_ALPHAS = (0.0, 0.5, 0.65, 0.8, 0.9, 1.0)
_CLIPS = (1.0, 0.9, 0.8)
_SEARCH_ROWS = 2048
# Less than this much better, and the outliers' extra work does not pay.
_OUTLIER_GAIN = 0.67
# The smallest normal number: what is below it counts as 0.
_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """How a linear layer is computed in INT8.

    Attributes:
        name: The layer's name.
        scale: Step of the quantized input.
        zero_point: Quantized value of 0, from 0 to 255.
        smooth_K: Factors of the input's channels before it is quantized, shape (K,), float32;
            0 at outlier channels.
        outlier_channels: Shape (R,), int64; channels that are computed in float.
        outlier_weight_RN: Shape (R, N), float32.
        weight_KN: Shape (K, N), int8, within [-127, 127], smoothing included.
        weight_scale_N: Shape (N,), float32.
        bias_N: Shape (N,), float32, corrected by the mean error.
        alpha: Strength of the smoothing that was chosen.
        clip: Part of the observed range that was chosen.
        error: Squared error of the layer's output over the output's square, on sampled rows.
        naive_error: The same without smoothing, clipping, outliers and correction.
    """

    name: str
    scale: float
    zero_point: int
    smooth_K: FloatArray
    outlier_channels: NDArray[np.int64]
    outlier_weight_RN: FloatArray
    weight_KN: NDArray[np.int8]
    weight_scale_N: FloatArray
    bias_N: FloatArray
    alpha: float
    clip: float
    error: float
    naive_error: float


@dataclass(frozen=True, slots=True)
class _Trial:
    error: float
    alpha: float
    clip: float
    scale: float
    zero_point: int
    smooth_K: FloatArray
    weight_scale_N: FloatArray
    mean_error_N: FloatArray


def quantize_weight(
    weight_KN: FloatArray, partner_K: NDArray[np.intp] | None = None
) -> tuple[NDArray[np.int8], FloatArray]:
    """Quantize a weight symmetrically, one scale an output channel.

    Args:
        weight_KN: Shape (K, N), float32.
        partner_K: Shape (K,), as compile.int8.pairs gives it, where sums of pairs are bounded; the
            scale of a column is then the one with the least squared error of its weights.

    Returns:
        The weight of shape (K, N), int8, within [-127, 127], and its scales of shape (N,),
        float32.
    """
    scale_N = (np.abs(weight_KN).max(0) / 127).astype(np.float32)
    # A column of zeros takes any scale, and a denormal one would be 0 on many engines.
    scale_N[scale_N < _SMALLEST] = 1.0
    if partner_K is None:
        return np.clip(np.rint(weight_KN / scale_N), -127, 127).astype(np.int8), scale_N

    def quantize(wider_N: FloatArray) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        rounded_KN = nearest_in_pairs(weight_KN.astype(np.float64) / wider_N, partner_K)
        return rounded_KN, np.square(weight_KN - rounded_KN * wider_N, dtype=np.float64).sum(0)

    return choose_scales(scale_N, quantize)


def quantize_rows(x_TK: FloatArray, scale: float, zero_point: int) -> NDArray[np.uint8]:
    """Quantize as ONNX QuantizeLinear does: round half to even, then clip to uint8."""
    q_TK: NDArray[np.uint8] = np.clip(
        np.rint(x_TK / np.float32(scale)) + zero_point, 0, 255
    ).astype(np.uint8)
    return q_TK


def dequantize_rows(q_TK: NDArray[np.uint8], scale: float, zero_point: int) -> FloatArray:
    """Give back the float values that quantized ones stand for."""
    return (q_TK.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)


def choose_smoothing(
    weight_KN: FloatArray, observer: Observer, *, num_outliers: int, seed: int
) -> FloatArray:
    """Find the smoothing that a layer takes where no sums of pairs are bounded.

    Args:
        weight_KN: Shape (K, N), float32.
        observer: What its input looks like.
        num_outliers: Channels that may be kept in float.
        seed: Of the choice of rows that trials are judged on.

    Returns:
        Factors of the input's channels, shape (K,), float32; 0 at outlier channels.
    """
    best, channels = _with_outliers(
        _sample(observer, seed),
        weight_KN,
        observer.low_K,
        observer.high_K,
        _ALPHAS,
        num_outliers,
        pair_safe=False,
    )
    smooth_K = np.zeros(len(weight_KN), np.float32)
    smooth_K[channels] = best.smooth_K
    return smooth_K


def _sample(observer: Observer, seed: int) -> FloatArray:
    rows = observer.rows_RK
    return rows[np.random.default_rng(seed).permutation(len(rows))[:_SEARCH_ROWS]]


def plan_layer(
    name: str,
    weight_KN: FloatArray,
    bias_N: FloatArray,
    observer: Observer,
    *,
    num_outliers: int,
    seed: int,
    may_smooth: bool = True,
    pair_safe: bool = False,
) -> LayerPlan:
    """Find the quantization of one layer with the least error of its output.

    Args:
        name: The layer's name.
        weight_KN: Shape (K, N), float32.
        bias_N: Shape (N,), float32.
        observer: What its input looks like.
        num_outliers: Channels that may be kept in float; 0 for none.
        seed: Of the choice of rows that trials are judged on.
        may_smooth: Whether smoothing may be tried.
        pair_safe: Whether sums of pairs of weights are bounded (compile.int8.pairs).

    Returns:
        The plan.
    """
    x_RK = _sample(observer, seed)
    y_RN = x_RK @ weight_KN
    low_K, high_K = observer.low_K, observer.high_K
    naive = _try(x_RK, weight_KN, y_RN, low_K, high_K, None, 0.0, (1.0,))[0]
    alphas = _ALPHAS if may_smooth else (0.0,)
    best, channels = _with_outliers(
        x_RK, weight_KN, low_K, high_K, alphas, num_outliers, pair_safe=pair_safe
    )
    outliers = np.setdiff1d(np.arange(len(weight_KN)), channels)
    smooth_K = np.zeros(len(weight_KN), np.float32)
    smooth_K[channels] = best.smooth_K
    energy = max(float(np.square(y_RN, dtype=np.float64).sum()), _SMALLEST)
    partners = find_partners(channels) if pair_safe else None
    rounded_KN, best = _round(
        observer.rows_RK[:, channels], x_RK[:, channels], weight_KN[channels], best, partners
    )
    weight_q_KN = np.zeros(weight_KN.shape, np.int8)
    weight_q_KN[channels] = rounded_KN
    return LayerPlan(
        name=name,
        scale=best.scale,
        zero_point=best.zero_point,
        smooth_K=smooth_K,
        outlier_channels=outliers,
        outlier_weight_RN=weight_KN[outliers],
        weight_KN=weight_q_KN,
        weight_scale_N=best.weight_scale_N,
        bias_N=(bias_N + best.mean_error_N).astype(np.float32),
        alpha=best.alpha,
        clip=best.clip,
        error=best.error / energy,
        naive_error=naive.error / energy,
    )


def _round(
    rows_RK: FloatArray,
    x_RK: FloatArray,
    w_KN: FloatArray,
    trial: _Trial,
    partner_K: NDArray[np.intp] | None,
) -> tuple[NDArray[np.int8], _Trial]:
    """Round the weight of the trial that was taken with regard to all rows of its input.

    Returns the weight, and the trial as x_RK judges it then; both as they were where rounding to
    nearest is better (on a handful of rows, say).
    """
    smoothed_KN = w_KN / trial.smooth_K[:, None]

    def as_int8(x: FloatArray) -> FloatArray:
        q_RK = quantize_rows(x * trial.smooth_K, trial.scale, trial.zero_point)
        return dequantize_rows(q_RK, trial.scale, trial.zero_point)

    rounding = Rounding(as_int8(rows_RK), partner_K)
    scale_N = quantize_weight(smoothed_KN)[1]
    if partner_K is None:
        rounded_KN, _ = rounding.round(smoothed_KN, scale_N)
    else:
        rounded_KN, scale_N = choose_scales(
            scale_N, lambda wider_N: rounding.round(smoothed_KN, wider_N)
        )
        rounded_KN = rounding.refine(rounded_KN, smoothed_KN, scale_N)
    error_RN = x_RK @ w_KN - as_int8(x_RK) @ (rounded_KN * scale_N)
    mean_N = error_RN.mean(0)
    error = float(np.square(error_RN - mean_N, dtype=np.float64).sum())
    if error < trial.error:
        return rounded_KN, replace(trial, error=error, mean_error_N=mean_N, weight_scale_N=scale_N)
    return quantize_weight(smoothed_KN, partner_K)[0], trial


def _with_outliers(
    x_RK: FloatArray,
    w_KN: FloatArray,
    low_K: FloatArray,
    high_K: FloatArray,
    alphas: tuple[float, ...],
    num_outliers: int,
    *,
    pair_safe: bool,
) -> tuple[_Trial, NDArray[np.intp]]:
    """Return the best trial and the channels in INT8: all, or without the largest num_outliers.

    Outliers are about activations, so the bound on pairs of weights has no say in their choice.
    """
    channels = np.arange(len(w_KN))
    best = _search(x_RK, w_KN, low_K, high_K, None, alphas)
    if 0 < num_outliers < len(channels):
        size_K = np.maximum(-low_K, high_K)
        rest = np.sort(np.argsort(size_K, kind="stable")[:-num_outliers])
        without = _search(x_RK[:, rest], w_KN[rest], low_K[rest], high_K[rest], None, alphas)
        if without.error < _OUTLIER_GAIN * best.error:
            best, channels = without, rest
    if pair_safe:
        partner_K = find_partners(channels)
        x_RK, w_KN = x_RK[:, channels], w_KN[channels]
        best = _search(x_RK, w_KN, low_K[channels], high_K[channels], partner_K, alphas)
    return best, channels


def _search(
    x_RK: FloatArray,
    w_KN: FloatArray,
    low_K: FloatArray,
    high_K: FloatArray,
    partner_K: NDArray[np.intp] | None,
    alphas: tuple[float, ...],
) -> _Trial:
    """Return the trial with the least error; of equal ones the simplest, which comes first."""
    y_RN = x_RK @ w_KN
    trials = (
        trial
        for alpha in alphas
        for trial in _try(x_RK, w_KN, y_RN, low_K, high_K, partner_K, alpha, _CLIPS)
    )
    return min(trials, key=lambda trial: trial.error)


def _try(
    x_RK: FloatArray,
    w_KN: FloatArray,
    y_RN: FloatArray,
    low_K: FloatArray,
    high_K: FloatArray,
    partner_K: NDArray[np.intp] | None,
    alpha: float,
    clips: tuple[float, ...],
) -> list[_Trial]:
    """Quantize with one strength of smoothing and several clips, and measure x W's error."""
    smooth_K = _smoothing(w_KN, low_K, high_K, alpha)
    x_RK = x_RK * smooth_K
    weight_q_KN, weight_scale_N = quantize_weight(w_KN / smooth_K[:, None], partner_K)
    weight_KN = weight_q_KN * weight_scale_N
    low = min(float((low_K * smooth_K).min()), 0.0)
    high = max(float((high_K * smooth_K).max()), 0.0)
    trials = []
    for clip in clips:
        scale = float(np.float32((high - low) * clip / 255))
        if scale < _SMALLEST:
            scale = 1.0  # Nothing but zeros: any scale will do.
        zero_point = int(np.clip(np.rint(-low * clip / scale), 0, 255))
        q_RK = quantize_rows(x_RK, scale, zero_point)
        error_RN = y_RN - dequantize_rows(q_RK, scale, zero_point) @ weight_KN
        mean_N = error_RN.mean(0)
        # The mean goes into the bias, so only what varies around it is lost; the naive trial,
        # which only serves for comparison, is judged alike.
        error = float(np.square(error_RN - mean_N, dtype=np.float64).sum())
        trials.append(
            _Trial(error, alpha, clip, scale, zero_point, smooth_K, weight_scale_N, mean_N)
        )
    return trials


def _smoothing(w_KN: FloatArray, low_K: FloatArray, high_K: FloatArray, alpha: float) -> FloatArray:
    """Return factors max|W|^(1 - alpha) / max|x|^alpha with geometric mean 1; all 1 for 0."""
    if alpha == 0.0:
        return np.ones(len(w_KN), np.float32)
    floor = np.float32(1e-5)
    size_K = np.maximum(np.maximum(-low_K, high_K), floor).astype(np.float64)
    weight_K = np.maximum(np.abs(w_KN).max(1), floor).astype(np.float64)
    log_K = (1 - alpha) * np.log(weight_K) - alpha * np.log(size_K)
    smooth: FloatArray = np.exp(log_K - log_K.mean()).astype(np.float32)
    return smooth
