"""Weights by formula: the same parameters on every machine, from their names and shapes alone.

Each tensor is drawn from numpy's frozen legacy generator (RandomState), seeded with the CRC-32 of the
parameter's name in the published DETR checkpoints, and scaled so that activations keep a sane size
through 101 layers. Nothing is downloaded, and two implementations that agree on names agree on weights.
"""

import zlib

import numpy as np


def formula_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the float32 array of `shape` that belongs to the checkpoint key `name`."""
    rng = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF)
    noise = rng.standard_normal(shape).astype(np.float32)
    leaf = name.rsplit(".", 1)[-1]
    in_norm = any(part in name for part in (".bn", "norm", "downsample.1", ".gn"))
    if leaf == "running_var":
        return 1.0 + 0.1 * np.abs(noise)
    if leaf == "running_mean":
        return 0.1 * noise
    if in_norm and leaf == "weight":
        residual_scale = 0.25 if name.endswith("bn3.weight") else 1.0
        return (residual_scale * (1.0 + 0.1 * noise)).astype(np.float32)
    if leaf in ("bias", "in_proj_bias"):
        return 0.05 * noise
    if name.endswith("query_embed.weight") or "row_embed" in name or "col_embed" in name:
        return noise
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
    gain = np.sqrt(2.0 / fan_in) if len(shape) == 4 else np.sqrt(1.0 / fan_in)
    if (
        "in_proj_weight" in name
    ):  # sharp attention (queries and keys, not values): object queries predict different boxes
        noise[: 2 * shape[1]] *= 5.0
    if name.endswith("bbox_embed.layers.2.weight"):
        gain *= 6.0
    if "out_proj.weight" in name or "linear2.weight" in name:
        gain *= 0.5  # keep the residual stream, so that positions do not collapse into one
    return (gain * noise).astype(np.float32)


def formula_images(count: int, sizes: list[tuple[int, int]], seed: int = 0) -> list[np.ndarray]:
    """Return `count` normalized images, float32 (3, height, width), one per (height, width) in `sizes`."""
    images = []
    for index in range(count):
        height, width = sizes[index]
        rng = np.random.RandomState(seed * 1000 + index)
        coarse = rng.standard_normal((3, height // 16 + 2, width // 16 + 2)).astype(np.float32)
        smooth = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width]
        images.append((smooth + 0.3 * rng.standard_normal((3, height, width))).astype(np.float32))
    return images


def formula_targets(
    counts: list[int], num_classes: int, seed: int = 0
) -> list[dict[str, np.ndarray]]:
    """Return one target per image: `labels` int64 (n,), `boxes` float32 (n, 4) as cx, cy, w, h in [0, 1]."""
    targets = []
    for index, count in enumerate(counts):
        rng = np.random.RandomState(seed * 1000 + 500 + index)
        size = rng.uniform(0.05, 0.5, (count, 2))
        center = rng.uniform(0, 1, (count, 2)) * (1 - size) + size / 2
        targets.append(
            {
                "labels": rng.randint(1, num_classes, count).astype(np.int64),
                "boxes": np.concatenate([center, size], axis=1).astype(np.float32),
            }
        )
    return targets
