"""What a partner sees, for any rules: order, defaults, what is hidden, periods, and what a change reaches."""

from itertools import pairwise
from typing import Any

import pytest
from evbridge.v1.location_pb2 import (
    EVSE_STATUS_REMOVED,
    Evse,
    Location,
    PowerType,
)
from evbridge.v1.publication_pb2 import (
    PUBLICATION_EFFECT_HIDDEN,
    PUBLICATION_EFFECT_VISIBLE,
    ConnectorSelection,
    PublicationRule,
    TariffSelection,
)
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from service.domain.keys import ObjectKey, PartyKey, key_of
from service.domain.publication import Affected, ImpactCount, Publication, Viewer, affected, later
from tests.front_door import a_connector, a_location, a_rule, an_evse
from tests.published import LOCATIONS, POWER_TYPES, RULES, TARIFF_RULES, TARIFFS, connector_rules, place, tariff

NOW = Timestamp(seconds=1000)


def seen(rules: list[PublicationRule], location: Location, at: Timestamp = NOW) -> Location | None:
    return Publication(rules, at).location(location)


def selects(rule: PublicationRule, location: Location, evse: Evse, power_type: PowerType.ValueType) -> bool:
    """The contract's words, told again in the plainest way."""
    selection = rule.connectors
    return rule.HasField("connectors") and all(
        (
            not selection.locations or key_of(location) in map(key_of, selection.locations),
            not selection.countries or location.country in selection.countries,
            not selection.power_types or power_type in selection.power_types,
            not selection.evse_id_prefixes
            or any(evse.evse_id.lower().startswith(prefix.lower()) for prefix in selection.evse_id_prefixes),
        )
    )


@given(RULES, LOCATIONS)
def test_the_first_rule_that_selects_a_connector_judges_it(rules: list[PublicationRule], location: Location) -> None:
    ordered = sorted(rules, key=lambda rule: (rule.priority, rule.id))
    expected = {}
    for evse in location.evses:
        for connector in evse.connectors:
            judge = next((rule for rule in ordered if selects(rule, location, evse, connector.power_type)), None)
            if judge and judge.effect == PUBLICATION_EFFECT_VISIBLE:
                expected[evse.uid, connector.id] = judge
    view = seen(rules, location)
    shown = {(evse.uid, each.id): each for evse in view.evses for each in evse.connectors} if view else {}
    assert shown.keys() == expected.keys()
    assert (view is None) == (not expected)


@given(RULES, LOCATIONS, st.sampled_from(["", "other", "own"]))
def test_a_viewer_sees_the_objects_of_its_parties_but_its_own(
    rules: list[PublicationRule], location: Location, origin: str
) -> None:
    location.origin.integration_id = origin
    keys = [ObjectKey.of("DE", "ABC", id) for id in TARIFFS]
    everyone = Publication(rules, NOW)
    for parties in ([], ["ABC"], ["ABC", "XYZ"], ["XYZ"]):
        viewer = Viewer("own", frozenset(PartyKey("DE", party) for party in parties))
        publication = Publication(rules, NOW, viewer)
        speaks = parties != ["XYZ"]
        assert publication.location(location) == (everyone.location(location) if speaks and origin != "own" else None)
        assert [publication.tariff(key) for key in keys] == [speaks and everyone.tariff(key) for key in keys]
        assert {*publication.tariffs()} == ({*everyone.tariffs()} if speaks else set())
        count = ImpactCount(publication, publication)
        count.add(location)
        hidden = not speaks and origin != "own" and everyone.location(location) is not None
        assert count.impact().other_party_locations == hidden


@given(LOCATIONS, st.lists(connector_rules(effect=PUBLICATION_EFFECT_HIDDEN), max_size=3))
def test_without_a_rule_that_shows_it_nothing_is_seen(location: Location, hiding: list[PublicationRule]) -> None:
    assert seen(hiding, location) is None
    publication = Publication(hiding, NOW)
    assert [publication.tariff(ObjectKey.of("DE", "ABC", id)) for id in TARIFFS] == [False] * 3


@given(RULES, LOCATIONS, st.randoms(use_true_random=False))
def test_the_order_is_that_of_priorities_and_ids_and_not_of_the_rows(
    rules: list[PublicationRule], location: Location, dice: Any
) -> None:
    shuffled = [*rules]
    dice.shuffle(shuffled)
    assert seen(shuffled, location) == seen(rules, location)


@given(RULES, LOCATIONS)
def test_a_view_is_part_of_the_location_and_closed(rules: list[PublicationRule], location: Location) -> None:
    """What is seen stands in the location but for assigned tariffs, and every tariff shown is itself seen."""
    publication = Publication(rules, NOW)
    view = publication.location(location)
    if view is None:
        return
    assert not view.etag
    stored = {evse.uid: evse for evse in location.evses}
    for evse in view.evses:
        assert evse.connectors
        connectors = {connector.id: connector for connector in stored[evse.uid].connectors}
        for connector in evse.connectors:
            for id in connector.tariff_ids:
                key = ObjectKey.of("DE", "ABC", id)
                assert publication.tariff(key) is not False
                assert publication.shows(location, key)
            if evse.status == EVSE_STATUS_REMOVED:
                assert not connector.tariff_ids
            connector.tariff_ids[:] = connectors[connector.id].tariff_ids
            assert connector == connectors[connector.id]
    rest, same = Location(), Location()
    for copy, source in ((rest, view), (same, location)):
        copy.CopyFrom(source)
        copy.ClearField("evses")
    same.ClearField("etag")
    assert rest == same


@given(RULES, LOCATIONS)
def test_what_is_hidden_first_never_leaks(rules: list[PublicationRule], location: Location) -> None:
    for power_type in POWER_TYPES:
        hide = a_rule(id="a", effect=PUBLICATION_EFFECT_HIDDEN, connectors=ConnectorSelection(power_types=[power_type]))
        lower = [PublicationRule.FromString(rule.SerializeToString()) for rule in rules]
        for rule in lower:
            rule.priority += 1
        view = seen([hide, *lower], location)
        assert not any(
            connector.power_type == power_type for evse in (view.evses if view else ()) for connector in evse.connectors
        )
    first = a_rule(id="a", effect=PUBLICATION_EFFECT_HIDDEN, tariffs=TariffSelection(keys=[tariff("t2")]))
    publication = Publication([first, *lower], NOW)
    assert publication.tariff(ObjectKey.of("DE", "ABC", "T2")) is False
    view = publication.location(location)
    assert not any(
        "T2" in connector.tariff_ids for evse in (view.evses if view else ()) for connector in evse.connectors
    )


@given(RULES, connector_rules(), LOCATIONS)
def test_splitting_a_rule_into_two_disjoint_ones_changes_nothing(
    rules: list[PublicationRule], rule: PublicationRule, location: Location
) -> None:
    others = [each for each in rules if each.priority != rule.priority]
    halves = []
    for power_type in rule.connectors.power_types or PowerType.values():
        half = PublicationRule.FromString(rule.SerializeToString())
        half.id = f"{rule.id}-{power_type}"
        half.connectors.power_types[:] = [power_type]
        halves.append(half)
    assert seen([*others, *halves], location) == seen([*others, rule], location)
    publications = [Publication(each, NOW) for each in ([*others, *halves], [*others, rule])]
    keys = [ObjectKey.of("DE", "ABC", id) for id in TARIFFS]
    one, other = ([publication.tariff(key) for key in keys] for publication in publications)
    assert one == other


@pytest.mark.parametrize(
    ("period", "in_force"),
    [
        ({}, True),
        ({"valid_from": Timestamp(seconds=1000)}, True),
        ({"valid_from": Timestamp(seconds=1000, nanos=1)}, False),
        ({"valid_until": Timestamp(seconds=1000)}, False),
        ({"valid_until": Timestamp(seconds=1000, nanos=1)}, True),
        ({"valid_from": Timestamp(seconds=999), "valid_until": Timestamp(seconds=1001)}, True),
        ({"valid_from": Timestamp(seconds=1), "valid_until": Timestamp(seconds=2)}, False),
    ],
)
def test_a_rule_is_in_force_from_its_begin_until_before_its_end(period: dict[str, Timestamp], in_force: bool) -> None:
    rule = a_rule(assigned_tariffs=[tariff("T1")], **period)
    assert (seen([rule], a_location()) is not None) == in_force
    assert Publication([rule], NOW).tariff(ObjectKey.of("DE", "ABC", "T1")) is in_force
    assert later(NOW, rule.valid_from).seconds >= NOW.seconds


@given(st.lists(st.integers(0, 20), min_size=2, max_size=5, unique=True).map(sorted), st.integers(0, 20))
def test_periods_that_meet_leave_neither_a_gap_nor_an_overlap(bounds: list[int], second: int) -> None:
    rules = [
        a_rule(valid_from=Timestamp(seconds=begin), valid_until=Timestamp(seconds=end), effect=number % 2 + 1)
        for number, (begin, end) in enumerate(pairwise(bounds))
    ]
    turn = next((number for number, (begin, end) in enumerate(pairwise(bounds)) if begin <= second < end), None)
    assert (seen(rules, a_location(), Timestamp(seconds=second)) is not None) == (turn is not None and turn % 2 == 0)


OWN = a_location(id="L0", evses=[an_evse(connectors=[a_connector(tariff_ids=["T1", "T2"])])])
TARIFF_CASES = [
    ("its own", [a_rule()], ["T1", "T2"]),
    ("assigned ones replace them", [a_rule(assigned_tariffs=[tariff("T3")])], ["T3"]),
    ("of another party none", [a_rule(assigned_tariffs=[tariff("T3", "XYZ")])], []),
    (
        "a hidden one is not shown",
        [a_rule(), a_rule(effect=2, tariffs=TariffSelection(keys=[tariff("t1")]))],
        ["T2"],
    ),
    (
        "nor when it is assigned later",
        [
            a_rule(id="b", assigned_tariffs=[tariff("T1"), tariff("T3")]),
            a_rule(id="a", effect=2, tariffs=TariffSelection(keys=[tariff("T1")])),
        ],
        ["T3"],
    ),
    (
        "it is when it is assigned before",
        [
            a_rule(id="a", assigned_tariffs=[tariff("T1")]),
            a_rule(id="b", effect=2, tariffs=TariffSelection(keys=[tariff("T1")])),
        ],
        ["T1"],
    ),
]


@pytest.mark.parametrize(
    ("rules", "shown"), [case[1:] for case in TARIFF_CASES], ids=[case[0] for case in TARIFF_CASES]
)
def test_a_connector_shows(rules: list[PublicationRule], shown: list[str]) -> None:
    view = seen(rules, OWN)
    assert view
    assert [*view.evses[0].connectors[0].tariff_ids] == shown


@given(RULES, RULES, st.lists(LOCATIONS, max_size=4))
def test_the_impact_is_the_difference_of_the_views(
    before: list[PublicationRule], after: list[PublicationRule], locations: list[Location]
) -> None:
    was, will = Publication(before, NOW), Publication(after, NOW)
    count = ImpactCount(was, will)
    for location in locations:
        count.add(location)
    impact = count.impact()
    views = [(was.location(each), will.location(each)) for each in locations]
    assert impact.shown_locations == sum(new is not None and old is None for old, new in views)
    assert impact.withdrawn_locations == sum(new is None and old is not None for old, new in views)
    connectors = [
        [{(evse.uid, each.id) for evse in (view.evses if view else ()) for each in evse.connectors} for view in pair]
        for pair in views
    ]
    assert impact.shown_connectors == sum(len(new - old) for old, new in connectors)
    assert impact.withdrawn_connectors == sum(len(old - new) for old, new in connectors)

    def tariffs(publication: Publication) -> set[str]:
        judged = {id: publication.tariff(ObjectKey.of("DE", "ABC", id)) for id in TARIFFS}
        shown = {
            id for id in TARIFFS if any(publication.shows(each, ObjectKey.of("DE", "ABC", id)) for each in locations)
        }
        return {id for id, sees in judged.items() if sees or (sees is None and id in shown)}

    assert impact.shown_tariffs == len(tariffs(will) - tariffs(was))
    assert impact.withdrawn_tariffs == len(tariffs(was) - tariffs(will))
    assert impact.connectors_without_tariff == sum(
        not each.tariff_ids
        for _, view in views
        if view
        for evse in view.evses
        if evse.status != EVSE_STATUS_REMOVED
        for each in evse.connectors
    )


@given(RULES, connector_rules() | TARIFF_RULES, connector_rules() | TARIFF_RULES, LOCATIONS)
def test_no_location_outside_the_reach_of_a_change_looks_otherwise(
    others: list[PublicationRule], old: PublicationRule, new: PublicationRule, location: Location
) -> None:
    new.id = old.id
    for versions in ([old], [new], [old, new]):
        change = affected(versions, others)
        before = [*others, old] if old in versions else others
        after = [*others, new] if new in versions else others
        if change.locations is not None and key_of(location) not in change.locations:
            assert seen(before, location) == seen(after, location)
        for id in TARIFFS:
            key = ObjectKey.of("DE", "ABC", id)
            if change.tariffs is not None and key not in change.tariffs:
                assert Publication(before, NOW).tariff(key) == Publication(after, NOW).tariff(key)


def test_the_reach_of_a_rule_that_names_is_what_it_names() -> None:
    named = a_rule(connectors=ConnectorSelection(locations=[place("L0")]))
    other = a_rule(connectors=ConnectorSelection(locations=[place("L1")]))
    priced = a_rule(tariffs=TariffSelection(keys=[tariff("T1")]))
    hiding = a_rule(effect=2, tariffs=TariffSelection(keys=[tariff("T2")]))
    keys = [ObjectKey("DE", "ABC", key) for key in ("l0", "l1", "t1")]
    assert affected([named, other], []) == Affected({keys[0], keys[1]}, None)
    assert affected([named, a_rule()], []) == Affected(None, None)
    assert affected([priced], [named]) == Affected(set(), {keys[2]})
    assert affected([priced], [hiding]) == Affected(None, {keys[2]})
    assigning = a_rule(connectors=ConnectorSelection(locations=[place("L0")]), assigned_tariffs=[tariff("T2")])
    assert affected([assigning], [named]) == Affected({keys[0]}, None)
    assert affected([assigning], [hiding]) == Affected(None, None)
