"""Several partners' views of one location, as a table for people."""

from collections.abc import Iterator, Mapping

from evbridge.v1.location_pb2 import ConnectorType, Location

_HIDDEN = "-"


def side_by_side(views: Mapping[str, Location]) -> str:
    """A line for each connector that any of them sees, and under each partner the tariffs it shows there."""
    seen = {partner: dict(_connectors(location)) for partner, location in views.items()}
    rows = [("EVSE, connector", *views)]
    for name in sorted({name for connectors in seen.values() for name in connectors}):
        rows.append((name, *(connectors.get(name, _HIDDEN) for connectors in seen.values())))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  " + "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _connectors(location: Location) -> Iterator[tuple[str, str]]:
    for evse in location.evses:
        for connector in evse.connectors:
            standard = ConnectorType.Name(connector.standard).removeprefix("CONNECTOR_TYPE_")
            yield f"{evse.evse_id}, {connector.id} ({standard})", "tariff " + ", ".join(connector.tariff_ids)
