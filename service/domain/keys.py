"""The names of OCPI objects, and ids of our own.

Those of OCPI ignore case: country and party are kept in upper case, ids are compared folded.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple, Protocol

LOWER_CASE_ID: Final = re.compile("[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
"""What ids of tenants and integrations look like: the contract's rule of that name, for what comes in no request."""


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
    integration_id: str


class _Folded(str):
    """A folded id that remembers how it was written."""

    __slots__ = ("written",)
    written: str

    @classmethod
    def of(cls, id: str) -> "_Folded":
        folded = cls(id.casefold())
        folded.written = id
        return folded


OURS: Final = ""
"""In the place of an integration's id: the object is ours."""


class ObjectKey(NamedTuple):
    """An object of a party. `key` is its folded id, to compare by; what is shown is the id as it was first written.

    `integration_id` is the integration that the object was received through, or OURS.
    """

    country_code: str
    party_id: str
    key: str
    integration_id: str = OURS

    @classmethod
    def of(cls, country_code: str, party_id: str, id: str, integration_id: str = OURS) -> "ObjectKey":
        return cls(country_code.upper(), party_id.upper(), _Folded.of(id), integration_id)

    @classmethod
    def parsed(cls, text: str, integration_id: str = OURS) -> "ObjectKey":
        """The key that `str` wrote; "" comes before all keys."""
        return cls(text[:2], text[2:5], text[5:], integration_id)

    @classmethod
    def in_row(cls, row: Any) -> "ObjectKey":
        """The key that a row of such objects holds in its columns."""
        return cls(row["country_code"], row["party_id"], row["key"], row["integration_id"])

    @property
    def party(self) -> PartyKey:
        return PartyKey(self.country_code, self.party_id)

    @property
    def shown(self) -> str:
        """For people: DE*ABC*L1."""
        return f"{self.party}*{getattr(self.key, 'written', self.key)}"

    def __str__(self) -> str:
        """As it is stored, apart from the integration: DEABCl1."""
        return f"{self.country_code}{self.party_id}{self.key}"


_SHOWN = re.compile(r"([A-Za-z]{2})(\*?)([A-Za-z0-9]{3})\2(.+)", re.DOTALL)


def stored_ids(text: str) -> list[str]:
    """What the object may be stored as that somebody calls so: DE*ABC*L1, DE*ABC*L1/E1, DEABCL1, DE*ABC, or an id."""
    ids = {text, text.casefold(), text.upper()}
    if parts := _SHOWN.fullmatch(text):
        ids.add(str(ObjectKey.of(parts[1], parts[3], parts[4])))
    return sorted(ids)


def key_of(named: Named) -> ObjectKey:
    return ObjectKey.of(named.country_code, named.party_id, named.id, named.integration_id)


def columns(keys: Iterable[ObjectKey]) -> tuple[list[str], ...]:
    """The keys as four lists, as `unnest` takes them."""
    ordered = list(keys)
    return tuple([key[place] for key in ordered] for place in range(len(ObjectKey._fields)))


def is_segment(text: str) -> bool:
    """Whether a URL can hold the text as one segment of its path.

    A server that decodes "%2F" before it resolves dots would read another path where a part of it is dots.
    """
    return bool(text) and not any(part in (".", "..") for part in text.replace("\\", "/").split("/"))


class EvseKey(NamedTuple):
    """An EVSE of a location. `key` is its folded uid."""

    location: ObjectKey
    key: str

    @classmethod
    def of(cls, location: ObjectKey, uid: str) -> "EvseKey":
        return cls(location, uid.casefold())

    @classmethod
    def parsed(cls, text: str, integration_id: str = OURS) -> "list[EvseKey]":
        """The keys that `str` may have written so: ids may hold a slash themselves."""
        cuts = [place for place, letter in enumerate(text) if letter == "/"]
        return [cls(ObjectKey.parsed(text[:cut], integration_id), text[cut + 1 :]) for cut in cuts if cut > 5]

    def __str__(self) -> str:
        return f"{self.location}/{self.key}"


def charger_key(id: str) -> str:
    """A charger of a tenant: its folded id."""
    return id.casefold()
