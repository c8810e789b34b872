"""What an end-to-end file does around the network: from an image's bytes to boxes in pixels.

Both parts are written in ONNX's own notation. They repeat `evaluation_px` and `preprocess` before
the network, `detections` and `instances` after it; each file that is written is compared with them.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from setmatch.structures.metadata import Preprocessing

if TYPE_CHECKING:
    import onnx

_HEAD = '<ir_version: 10, opset_import: ["": 18]>'

# Height and width by the rule of `resized_px`, with its order of operations, in float64.
_DYNAMIC_SIZE = """
    b_sides = Cast<to = 11>(image_px)
    b_short = ReduceMin(b_sides)
    b_long = ReduceMax(b_sides)
    b_ratio = Div(b_long, b_short)
    b_wanted = Mul(b_ratio, b_short_px)
    b_too_long = Greater(b_wanted, b_long_px)
    b_scaled = Mul(b_long_px, b_short)
    b_shrunk = Div(b_scaled, b_long)
    b_rounded = Round(b_shrunk)
    b_new_short = Where(b_too_long, b_rounded, b_short_px)
    b_product = Mul(b_new_short, b_long)
    b_other = Div(b_product, b_short)
    b_whole = Floor(b_other)
    b_is_nothing = Equal(b_new_short, b_nothing)
    b_new_long = Where(b_is_nothing, b_long_px, b_whole)
    b_least_short = Max(b_new_short, b_one)
    b_height, b_width = Split<axis = 0, num_outputs = 2>(b_sides)
    b_is_wide = LessOrEqual(b_height, b_width)
    b_new_height = Where(b_is_wide, b_least_short, b_new_long)
    b_new_width = Where(b_is_wide, b_new_long, b_least_short)
    b_new_sides = Concat<axis = 0>(b_new_height, b_new_width)
    seen_px = Cast<to = 7>(b_new_sides)
"""
_FIXED_SIZE = """
    seen_px = Identity(b_size_px)
"""
_RESIZED = """
    b_channels = Transpose<perm = [2, 0, 1]>(image)
    b_batch = Unsqueeze(b_channels, b_first)
    b_size = Concat<axis = 0>(b_one_image, seen_px)
    resized = Resize<mode = "linear", antialias = 1, exclude_outside = 1>(b_batch, , , b_size)
    b_float = Cast<to = 1>(resized)
    b_multiplied = Mul(b_float, b_factor)
    pixels = Sub(b_multiplied, b_shift)
"""
_BOXES = """
    a_scores = Squeeze(ranked_scores, a_first)
    a_is_kept = Greater(a_scores, threshold)
    a_places = NonZero(a_is_kept)
    a_kept = Squeeze(a_places, a_first)
    scores = Gather(a_scores, a_kept)
    a_classes = Squeeze(ranked_classes, a_first)
    classes = Gather(a_classes, a_kept)
    a_queries = Squeeze(ranked_queries, a_first)
    a_query = Gather(a_queries, a_kept)
    a_all_boxes = Squeeze(cxcywh, a_first)
    a_cxcywh = Gather(a_all_boxes, a_query)
    a_center, a_sides = Split<axis = 1, num_outputs = 2>(a_cxcywh)
    a_half = Div(a_sides, a_two)
    a_low = Sub(a_center, a_half)
    a_high = Add(a_center, a_half)
    a_corners = Concat<axis = 1>(a_low, a_high)
    a_scale_px = Gather(image_px, a_whwh)
    a_scale = Cast<to = 1>(a_scale_px)
    boxes = Mul(a_corners, a_scale)
"""
# As published: bilinearly to the size that the network saw, then to the nearest pixel.
_MASKS = """
    a_all_masks = Squeeze(mask_logits, a_first)
    a_small_masks = Gather(a_all_masks, a_query)
    a_stack = Unsqueeze(a_small_masks, a_first)
    a_stack_shape = Shape<start = 0, end = 2>(a_stack)
    a_seen_shape = Concat<axis = 0>(a_stack_shape, seen_px)
    a_seen = Resize<mode = "linear">(a_stack, , , a_seen_shape)
    a_is_inside = Greater(a_seen, a_zero)
    a_seen_float = Cast<to = 1>(seen_px)
    a_image_float = Cast<to = 1>(image_px)
    a_steps = Div(a_seen_float, a_image_float)
    a_row_step, a_column_step = Split<axis = 0, num_outputs = 2>(a_steps)
    a_height, a_width = Split<axis = 0, num_outputs = 2>(image_px)
    a_last = Sub(seen_px, a_one)
    a_last_row, a_last_column = Split<axis = 0, num_outputs = 2>(a_last)
"""
_NEAREST = """
    a_{axis}_count = Squeeze(a_{side}, a_first)
    a_{axis}_numbers = Range(a_number_0, a_{axis}_count, a_number_1)
    a_{axis}_float = Cast<to = 1>(a_{axis}_numbers)
    a_{axis}_place = Mul(a_{axis}_float, a_{axis}_step)
    a_{axis}_floor = Floor(a_{axis}_place)
    a_{axis}_whole = Cast<to = 7>(a_{axis}_floor)
    a_{axis}_index = Min(a_{axis}_whole, a_last_{axis})
"""
_MASKS_IN_IMAGE = """
    a_rows = Gather<axis = 2>(a_is_inside, a_row_index)
    a_image_masks = Gather<axis = 3>(a_rows, a_column_index)
    masks = Squeeze(a_image_masks, a_first)
"""


def with_ends(
    core: "onnx.ModelProto", preprocessing: Preprocessing, has_masks: bool
) -> "onnx.ModelProto":
    """Return the graph from `image` (H, W, 3), uint8 RGB, to `boxes`, `classes` and `scores`.

    Boxes (N, 4) are x0, y0, x1, y1 in pixels of the image. Detections score more than the input
    `threshold` (1), and come by descending score. With masks there is a fourth output, `masks`
    (N, H, W). `core` is the graph of a `DecodedDetector`; its values keep their
    names, so that it can be taken out again.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    before = _DYNAMIC_SIZE if preprocessing.size_px is None else _FIXED_SIZE
    before = "    image_px = Shape<start = 0, end = 2>(image)\n" + before + _RESIZED
    after = _BOXES
    if has_masks:
        axes = (("row", "height"), ("column", "width"))
        nearest = "".join(_NEAREST.format(axis=axis, side=side) for axis, side in axes)
        after += _MASKS + nearest + _MASKS_IN_IMAGE
    nodes = [*_nodes(before), *core.graph.node, *_nodes(after)]
    used = {name for node in nodes for name in node.input}
    values = {**_before_values(preprocessing), **_after_values()}
    constants = [
        numpy_helper.from_array(value, name) for name, value in values.items() if name in used
    ]
    outputs: list[tuple[str, Any, list[Any]]] = [
        ("boxes", TensorProto.FLOAT, ["N", 4]),
        ("classes", TensorProto.INT64, ["N"]),
    ]
    outputs += [("scores", TensorProto.FLOAT, ["N"])]
    outputs += [("masks", TensorProto.BOOL, ["N", "H", "W"])] if has_masks else []
    graph = helper.make_graph(
        nodes,
        core.graph.name,
        [
            helper.make_tensor_value_info("image", TensorProto.UINT8, ["H", "W", 3]),
            helper.make_tensor_value_info("threshold", TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [*core.graph.initializer, *constants],
        value_info=[*core.graph.value_info, *core.graph.input, *core.graph.output],
    )
    joined = onnx.ModelProto()
    joined.CopyFrom(core)
    joined.graph.CopyFrom(graph)
    return joined


def _nodes(text: str) -> "list[onnx.NodeProto]":
    from onnx import parser

    return list(parser.parse_graph(f"part () => () {{{text}}}").node)


def _before_values(preprocessing: Preprocessing) -> dict[str, Any]:
    mean, std = (np.array(each) for each in (preprocessing.mean, preprocessing.std))
    return {
        "b_short_px": np.array([preprocessing.short_side_px], np.float64),
        "b_long_px": np.array([preprocessing.long_side_px], np.float64),
        "b_size_px": np.array(preprocessing.size_px or (), np.int64),
        "b_nothing": np.zeros(1, np.float64),
        "b_one": np.ones(1, np.float64),
        "b_first": np.zeros(1, np.int64),
        "b_one_image": np.array([1, 3], np.int64),
        "b_factor": (1 / (255 * std)).astype(np.float32).reshape(1, 3, 1, 1),
        "b_shift": (mean / std).astype(np.float32).reshape(1, 3, 1, 1),
    }


def _after_values() -> dict[str, Any]:
    return {
        "a_first": np.zeros(1, np.int64),
        "a_two": np.array(2, np.float32),
        "a_zero": np.array(0, np.float32),
        "a_one": np.ones(1, np.int64),
        "a_number_0": np.array(0, np.int64),
        "a_number_1": np.array(1, np.int64),
        "a_whwh": np.array([1, 0, 1, 0], np.int64),
    }
