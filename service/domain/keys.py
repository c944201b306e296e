"""The names of OCPI objects. They ignore case: country and party are kept in upper case, ids are compared folded."""

from typing import NamedTuple


class PartyKey(NamedTuple):
    """A party: two letters of a country, three characters of a party."""

    country_code: str
    party_id: str

    @classmethod
    def of(cls, country_code: str, party_id: str) -> "PartyKey":
        return cls(country_code.upper(), party_id.upper())

    def __str__(self) -> str:
        return f"{self.country_code}*{self.party_id}"


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

    @property
    def party(self) -> PartyKey:
        return PartyKey(self.country_code, self.party_id)

    def __str__(self) -> str:
        return f"{self.country_code}{self.party_id}{self.key}"
