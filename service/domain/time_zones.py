"""The time zones of the IANA database, as the package tzdata has them: the same on every machine.

Python asks the machine's own files first, which may be years old and may hold names that IANA does not have.
"""

from functools import cache
from importlib.resources import files
from zoneinfo import ZoneInfo

_PACKAGE = files("tzdata")


@cache
def time_zones() -> frozenset[str]:
    """The names, such as "Europe/Oslo"."""
    return frozenset(_PACKAGE.joinpath("zones").read_text().split())


@cache
def time_zone(name: str) -> ZoneInfo:
    """The zone of one of these names."""
    with _PACKAGE.joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)
