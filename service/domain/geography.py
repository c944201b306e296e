"""Areas on Earth as boxes of degrees, which an index can look in."""

from decimal import Decimal, InvalidOperation
from math import asin, cos, degrees, radians, sin
from typing import NamedTuple

_EARTH_RADIUS_M = 6_371_008.8
_MARGIN = 1e-7  # degrees, about a centimetre: more than is lost to rounding


class Point(NamedTuple):
    """Degrees east and north."""

    longitude: float
    latitude: float


class Box(NamedTuple):
    """Degrees, never over the antimeridian."""

    west: float
    south: float
    east: float
    north: float


def boxes_between(south_west: Point, north_east: Point) -> list[Box]:
    """One box, or two when it lies over the antimeridian: then its west is greater than its east."""
    west, south = south_west
    east, north = north_east
    if east - west < 360:
        # The antimeridian has two names; a box that ends there holds what is stored under either.
        west, east = 180.0 if west == -180 else west, -180.0 if east == 180 else east
    if west <= east:
        return [Box(west, south, east, north)]
    return [Box(west, south, 180.0, north), Box(-180.0, south, east, north)]


def boxes_around(point: Point, radius_m: float) -> list[Box]:
    """The boxes that hold everything within the radius, and a little more."""
    angle = radius_m / _EARTH_RADIUS_M
    reach = degrees(angle) + _MARGIN
    south, north = point.latitude - reach, point.latitude + reach
    if south <= -90 or north >= 90:  # around a pole lies every longitude
        return [Box(-180.0, max(south, -90.0), 180.0, min(north, 90.0))]
    # The circle is widest a little towards the pole, so this is more than angle / cos(latitude).
    aside = degrees(asin(min(1.0, sin(angle) / cos(radians(point.latitude))))) + _MARGIN
    west, east = point.longitude - aside, point.longitude + aside
    west, east = west + 360 if west < -180 else west, east - 360 if east > 180 else east
    return boxes_between(Point(west, south), Point(east, north))


def haversine_of(distance_m: float) -> float:
    """The haversine of the angle between two points that far apart: it grows with the distance, and SQL computes it."""
    return sin(distance_m / _EARTH_RADIUS_M / 2) ** 2


def decimal_degrees(text: str) -> str:
    """A number of degrees as OCPI writes it, with 5 to 7 decimals; a text that is no such number as it is."""
    try:
        number = Decimal(text.strip().replace(",", "."))
    except InvalidOperation:
        return text
    if not number.is_finite() or abs(number) > 180:
        return text
    whole, decimals = f"{number:.7f}".split(".")
    return f"{whole}.{decimals.rstrip('0'):0<5}"
