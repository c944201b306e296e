"""What a partner sees of our locations and tariffs. The rules are told in the contract, at PublicationService."""

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, Connector, Evse, Location
from evbridge.v1.publication_pb2 import (
    HIDDEN_REASON_ENDED,
    HIDDEN_REASON_IMPORTED,
    HIDDEN_REASON_OTHER_PARTY,
    HIDDEN_REASON_RECEIVED,
    HIDDEN_REASON_UNSPECIFIED,
    PUBLICATION_EFFECT_HIDDEN,
    PUBLICATION_EFFECT_VISIBLE,
    HiddenReason,
    PublicationImpact,
    PublicationRule,
)
from evbridge.v1.tariff_pb2 import Tariff
from google.protobuf.timestamp_pb2 import Timestamp

from service.domain.keys import ObjectKey, PartyKey, key_of
from service.domain.tariff import has_ended

MAX_RULES = 100  # of an integration
MAX_NAMED = 1000  # locations or tariffs in one rule


class VisibleConnector(NamedTuple):
    """Where it stands in its location, and the ids of the tariffs that it shows."""

    evse: int
    connector: int
    tariff_ids: list[str]


class Viewer(NamedTuple):
    """Whose view it is: the partner of an integration that speaks for these parties, or for all when there are none."""

    integration_id: str = ""
    parties: frozenset[PartyKey] = frozenset()

    def meets(self, party: PartyKey) -> bool:
        return not self.parties or party in self.parties

    def barred(self, object: Location | Tariff) -> HiddenReason.ValueType:
        """Why it does not see the object, whatever the rules say; unspecified when they decide."""
        if object.integration_id:
            return HIDDEN_REASON_RECEIVED
        if self.integration_id and object.origin.integration_id == self.integration_id:
            return HIDDEN_REASON_IMPORTED
        return HIDDEN_REASON_UNSPECIFIED if self.meets(key_of(object).party) else HIDDEN_REASON_OTHER_PARTY


EVERYONE = Viewer()


class Publication:
    """What the rules of one integration let its partner see at one instant. Without a rule that is nothing."""

    def __init__(self, rules: Iterable[PublicationRule], at: Timestamp, viewer: Viewer = EVERYONE) -> None:
        self.at = at
        self.viewer = viewer
        in_force = sorted((rule for rule in rules if _in_force(rule, at)), key=lambda rule: (rule.priority, rule.id))
        self._rules = [_ConnectorRule(rule) for rule in in_force if rule.HasField("connectors")]
        self._named: dict[ObjectKey, bool] = {}
        for rule in in_force:
            for _, key in tariffs_named(rule):
                self._named.setdefault(key, rule.effect == PUBLICATION_EFFECT_VISIBLE)
        self._shows_own = any(rule.visible and rule.assigned is None for rule in self._rules)

    def barred(self, object: Location | Tariff) -> HiddenReason.ValueType:
        """Why the partner does not see the object, whatever the rules say; unspecified when they decide."""
        if isinstance(object, Tariff) and has_ended(object, self.at.ToDatetime(UTC)):
            return HIDDEN_REASON_ENDED
        return self.viewer.barred(object)

    def connectors(self, location: Location) -> Iterator[VisibleConnector]:
        """The visible connectors of a location."""
        return iter(()) if self.viewer.barred(location) else self.selected(location)

    def selected(self, location: Location) -> Iterator[VisibleConnector]:
        """Those that the rules make visible, whoever may see the location."""
        key = key_of(location)
        rules = [rule for rule in self._rules if rule.reaches(key, location.country)]
        for row, evse in enumerate(location.evses):
            for column, connector in enumerate(evse.connectors):
                rule = next((rule for rule in rules if rule.selects(evse, connector)), None)
                if rule and rule.visible:
                    yield VisibleConnector(row, column, self._tariff_ids(rule, key.party, evse, connector))

    def location(self, location: Location) -> Location | None:
        """The location as the partner sees it; None when it does not."""
        seen = Location()
        rows: dict[int, Evse] = {}
        for row, column, tariff_ids in self.connectors(location):
            if row not in rows:
                rows[row] = seen.evses.add()
                rows[row].CopyFrom(location.evses[row])
                rows[row].ClearField("connectors")
            connector = rows[row].connectors.add()
            connector.CopyFrom(location.evses[row].connectors[column])
            connector.tariff_ids[:] = tariff_ids
        if not rows:
            return None
        whole = Location()
        whole.CopyFrom(location)
        whole.ClearField("evses")
        whole.ClearField("etag")
        whole.MergeFrom(seen)
        return whole

    def tariff(self, key: ObjectKey) -> bool | None:
        """Whether the partner sees the tariff; None when that is for the locations that name it to say."""
        if not self.viewer.meets(key.party):
            return False
        named = self._named.get(key)
        return False if named is None and not self._shows_own else named

    def shows(self, location: Location, tariff: ObjectKey) -> bool:
        """Whether a visible connector of the location shows the tariff."""
        return any(tariff in _keys(location, ids) for _, _, ids in self.connectors(location))

    def tariffs(self) -> Iterator[ObjectKey]:
        """The tariffs that the partner sees because a rule names them."""
        return (key for key, visible in self._named.items() if visible and self.viewer.meets(key.party))

    def _tariff_ids(self, rule: "_ConnectorRule", party: PartyKey, evse: Evse, connector: Connector) -> list[str]:
        if evse.status == EVSE_STATUS_REMOVED:
            return []
        ids: Collection[str] = connector.tariff_ids if rule.assigned is None else rule.assigned.get(party, ())
        return [id for id in ids if self._named.get(ObjectKey.of(*party, id), True)]


class ImpactCount:
    """Counts what a partner sees before and after a change of rules; it is shown every location once."""

    def __init__(self, before: Publication, after: Publication) -> None:
        self._before, self._after = before, after
        self._tariffs_before, self._tariffs_after = set(before.tariffs()), set(after.tariffs())
        self._impact = PublicationImpact()

    def add(self, location: Location) -> None:
        before, after = [*self._before.connectors(location)], [*self._after.connectors(location)]
        self._tariffs_before.update(key for _, _, ids in before for key in _keys(location, ids))
        self._tariffs_after.update(key for _, _, ids in after for key in _keys(location, ids))
        places_before = {(row, column) for row, column, _ in before}
        places_after = {(row, column) for row, column, _ in after}
        impact = self._impact
        impact.shown_locations += bool(after) and not before
        impact.withdrawn_locations += bool(before) and not after
        barred = self._after.viewer.barred(location) == HIDDEN_REASON_OTHER_PARTY
        impact.other_party_locations += barred and any(True for _ in self._after.selected(location))
        impact.shown_connectors += len(places_after - places_before)
        impact.withdrawn_connectors += len(places_before - places_after)
        impact.connectors_without_tariff += sum(
            not ids and location.evses[row].status != EVSE_STATUS_REMOVED for row, _, ids in after
        )

    def impact(self) -> PublicationImpact:
        self._impact.shown_tariffs = len(self._tariffs_after - self._tariffs_before)
        self._impact.withdrawn_tariffs = len(self._tariffs_before - self._tariffs_after)
        return self._impact


class Affected(NamedTuple):
    """The objects that a partner may see otherwise after a change of rules; None for all there are."""

    locations: set[ObjectKey] | None
    tariffs: set[ObjectKey] | None


EVERYTHING = Affected(None, None)


def affected(changed: Collection[PublicationRule], others: Iterable[PublicationRule]) -> Affected:
    """What a change affects: of a rule as it was and as it is, among the others of its integration."""
    locations = [{key for _, key in locations_named(rule)} for rule in changed if rule.HasField("connectors")]
    tariffs = {key for rule in changed for _, key in tariffs_named(rule)}
    # Any connector may show a tariff that another rule hides no more.
    hides = any(rule.HasField("tariffs") and rule.effect == PUBLICATION_EFFECT_HIDDEN for rule in (*changed, *others))
    everywhere = (tariffs and hides) or not all(locations)
    return Affected(None if everywhere else set().union(*locations), None if locations else tariffs)


def next_due(rule: PublicationRule, now: datetime | None) -> datetime | None:
    """When the rule next comes into force or ends after `now`; None when it does not. Without `now`, ever."""
    said = [rule.valid_from] * rule.HasField("valid_from") + [rule.valid_until] * rule.HasField("valid_until")
    times = [time.ToDatetime(UTC) for time in said]
    return next((time for time in times if now is None or time > now), None)


def locations_named(rule: PublicationRule) -> Iterator[tuple[str, ObjectKey]]:
    """(path, key) of each location that it names."""
    for number, location in enumerate(rule.connectors.locations):
        yield f"connectors.locations[{number}]", key_of(location)


def tariffs_named(rule: PublicationRule) -> Iterator[tuple[str, ObjectKey]]:
    """(path, key) of each tariff that it names, to select it or to assign it."""
    for number, tariff in enumerate(rule.tariffs.keys):
        yield f"tariffs.keys[{number}]", key_of(tariff)
    for number, tariff in enumerate(rule.assigned_tariffs):
        yield f"assigned_tariffs[{number}]", key_of(tariff)


def later(one: Timestamp, other: Timestamp) -> Timestamp:
    return max(one, other, key=_instant)


class _ConnectorRule:
    """A rule about connectors, made to be asked often."""

    def __init__(self, rule: PublicationRule) -> None:
        selection = rule.connectors
        self.visible = rule.effect == PUBLICATION_EFFECT_VISIBLE
        assigned: dict[PartyKey, list[str]] = {}
        for tariff in rule.assigned_tariffs:
            assigned.setdefault(key_of(tariff).party, []).append(tariff.id)
        self.assigned = assigned or None
        self._locations = {key for _, key in locations_named(rule)}
        self._countries = {*selection.countries}
        self._power_types = {*selection.power_types}
        self._prefixes = tuple(prefix.casefold() for prefix in selection.evse_id_prefixes)

    def reaches(self, location: ObjectKey, country: str) -> bool:
        return (not self._locations or location in self._locations) and (
            not self._countries or country in self._countries
        )

    def selects(self, evse: Evse, connector: Connector) -> bool:
        """Of a location that it reaches."""
        return (not self._power_types or connector.power_type in self._power_types) and (
            not self._prefixes or evse.evse_id.casefold().startswith(self._prefixes)
        )


def _keys(location: Location, tariff_ids: Iterable[str]) -> set[ObjectKey]:
    return {ObjectKey.of(location.country_code, location.party_id, id) for id in tariff_ids}


def _in_force(rule: PublicationRule, at: Timestamp) -> bool:
    return (not rule.HasField("valid_from") or _instant(rule.valid_from) <= _instant(at)) and (
        not rule.HasField("valid_until") or _instant(at) < _instant(rule.valid_until)
    )


def _instant(timestamp: Timestamp) -> tuple[int, int]:
    return timestamp.seconds, timestamp.nanos
