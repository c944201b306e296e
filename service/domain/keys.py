"""The names of OCPI objects. They ignore case: country and party are kept in upper case, ids are compared folded."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol


class PartyKey(NamedTuple):
    """A party: two letters of a country, three characters of a party."""

    country_code: str
    party_id: str

    @classmethod
    def of(cls, country_code: str, party_id: str) -> "PartyKey":
        return cls(country_code.upper(), party_id.upper())

    def __str__(self) -> str:
        return f"{self.country_code}*{self.party_id}"


class Named(Protocol):
    """An object of a party, or the message that names one."""

    country_code: str
    party_id: str
    id: str


class ObjectKey(NamedTuple):
    """An object of a party. `key` is its folded id, to compare by; what is shown is the id as it was first written."""

    country_code: str
    party_id: str
    key: str

    @classmethod
    def of(cls, country_code: str, party_id: str, id: str) -> "ObjectKey":
        return cls(country_code.upper(), party_id.upper(), id.casefold())

    @classmethod
    def parsed(cls, text: str) -> "ObjectKey":
        """The key that `str` wrote; "" comes before all keys."""
        return cls(text[:2], text[2:5], text[5:])

    @classmethod
    def in_row(cls, row: Any) -> "ObjectKey":
        """The key that a row of such objects holds in its columns."""
        return cls(row["country_code"], row["party_id"], row["key"])

    @property
    def party(self) -> PartyKey:
        return PartyKey(self.country_code, self.party_id)

    def __str__(self) -> str:
        return f"{self.country_code}{self.party_id}{self.key}"


def key_of(named: Named) -> ObjectKey:
    return ObjectKey.of(named.country_code, named.party_id, named.id)


def columns(keys: Iterable[ObjectKey]) -> tuple[list[str], list[str], list[str]]:
    """The keys as three lists, as `unnest` takes them."""
    ordered = list(keys)
    return [key.country_code for key in ordered], [key.party_id for key in ordered], [key.key for key in ordered]


class EvseKey(NamedTuple):
    """An EVSE of a location. `key` is its folded uid."""

    location: ObjectKey
    key: str

    @classmethod
    def of(cls, location: ObjectKey, uid: str) -> "EvseKey":
        return cls(location, uid.casefold())

    def __str__(self) -> str:
        return f"{self.location}/{self.key}"


def charger_key(id: str) -> str:
    """A charger of a tenant: its folded id."""
    return id.casefold()
