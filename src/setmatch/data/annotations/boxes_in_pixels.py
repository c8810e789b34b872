"""Boxes of any convention, and turned ones, as x, y, width and height in pixels."""

import numpy as np
from jaxtyping import Float64, Int32

from setmatch.data.annotations.box_convention import BoxConvention


def to_xywh_px(
    convention: BoxConvention,
    values: Float64[np.ndarray, "N 4"],
    sizes_px: Int32[np.ndarray, "N 2"],
) -> Float64[np.ndarray, "N 4"]:
    """Return boxes as x, y, width, height; `sizes_px` are (height, width) of their images.

    The size of corners may be negative.
    """
    height, width = sizes_px.T.astype(np.float64)
    a, b, c, d = values.T
    with np.errstate(over="ignore", invalid="ignore"):  # such boxes are left out later
        return np.stack(convention.in_pixels(a, b, c, d, width, height), axis=1)


def to_xyxy_px(
    convention: BoxConvention,
    values: Float64[np.ndarray, "N 4"],
    sizes_px: Int32[np.ndarray, "N 2"],
) -> Float64[np.ndarray, "N 4"]:
    """Return boxes as corners, like `to_xywh_px`."""
    xywh_px = to_xywh_px(convention, values, sizes_px)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([xywh_px[:, :2], xywh_px[:, :2] + xywh_px[:, 2:]], axis=1)


@np.errstate(over="ignore", invalid="ignore")  # as above
def turned_xywh_px(
    xywh_px: Float64[np.ndarray, "N 4"], degrees: Float64[np.ndarray, " N"]
) -> Float64[np.ndarray, "N 4"]:
    """Return the upright boxes around boxes that are turned about their centers.

    A box without an area stays as it is, to be left out later: turned, it would get one.
    """
    radians = np.radians(degrees)
    cos, sin = np.abs(np.cos(radians)), np.abs(np.sin(radians))
    width, height = xywh_px[:, 2], xywh_px[:, 3]
    extent = np.stack([width * cos + height * sin, width * sin + height * cos], axis=1)
    center = xywh_px[:, :2] + xywh_px[:, 2:] / 2
    hulls = np.concatenate([center - extent / 2, extent], axis=1)
    return np.where((xywh_px[:, 2:] > 0).all(axis=1, keepdims=True), hulls, xywh_px)
