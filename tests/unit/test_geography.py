"""Boxes of degrees: what lies within a radius lies in one of them, also at the poles and the antimeridian."""

from math import asin, cos, degrees, radians, sin, sqrt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.geography import Box, Point, boxes_around, boxes_between, haversine_of

LONGITUDES = st.floats(-180, 180) | st.sampled_from([-180.0, -179.9999999, 0.0, 179.9999999, 180.0])
LATITUDES = st.floats(-90, 90) | st.sampled_from([-90.0, -89.999, 0.0, 89.2, 89.999, 90.0])
POINTS = st.builds(Point, LONGITUDES, LATITUDES)
RADII = st.integers(1, 100_000)


def contains(boxes: list[Box], point: Point) -> bool:
    return any(box.west <= point.longitude <= box.east and box.south <= point.latitude <= box.north for box in boxes)


def haversine(a: Point, b: Point) -> float:
    up, aside = radians(b.latitude - a.latitude), radians(b.longitude - a.longitude)
    return sin(up / 2) ** 2 + cos(radians(a.latitude)) * cos(radians(b.latitude)) * sin(aside / 2) ** 2


def towards(point: Point, bearing: float, distance_m: float) -> Point:
    """Where one arrives from the point, first heading `bearing` degrees east of north."""
    angle, heading, latitude = distance_m / 6_371_008.8, radians(bearing), radians(point.latitude)
    up = asin(max(-1.0, min(1.0, sin(latitude) * cos(angle) + cos(latitude) * sin(angle) * cos(heading))))
    chord = sqrt(max(0.0, cos(latitude) * cos(up)))
    half = sqrt(max(0.0, sin(angle / 2) ** 2 - sin((up - latitude) / 2) ** 2))
    aside = 2 * degrees(asin(min(1.0, half / chord))) if chord else 0.0
    longitude = point.longitude + (aside if bearing <= 180 else -aside)
    return Point((longitude + 180) % 360 - 180, degrees(up))


@given(POINTS, st.floats(0, 360), RADII)
@example(Point(180.0, 60.0), 90.0, 100_000)
@example(Point(0.0, 89.2), 0.0, 100_000)
@example(Point(13.4, -89.05), 120.0, 100_000)
def test_what_lies_within_the_radius_lies_in_a_box(point: Point, bearing: float, radius_m: int) -> None:
    there = towards(point, bearing, radius_m)
    if haversine(point, there) <= haversine_of(radius_m):
        assert contains(boxes_around(point, radius_m), there)


@given(POINTS, POINTS, RADII)
def test_no_point_within_the_radius_lies_outside(point: Point, other: Point, radius_m: int) -> None:
    if haversine(point, other) <= haversine_of(radius_m):
        assert contains(boxes_around(point, radius_m), other)


@given(POINTS, RADII)
def test_boxes_are_of_this_earth(point: Point, radius_m: int) -> None:
    boxes = boxes_around(point, radius_m)
    assert contains(boxes, point)
    for box in boxes:
        assert -180 <= box.west <= box.east <= 180
        assert -90 <= box.south <= box.north <= 90


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ((1, 2, 3, 4), [Box(1, 2, 3, 4)]),
        ((179, 2, -179, 4), [Box(179, 2, 180, 4), Box(-180, 2, -179, 4)]),
        ((179, 2, 180, 4), [Box(179, 2, 180, 4), Box(-180, 2, -180, 4)]),
        ((-180, 2, -179, 4), [Box(180, 2, 180, 4), Box(-180, 2, -179, 4)]),
        ((180, 2, -180, 4), [Box(180, 2, 180, 4), Box(-180, 2, -180, 4)]),
        ((-180, -90, 180, 90), [Box(-180, -90, 180, 90)]),
    ],
)
def test_a_box_over_the_antimeridian_is_two(corners: tuple[float, ...], expected: list[Box]) -> None:
    west, south, east, north = corners
    assert boxes_between(Point(west, south), Point(east, north)) == expected
