"""Locations in AMPECO's form and back. Texts without a language are written in one locale."""

from collections.abc import Iterable
from typing import Any, Final

import evbridge.partner.ampeco.v3.ampeco_pb2 as wire
from evbridge.partner.ampeco.v3 import location_pb2
from evbridge.v1.location_pb2 import (
    Facility,
    Hours,
    Location,
    ParkingType,
)
from evbridge.v1.types_pb2 import IMAGE_CATEGORY_LOCATION
from google.protobuf.message import Message

from service.domain.country import ALPHA_2, alpha_3
from service.domain.geography import decimal_degrees
from service.domain.mapping import Mapped, mapped
from service.partners.ampeco.mapping import LOCALE, external_id, set_key, time_of

_SAME: Final = (("city", "city"), ("postal_code", "post_code"), ("time_zone", "timezone"))
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# Where AMPECO takes a state; elsewhere the same is a region.
_WITH_STATES: Final = frozenset({"USA", "AUS", "CAN", "UMI", "ROU"})
_PARKING_TYPES: Final = {
    name.removeprefix("PARKING_TYPE_"): number
    for name, number in ParkingType.items()
    if name not in ("PARKING_TYPE_UNSPECIFIED", "PARKING_TYPE_OTHER", "PARKING_TYPE_UNKNOWN")
}
_FACILITIES: Final = {name.removeprefix("FACILITY_"): number for name, number in Facility.items() if number}
_IMAGE_TYPES: Final = {"image/gif": "gif", "image/jpeg": "jpeg", "image/png": "png", "image/svg+xml": "svg"}
_LOCATION: Final = {
    "publish": "AMPECO's status of a location cannot be written.",
    "publish_allowed_to": "AMPECO shows a location to everybody or nobody.",
    "country": "It is not a country of ISO 3166-1.",
    "parking_type": "AMPECO has no such kind.",
    "opening_times.exceptional_openings": "AMPECO knows weekly hours alone.",
    "opening_times.exceptional_closings": "AMPECO knows weekly hours alone.",
    "images": "Images cannot be written.",
    "external_id": "Its place is taken by our own key.",
}
_LOCATION_THERE: Final = {
    "geoposition": "It is kept with 7 decimals.",
    "facilities": "OCPI has no such facility.",
    "external_app_data": "It belongs to other applications.",
}


def location_to(location: Location) -> Mapped[location_pb2.Location]:
    """One of ours as a write of AMPECO's. Its EVSEs travel on their own, see `evse_to`."""
    message = _location_to(location)
    return mapped(location, message, _location_from(message), _LOCATION, apart=("evses", "etag"))


def location_from(location: location_pb2.Location) -> Mapped[Location]:
    """AMPECO's as one of ours, without EVSEs; without a party unless its external id is a key of ours."""
    message = _location_from(location)
    return mapped(location, message, _location_to(message), _LOCATION_THERE)


def _location_to(location: Location) -> location_pb2.Location:
    sent = location_pb2.Location()
    _copy(location, sent, _SAME)
    if key := external_id(location):
        sent.external_id = key
    _translate(sent.name, location.name)
    _translate(sent.street_address, location.address)
    if location.state:
        setattr(sent, "state" if location.country in _WITH_STATES else "region", location.state)
    if country := ALPHA_2.get(location.country):
        sent.country = country
    if location.HasField("coordinates"):
        # A double keeps 15 digits; 3 and 7 are needed.
        sent.geoposition.latitude = float(location.coordinates.latitude)
        sent.geoposition.longitude = float(location.coordinates.longitude)
    sent.facilities.extend(name for name, number in _FACILITIES.items() if number in location.facilities)
    for name, number in _PARKING_TYPES.items():
        if number == location.parking_type:
            sent.parking_type = name
    if location.HasField("opening_times"):
        sent.working_hours.is_always_open = location.opening_times.twentyfourseven
        for hours in location.opening_times.regular_hours:
            day = getattr(sent.working_hours.hours, _DAYS[hours.weekday - 1])
            day.add(start=hours.period_begin, end=hours.period_end)
    if location.HasField("charging_when_closed"):
        sent.working_hours.stop_session_outside_working_hours = not location.charging_when_closed
    return sent


def _location_from(remote: location_pb2.Location) -> Location:
    location = Location()
    _copy(remote, location, ((there, here) for here, there in _SAME))
    set_key(location, remote)
    location.name = _text(remote.name)
    location.address = _text(remote.street_address) or _text(remote.address)
    location.state = remote.state or remote.region
    location.country = alpha_3(remote.country)
    place = remote.geoposition
    # 0, 0 stands for a place that nobody has entered.
    if place.HasField("latitude") and place.HasField("longitude") and (place.latitude or place.longitude):
        location.coordinates.latitude = decimal_degrees(repr(place.latitude))
        location.coordinates.longitude = decimal_degrees(repr(place.longitude))
    location.facilities.extend(_FACILITIES[name] for name in remote.facilities if name in _FACILITIES)
    location.parking_type = _PARKING_TYPES.get(remote.parking_type, ParkingType.PARKING_TYPE_UNSPECIFIED)
    _hours_from(remote.working_hours, location)
    for role in ("operator", "suboperator", "owner"):
        if name := getattr(remote.roaming, role).name:
            getattr(location, role).name = name
    for image in remote.images or [remote.location_image]:
        if type := _IMAGE_TYPES.get(image.mime_type):
            location.images.add(
                url=image.original, thumbnail=image.thumbnail, type=type, category=IMAGE_CATEGORY_LOCATION
            )
    if remote.HasField("status"):
        location.publish = remote.status == "enabled"
    if changed := time_of(remote.last_updated_at):
        location.last_updated.CopyFrom(changed)
    return location


def _hours_from(remote: location_pb2.LocationWorkingHours, location: Location) -> None:
    if remote.HasField("is_always_open") or remote.hours.ListFields():
        hours: Hours = location.opening_times
        hours.twentyfourseven = remote.is_always_open
        for weekday, day in enumerate(_DAYS, 1):
            for interval in getattr(remote.hours, day):
                hours.regular_hours.add(weekday=weekday, period_begin=interval.start, period_end=interval.end)
    if remote.HasField("stop_session_outside_working_hours"):
        location.charging_when_closed = not remote.stop_session_outside_working_hours


def _translate(texts: Any, text: str) -> None:
    if text:
        texts.add(locale=LOCALE, translation=text)


def _text(texts: Iterable[wire.Translation]) -> str:
    """The one in LOCALE, else the first."""
    by_locale = {text.locale: text.translation for text in reversed(list(texts))}
    return by_locale.get(LOCALE) or next(reversed(by_locale.values()), "")


def _copy(source: Message, target: Message, names: Iterable[tuple[str, str]]) -> None:
    """Sets the texts of the target that the source has."""
    for given, taken in names:
        if value := getattr(source, given):
            setattr(target, taken, value)
