"""What lies between the matrix products of a model that samples on a CPU, each in one pass.

For one token a row torch spends more time on starting its hundred and fifty small operations than
on what they compute. numba compiles these loops once a process, in some tenths of a second each.

All arrays are contiguous, and fp32 if nothing else is said; outputs come last. Shapes: R rows, H
hidden size, D head size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from torch import Tensor

f4 = np.float32
# Sums may be reordered, so that they run in vector registers; infinities and NaN stay what they
# are: the sampler looks for them.
_compiled: Any = njit(
    fastmath={"reassoc", "contract", "nsz", "arcp"}, error_model="numpy", nogil=True
)


def array(x: Tensor) -> np.ndarray:
    """A tensor as kernels want it: a copy only where it is not fp32 and contiguous."""
    return x.detach().float().contiguous().numpy()


@njit(fastmath={"contract", "nsz"}, error_model="numpy", nogil=True)  # its sums are in order
def _exp(x: Any) -> Any:
    """exp(x), 0 below -87 and exp(88) above 88, within 2 units in the last place (Cephes' expf): a
    polynomial, which the compiler can run in vector registers, unlike the C library's."""
    given = x
    x = min(max(x, f4(-87.0)), f4(88.0))
    n = np.floor(x * f4(1.44269504) + f4(0.5))
    r = x - n * f4(0.693359375) + n * f4(2.12194440e-4)
    p = f4(1.9875691500e-4)
    p = p * r + f4(1.3981999507e-3)
    p = p * r + f4(8.3334519073e-3)
    p = p * r + f4(4.1665795894e-2)
    p = p * r + f4(1.6666665459e-1)
    p = p * r + f4(5.0000001201e-1)
    p = p * r * r + r + f4(1.0)
    two_to_n = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    result = f4(0.0) if given < f4(-87.0) else p * two_to_n
    return result if given == given else given


@_compiled
def _sigmoid(x: Any) -> Any:
    return f4(1.0) / (f4(1.0) + _exp(-x))


@_compiled
def add_norm(hidden: Any, change: Any, weight: Any, eps: Any, out: Any) -> None:
    """`change` is added to `hidden`, and `out` is the RMS norm of that; (R, H) each."""
    R, H = hidden.shape
    for r in range(R):
        square = f4(0.0)
        for i in range(H):
            x = hidden[r, i] + change[r, i]
            hidden[r, i] = x
            square += x * x
        scale = f4(1.0) / np.sqrt(square / f4(H) + eps)
        for i in range(H):
            out[r, i] = hidden[r, i] * scale * weight[i]


@_compiled
def gated(gate_up: Any, out: Any) -> None:
    """silu(gate) * up (R, I), from the two side by side (R, 2 I)."""
    R, I = out.shape  # noqa: E741
    for r in range(R):
        for i in range(I):
            gate = gate_up[r, i]
            out[r, i] = gate * _sigmoid(gate) * gate_up[r, I + i]


@_compiled
def _rotated(x: Any, weight: Any, eps: Any, cos: Any, sin: Any, out: Any) -> None:
    """The RMS norm of a head (D,), its first 2 X entries rotated by X angles."""
    D, X = len(x), len(cos)
    square = f4(0.0)
    for i in range(D):
        square += x[i] * x[i]
    scale = f4(1.0) / np.sqrt(square / f4(D) + eps)
    for i in range(X):
        a, b = x[i] * scale * weight[i], x[X + i] * scale * weight[X + i]
        out[i] = a * cos[i] - b * sin[i]
        out[X + i] = b * cos[i] + a * sin[i]
    for i in range(2 * X, D):
        out[i] = x[i] * scale * weight[i]


@_compiled
def _scores(query: Any, keys: Any, start: int, end: int, scores: Any) -> None:
    """Products of a query (D,) with keys `start` to `end` of (T, D), to the front of `scores`."""
    for t in range(start, end):
        total = f4(0.0)
        for i in range(len(query)):
            total += query[i] * keys[t, i]
        scores[t - start] = total


@_compiled
def _add_values(weights: Any, values: Any, start: int, end: int, out: Any) -> None:
    """`weights`, from the front, times values `start` to `end` of (T, D), added to `out` (D,)."""
    T, t = end - start, 0
    while t + 4 <= T:  # four at a time: `out` is read and written once for them
        a, b, c, d = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
        of_a, of_b = values[start + t], values[start + t + 1]
        of_c, of_d = values[start + t + 2], values[start + t + 3]
        for i in range(len(out)):
            out[i] += a * of_a[i] + b * of_b[i] + c * of_c[i] + d * of_d[i]
        t += 4
    for rest in range(t, T):
        of_a = values[start + rest]
        for i in range(len(out)):
            out[i] += weights[rest] * of_a[i]


@_compiled
def _highest(x: Any, n: int) -> Any:
    """Of the first `n`."""
    top = x[0]
    for t in range(1, n):
        top = max(top, x[t])
    return top


@_compiled
def attend(
    inputs: Any, of_query: Any, of_key: Any, eps: Any, cos: Any, sin: Any,
    prompt_keys: Any, prompt_values: Any, first: Any, owner: Any,
    keys: Any, values: Any, used: int, out: Any,
) -> None:  # fmt: skip
    """Gated full attention of one token a row to its prompt, to its own tokens and itself.

    inputs                       (R, heads * D + 2 K * D + heads * D): query, key, value, gate
    of_query, of_key             (D,) weights of their norms; the query's has the scale in it
    cos, sin                     (R, X) of the rotation's angles
    prompt_keys, prompt_values   (B, K, P, D); `first` (B,) is the first column without padding
    owner                        (R,) each row's prompt
    keys, values                 (R, K, T, D), of which `used` columns are filled; the next one
                                 becomes this token's
    out                          (R, heads * D)
    """
    R, K, _, D = keys.shape
    P = prompt_keys.shape[2]
    heads = out.shape[1] // D
    group = heads // K
    of_keys, of_values, of_gate = heads * D, (heads + K) * D, (heads + 2 * K) * D
    query, weights = np.empty(D, f4), np.empty(P + used + 1, f4)
    for r in range(R):
        b = owner[r]
        start = first[b]
        own = P - start  # where the own scores begin
        columns = own + used + 1
        for k in range(K):
            x = inputs[r, of_keys + k * D : of_keys + (k + 1) * D]
            _rotated(x, of_key, eps, cos[r], sin[r], keys[r, k, used])
            for i in range(D):
                values[r, k, used, i] = inputs[r, of_values + k * D + i]
            for h in range(k * group, (k + 1) * group):
                x = inputs[r, h * D : (h + 1) * D]
                _rotated(x, of_query, eps, cos[r], sin[r], query)
                _scores(query, prompt_keys[b, k], start, P, weights)
                _scores(query, keys[r, k], 0, used + 1, weights[own:])
                top = _highest(weights, columns)
                total = f4(0.0)
                for t in range(columns):
                    weights[t] = _exp(weights[t] - top)
                    total += weights[t]
                result = out[r, h * D : (h + 1) * D]
                result[:] = f4(0.0)
                _add_values(weights, prompt_values[b, k], start, P, result)
                _add_values(weights[own:], values[r, k], 0, used + 1, result)
                for i in range(D):
                    result[i] *= _sigmoid(inputs[r, of_gate + h * D + i]) / total


@_compiled
def delta_rule(
    inputs: Any, window: Any, oldest: int, taps: Any, rate: Any, bias: Any, weight: Any, eps: Any,
    state: Any, out: Any,
) -> None:  # fmt: skip
    """The gated delta rule for one token a row: the state S of a head goes to
    d S + k (b (v - d S'k))', and its output is the new S'q, normed and gated.

    inputs       (R, C + heads * V + 2 heads): query, key and value; gate; b; a
    window       (taps - 1, R, C), the convolution's last inputs, from `oldest` on and round; the
                 oldest one is replaced
    taps         (taps, C)
    rate, bias   (heads,): d is exp(rate * softplus(a + bias))
    weight       (V,) of the norm
    state        (R, heads, K, V)
    out          (R, heads * V)
    """
    R, heads, K, V = state.shape
    past, _, C = window.shape
    key_heads = (C - heads * V) // (2 * K)
    group = heads // key_heads
    of_gate, of_b, of_a = C, C + heads * V, C + heads * V + heads
    x, change = np.empty(C, f4), np.empty(V, f4)
    for r in range(R):
        for c in range(C):
            x[c] = inputs[r, c] * taps[past, c]
        for j in range(past):
            inputs_j = window[(oldest + j) % past, r]
            for c in range(C):
                x[c] += inputs_j[c] * taps[j, c]
        for c in range(C):
            x[c] *= _sigmoid(x[c])
            window[oldest, r, c] = inputs[r, c]
        for k in range(2 * key_heads):  # queries and keys have length one
            square = f4(0.0)
            for i in range(k * K, (k + 1) * K):
                square += x[i] * x[i]
            scale = f4(1.0) / np.sqrt(square + f4(1e-6))
            if k < key_heads:
                scale /= np.sqrt(f4(K))
            for i in range(k * K, (k + 1) * K):
                x[i] *= scale
        for h in range(heads):
            query = x[h // group * K : (h // group + 1) * K]
            key = x[(key_heads + h // group) * K : (key_heads + h // group + 1) * K]
            value = x[2 * key_heads * K + h * V : 2 * key_heads * K + (h + 1) * V]
            a = inputs[r, of_a + h] + bias[h]
            softplus = a if a > f4(20.0) else f4(np.log1p(np.exp(a)))
            decay = f4(np.exp(rate[h] * softplus))
            beta = _sigmoid(inputs[r, of_b + h])
            S = state[r, h]
            change[:] = f4(0.0)
            for i in range(K):
                for j in range(V):
                    S[i, j] *= decay
                    change[j] += key[i] * S[i, j]
            for j in range(V):
                change[j] = beta * (value[j] - change[j])
            result = out[r, h * V : (h + 1) * V]
            result[:] = f4(0.0)
            for i in range(K):
                for j in range(V):
                    S[i, j] += key[i] * change[j]
                    result[j] += query[i] * S[i, j]
            square = f4(0.0)
            for j in range(V):
                square += result[j] * result[j]
            scale = f4(1.0) / np.sqrt(square / f4(V) + eps)
            for j in range(V):
                gate = inputs[r, of_gate + h * V + j]
                result[j] *= scale * weight[j] * gate * _sigmoid(gate)


@_compiled
def draw(
    logits: Any, temperature: Any, banned: Any, points: Any, block: int, token: Any, logprob: Any
) -> None:
    """The token at `points` (N,), fp64 in [0, 1), of each row's cumulative softmax(logits /
    temperature), and its log-prob. `banned` (X,) int64 have probability zero: their logits (N, V)
    are overwritten.

    The cumulative distribution is inverted first over blocks of the vocabulary, then within one:
    two passes over the logits, no random number an entry. Sums in fp64 over blocks keep the
    probability of rare tokens. token (N,) int64, logprob (N,).
    """
    N, V = logits.shape
    sums = np.empty((V + block - 1) // block, f4)
    for r in range(N):
        row = logits[r]
        for i in banned:
            row[i] = -np.inf
        top = _highest(row, V)
        total = 0.0
        for b in range(len(sums)):
            part = row[b * block : (b + 1) * block]
            weight = f4(0.0)
            for i in range(len(part)):
                weight += _exp((part[i] - top) / temperature)
            sums[b] = weight
            total += weight
        point = points[r] * total
        # The last entry with weight where rounding leaves a sum at or below the point.
        chosen, before, end = 0, 0.0, 0.0
        for b in range(len(sums)):
            if sums[b] > f4(0.0):
                chosen, before = b, end
                end += sums[b]
                if end > point:
                    break
        entry = chosen * block
        for i in range(chosen * block, min(V, (chosen + 1) * block)):
            weight = _exp((row[i] - top) / temperature)
            if weight > f4(0.0):
                entry = i
                before += weight
                if before > point:
                    break
        token[r] = entry
        logprob[r] = (row[entry] - top) / temperature - np.log(total)
