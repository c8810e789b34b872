"""Labels lie inside the image, at their boxes, and do not pile up."""

from hypothesis import given
from hypothesis import strategies as st

from setmatch.ops.label_placement import covered_px, moved_inside, place_labels

WIDTH, HEIGHT = 200.0, 120.0
LABEL = (40.0, 10.0)
coordinates = st.floats(-20, 220)
boxes_of = st.lists(st.tuples(coordinates, coordinates, st.floats(0, 90), st.floats(0, 90)))


def xyxy(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return x, y, x + width, y + height


@given(boxes_of)
def test_labels_are_inside_and_apart_and_left_out_only_without_a_free_corner(boxes):
    boxes = [xyxy(box) for box in boxes]
    places = place_labels(boxes, [LABEL] * len(boxes), (WIDTH, HEIGHT))
    for number, (box, place) in enumerate(zip(boxes, places, strict=True)):
        before = [each for each in places[:number] if each is not None]
        if place is not None:
            assert 0 <= place[0] <= place[2] <= WIDTH + 1e-9
            assert 0 <= place[1] <= place[3] <= HEIGHT + 1e-9
            assert covered_px(place, before) <= 0.05 * LABEL[0] * LABEL[1]
            continue
        x0, y0, x1, y1 = box
        for x in (x0, x1 - LABEL[0]):
            for y in (y0 - LABEL[1], y0, y1 - LABEL[1], y1):
                corner = moved_inside((x, y, x + LABEL[0], y + LABEL[1]), (WIDTH, HEIGHT))
                assert covered_px(corner, before) > 0.05 * LABEL[0] * LABEL[1]


def test_the_first_label_is_above_its_box_and_the_next_ones_find_other_corners():
    box = (50.0, 40.0, 150.0, 80.0)
    places = place_labels([box] * 10, [LABEL] * 10, (WIDTH, HEIGHT))
    assert places[:3] == [(50, 30, 90, 40), (110, 30, 150, 40), (50, 40, 90, 50)]
    assert [place is None for place in places] == [False] * 8 + [True] * 2


def test_a_label_that_is_larger_than_the_image_starts_at_its_corner():
    assert place_labels([(5, 5, 9, 9)], [(300, 200)], (WIDTH, HEIGHT)) == [(0, 0, 300, 200)]
