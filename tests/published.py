"""Any rules of publication, and any locations that they are about."""

from typing import Any

from evbridge.v1.location_pb2 import EVSE_STATUS_REMOVED, POWER_TYPE_AC_3_PHASE, POWER_TYPE_DC, LocationKey
from evbridge.v1.publication_pb2 import (
    PUBLICATION_EFFECT_HIDDEN,
    PUBLICATION_EFFECT_VISIBLE,
    ConnectorSelection,
    PublicationRule,
    TariffSelection,
)
from evbridge.v1.tariff_pb2 import TariffKey
from hypothesis import strategies as st

from tests.front_door import a_connector, a_location, a_rule, an_evse

COUNTRIES = ["DEU", "NOR"]
POWER_TYPES = [POWER_TYPE_AC_3_PHASE, POWER_TYPE_DC]
EVSE_IDS = ["DE*ABC*E1", "no*abc*e2", ""]
TARIFFS = ["T1", "T2", "T3"]


def tariff(id: str, party_id: str = "ABC") -> TariffKey:
    return TariffKey(country_code="DE", party_id=party_id, id=id)


def place(id: str) -> LocationKey:
    return LocationKey(country_code="DE", party_id="ABC", id=id)


SELECTIONS = st.builds(
    ConnectorSelection,
    locations=st.lists(st.sampled_from(["L0", "l1"]).map(place), max_size=1),
    countries=st.lists(st.sampled_from(COUNTRIES), max_size=1),
    power_types=st.lists(st.sampled_from(POWER_TYPES), max_size=1),
    evse_id_prefixes=st.lists(st.sampled_from(["de*abc", "NO*"]), max_size=1),
)
EFFECTS = st.sampled_from([PUBLICATION_EFFECT_VISIBLE, PUBLICATION_EFFECT_HIDDEN])


@st.composite
def connector_rules(draw: st.DrawFn, **fixed: Any) -> PublicationRule:
    rule = a_rule(
        **{"effect": draw(EFFECTS), "connectors": draw(SELECTIONS), "priority": draw(st.integers(0, 3)), **fixed}
    )
    if rule.effect == PUBLICATION_EFFECT_VISIBLE:
        rule.assigned_tariffs.extend(draw(st.lists(st.sampled_from(TARIFFS).map(tariff), max_size=2)))
    return rule


TARIFF_RULES = st.builds(
    lambda effect, ids, priority: a_rule(
        effect=effect, priority=priority, tariffs=TariffSelection(keys=[tariff(id) for id in ids])
    ),
    EFFECTS,
    st.lists(st.sampled_from(TARIFFS), min_size=1, max_size=2),
    st.integers(0, 3),
)
RULES = st.lists(connector_rules() | TARIFF_RULES, max_size=6)
EVSES = st.builds(
    lambda number, evse_id, status, connectors: an_evse(
        f"E{number}",
        evse_id=evse_id,
        status=status,
        connectors=[
            a_connector(str(at), power_type=power_type, tariff_ids=ids) for at, (power_type, ids) in connectors
        ],
    ),
    st.integers(0, 99),
    st.sampled_from(EVSE_IDS),
    st.sampled_from([1, EVSE_STATUS_REMOVED]),
    st.lists(
        st.tuples(st.sampled_from(POWER_TYPES), st.lists(st.sampled_from(TARIFFS), unique=True)), min_size=1, max_size=3
    ).map(lambda each: [*enumerate(each)]),
)
LOCATIONS = st.builds(
    lambda id, country, evses: a_location(id=id, country=country, evses=evses),
    st.sampled_from(["L0", "L1"]),
    st.sampled_from(COUNTRIES),
    st.lists(EVSES, max_size=3, unique_by=lambda evse: evse.uid),
)
