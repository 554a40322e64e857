"""A denoiser of langevin without langevin: numpy, or JAX.

This file stands alone. Beside it are `weights.safetensors`, with the names of PyTorch's parameters (a linear layer's weight
is (out, in)), and `mapping.json`, with the configuration of the network, the process and the shape of each weight.

    from forward import load
    denoise = load("folder")                      # or load("folder", jax.numpy)
    mean = denoise(x_t, t, class_labels)          # E[x | x_t] of x_t (b, ...), t (b,) in [0, 1], class_labels (b,)

A class label is -1 for none.

The networks are an MLP (`mlp`) and a diffusion transformer (`dit`) with classes or without a condition.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Weights = Mapping[str, Any]  # by name, arrays of `xp`


def load(folder: str | Path, xp: Any = np) -> Callable[..., Any]:
    """The denoiser of an export, in numpy or jax.numpy.

    Raises:
        ValueError: a network or a schedule that is not written here."""
    from safetensors.numpy import load_file

    folder = Path(folder)
    facts = json.loads((folder / "mapping.json").read_text())
    weights = {name: xp.asarray(value) for name, value in load_file(folder / "weights.safetensors").items()}
    kind = facts["network"]["kind"]
    if kind not in FORWARD:
        raise ValueError(f"there is no forward of network {kind} here, only of {' and '.join(FORWARD)}")

    def denoise(x_t: Any, t: Any, class_labels: Any = None) -> Any:
        c_skip, c_out, c_in, c_time = coefficients(facts, np.asarray(t, np.float64))
        ones = (1,) * (x_t.ndim - 1)
        shaped = [xp.asarray(c.astype(np.float32)).reshape(-1, *ones) for c in (c_skip, c_out, c_in)]
        output = FORWARD[kind](
            xp, weights, facts["network"], shaped[2] * x_t, xp.asarray(c_time.astype(np.float32)), class_labels
        )
        return shaped[0] * x_t + shaped[1] * output

    return denoise


def coefficients(facts: Mapping[str, Any], t: Any) -> tuple[Any, Any, Any, Any]:
    """(c_skip, c_out, c_in, c_time) at times t, float64: E[x | x_t] = c_skip x_t + c_out F(c_in x_t, c_time)."""
    alpha, sigma, (a, b) = schedule(facts["process"]["schedule"], t)
    s = facts["process"]["sigma_data"]
    m = sigma**2 + (alpha * s) ** 2
    with np.errstate(divide="ignore"):
        c_time = 0.25 * np.clip(np.log(sigma) - np.log(alpha), -10, 10)
    match facts["prediction"]:
        case "clean":
            c_skip, c_out = np.zeros_like(t), np.ones_like(t)
        case "noise":
            signal = alpha > sigma * math.exp(-10)
            safe = np.where(signal, alpha, 1.0)
            c_skip, c_out = np.where(signal, 1 / safe, 0.0), np.where(signal, -sigma / safe, 0.0)
        case "velocity":
            k = b * alpha - a * sigma
            c_skip, c_out = b / k, -sigma / k
        case _:
            c_skip, c_out = alpha * s**2 / m, sigma * s / np.sqrt(m)
    return c_skip, c_out, 1 / np.sqrt(m), c_time


def schedule(facts: Mapping[str, Any], t: Any) -> tuple[Any, Any, tuple[Any, Any]]:
    """alpha, sigma and the tangent (a, b) of x_t = alpha x + sigma eps.

    Raises:
        ValueError: another schedule."""
    match facts["kind"]:
        case "rectified":
            return 1 - t, t, (-np.ones_like(t), np.ones_like(t))
        case "cosine":
            alpha, sigma = np.sin((1 - t) * (math.pi / 2)), np.sin(t * (math.pi / 2))
            return alpha, sigma, (-sigma, alpha)
        case "variance_exploding":
            return np.ones_like(t), facts["sigma_max"] * t ** facts["power"], (np.zeros_like(t), np.ones_like(t))
        case "variance_preserving":
            total = _integral(np.asarray(facts["beta"]["values"], np.float64), t)
            alpha, sigma = np.exp(-0.5 * total), np.sqrt(-np.expm1(-total))
            return alpha, sigma, (-sigma, alpha)
        case kind:
            raise ValueError(f"there is no schedule {kind} here")


def _integral(beta: Any, t: Any) -> Any:
    """The integral from 0 to t of a function that is linear between equally spaced knots."""
    width = 1 / (len(beta) - 1)
    total = np.concatenate([[0.0], np.cumsum((beta[1:] + beta[:-1]) * (width / 2))])
    i = np.clip(np.floor(t / width), 0, len(beta) - 2).astype(int)
    u = t - i * width
    return total[i] + u * (beta[i] + u * (beta[i + 1] - beta[i]) / (2 * width))


def linear(w: Weights, name: str, x: Any) -> Any:
    """x W^T + b."""
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def silu(xp: Any, x: Any) -> Any:
    """x / (1 + exp(-x))."""
    return x / (1 + xp.exp(-x))


def gelu(xp: Any, x: Any) -> Any:
    """GELU by its tanh formula."""
    return 0.5 * x * (1 + xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layer_norm(xp: Any, x: Any, eps: float) -> Any:
    """x with mean 0 and variance 1 over the last dimension."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / xp.sqrt((centred * centred).mean(-1, keepdims=True) + eps)


def rms_norm(xp: Any, x: Any) -> Any:
    """x / sqrt(mean x^2 + 1e-6) over the last dimension."""
    return x / xp.sqrt((x * x).mean(-1, keepdims=True) + 1e-6)


def softmax(xp: Any, x: Any) -> Any:
    """Over the last dimension."""
    e = xp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def time_vector(xp: Any, w: Weights, c_time: Any) -> Any:
    """Fourier features of c_time (b,) at 64 frequencies from 1/8 to 16, then an MLP: (b, width)."""
    frequency = xp.asarray((2 * math.pi * 2.0 ** np.linspace(-3, 4, 64)).astype(np.float32))
    angle = c_time[:, None] * frequency
    h = xp.concatenate([xp.cos(angle), xp.sin(angle)], -1)
    return linear(w, "time_embedding.layers.2", silu(xp, linear(w, "time_embedding.layers.0", h)))


def condition_vector(xp: Any, w: Weights, b: int, class_labels: Any) -> Any:
    """The embedding of classes (b, width); that of no class where they are negative; 0 for a network without classes."""
    table = w.get("encoder.class_embedding.weight")
    if table is None:
        return 0.0
    labels = xp.full((b,), -1) if class_labels is None else xp.asarray(class_labels)
    return table[xp.where(labels < 0, len(table) - 1, labels)]


def mlp(xp: Any, w: Weights, config: Mapping[str, Any], x: Any, c_time: Any, class_labels: Any) -> Any:
    """The residual MLP: x (b, channels)."""
    vector = silu(xp, time_vector(xp, w, c_time) + condition_vector(xp, w, len(x), class_labels))
    h = linear(w, "proj_in", x)
    for i in range(config["depth"]):
        shift, scale, gate = xp.split(linear(w, f"blocks.{i}.modulation", vector), 3, -1)
        y = layer_norm(xp, h, 1e-5) * (1 + scale) + shift
        y = linear(w, f"blocks.{i}.layers.3", silu(xp, linear(w, f"blocks.{i}.layers.0", y)))
        h = h + gate * y
    h = layer_norm(xp, h, 1e-5) * w["norm.weight"] + w["norm.bias"]
    return linear(w, "proj_out", h)


def dit(xp: Any, w: Weights, config: Mapping[str, Any], x: Any, c_time: Any, class_labels: Any) -> Any:
    """The diffusion transformer: x (b, channels, *space), with full attention and without convolutions."""
    patch, heads = config["patch"], config["width"] // config["head_dim"]
    patch = [patch] * (x.ndim - 2) if isinstance(patch, int) else list(patch)
    grid = [n // p for n, p in zip(x.shape[2:], patch)]
    angles = rotary_angles(grid, config["head_dim"])
    rotary = [xp.asarray(part.astype(np.float32)) for part in (np.cos(angles), np.sin(angles))]
    added = rotary_angles(grid, config["width"] - config["width"] % 2)
    added = np.concatenate([np.sin(added), np.cos(added)], -1)
    added = np.pad(added, ((0, 0), (0, config["width"] - added.shape[1]))).astype(np.float32)
    h = linear(w, "patch_embedding", patches(xp, x, patch)) + xp.asarray(added)
    vector = silu(xp, time_vector(xp, w, c_time) + condition_vector(xp, w, len(x), class_labels))[:, None]
    for i in range(config["depth"]):
        name = f"blocks.{i}"
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = xp.split(linear(w, f"{name}.modulation", vector), 6, -1)
        y = layer_norm(xp, h, 1e-6) * (1 + scale_1) + shift_1
        h = h + gate_1 * attention(xp, w, f"{name}.attention", y, heads, rotary)
        y = layer_norm(xp, h, 1e-6) * (1 + scale_2) + shift_2
        h = h + gate_2 * linear(w, f"{name}.mlp.3", gelu(xp, linear(w, f"{name}.mlp.0", y)))
    shift, scale = xp.split(linear(w, "final_modulation", vector), 2, -1)
    y = linear(w, "proj_out", layer_norm(xp, h, 1e-6) * (1 + scale) + shift)
    return unpatched(xp, y, grid, patch)


def attention(xp: Any, w: Weights, name: str, x: Any, heads: int, rotary: Any) -> Any:
    """Self-attention of x (b, n, width), with normalised and rotated queries and keys."""
    b, n, width = x.shape
    q, k, v = (
        part.reshape(b, n, heads, -1).transpose(0, 2, 1, 3) for part in xp.split(linear(w, f"{name}.qkv", x), 3, -1)
    )
    q = rotated(xp, rms_norm(xp, q) * w[f"{name}.q_norm.weight"], *rotary)
    k = rotated(xp, rms_norm(xp, k) * w[f"{name}.k_norm.weight"], *rotary)
    weights = softmax(xp, q @ k.transpose(0, 1, 3, 2) / math.sqrt(width // heads))
    return linear(w, f"{name}.out", (weights @ v).transpose(0, 2, 1, 3).reshape(b, n, width))


def rotated(xp: Any, x: Any, cos: Any, sin: Any) -> Any:
    """Channels (i, i + d / 2) of x (..., n, d), turned by the angles of their position."""
    a, b = xp.split(x, 2, -1)
    return xp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def rotary_angles(grid: list[int], width: int) -> Any:
    """Angles (positions, width / 2) on a grid; each axis has its own part of the channels."""
    lines = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in grid), indexing="ij")
    pairs, axes, parts = width // 2, len(grid), []
    for i in range(axes):
        count = pairs // axes + (i < pairs % axes)
        frequency = 100.0 ** (-np.arange(count, dtype=np.float32) / max(count, 1))
        parts.append(lines[i].reshape(-1, 1) * frequency.astype(np.float32))
    return np.concatenate(parts, -1)


def patches(xp: Any, x: Any, patch: list[int]) -> Any:
    """(b, c, *space) -> (b, n, c volume)."""
    d = len(patch)
    cut = [size for n, p in zip(x.shape[2:], patch) for size in (n // p, p)]
    x = x.reshape(*x.shape[:2], *cut)
    x = x.transpose(0, *range(2, 2 + 2 * d, 2), 1, *range(3, 3 + 2 * d, 2))  # (b, *grid, c, *patch)
    return x.reshape(len(x), math.prod(x.shape[1 : 1 + d]), -1)


def unpatched(xp: Any, y: Any, grid: list[int], patch: list[int]) -> Any:
    """(b, n, c volume) -> (b, c, *space)."""
    d = len(grid)
    y = y.reshape(len(y), *grid, -1, *patch)  # (b, *grid, c, *patch)
    y = y.transpose(0, 1 + d, *(i for axis in range(d) for i in (1 + axis, 2 + d + axis)))
    return y.reshape(*y.shape[:2], *(n * p for n, p in zip(grid, patch)))


FORWARD: dict[str, Callable[..., Any]] = {"mlp": mlp, "dit": dit}
