"""What an object that was mapped and read back lacks."""

import pytest
from evbridge.v1.location_pb2 import GeoLocation
from evbridge.v1.tariff_pb2 import PriceComponent

from service.domain.mapping import missing


@pytest.mark.parametrize(
    ("held", "sent", "same"),
    [("50.50", "50.5", True), ("50.5", "50.6", False), ("north", "50.5", False), ("", "", True)],
)
def test_numbers_are_compared_as_such_and_what_is_none_as_text(held: str, sent: str, same: bool) -> None:
    lost = [*missing(GeoLocation(latitude=sent), GeoLocation(latitude=held))]
    assert lost == ([] if same else ["latitude"])
    lost = [*missing(PriceComponent(price={"value": sent}), PriceComponent(price={"value": held}))]
    assert lost == ([] if same else ["price"])
