"""Sessions and CDRs of DE*ABC, charged with a token of DE*EMP."""

from typing import Any
from uuid import uuid4

from evbridge.v1 import cdr_pb2, cdr_token_pb2, location_pb2, pricing_pb2, session_pb2, types_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from google.type.decimal_pb2 import Decimal

SESSION_START_S = 1_790_000_000


def a_cdr_token(**changes: Any) -> cdr_token_pb2.CdrToken:
    """An RFID token of DE*EMP."""
    return cdr_token_pb2.CdrToken(
        **{
            "country_code": "DE",
            "party_id": "EMP",
            "uid": "04A1B2",
            "type": location_pb2.TOKEN_TYPE_RFID,
            "contract_id": "DEEMPC12345678X",
            **changes,
        }
    )


def a_period(start_s: int, energy: str, **changes: Any) -> pricing_pb2.ChargingPeriod:
    """So much energy, from so many seconds after the session's start on."""
    dimension = pricing_pb2.CdrDimension(type=pricing_pb2.CDR_DIMENSION_TYPE_ENERGY, volume=Decimal(value=energy))
    start = Timestamp(seconds=SESSION_START_S + start_s)
    return pricing_pb2.ChargingPeriod(**{"start_date_time": start, "dimensions": [dimension], **changes})


def a_session(**changes: Any) -> session_pb2.Session:
    """At L1, by DE*ABC, under way."""
    return session_pb2.Session(
        **{
            "country_code": "DE",
            "party_id": "ABC",
            "id": str(uuid4()),
            "start_date_time": Timestamp(seconds=SESSION_START_S),
            "kwh": Decimal(value="2.5"),
            "cdr_token": a_cdr_token(),
            "auth_method": cdr_token_pb2.AUTH_METHOD_WHITELIST,
            "location_id": "L1",
            "evse_uid": "E1",
            "connector_id": "1",
            "currency": "EUR",
            "status": session_pb2.SESSION_STATUS_ACTIVE,
            **changes,
        }
    )


def a_cdr(**changes: Any) -> cdr_pb2.Cdr:
    """20 kWh in an hour at L1, by DE*ABC: 5 EUR, 5.95 EUR with VAT."""
    return cdr_pb2.Cdr(
        **{
            "country_code": "DE",
            "party_id": "ABC",
            "id": str(uuid4()),
            "start_date_time": Timestamp(seconds=SESSION_START_S),
            "end_date_time": Timestamp(seconds=SESSION_START_S + 3600),
            "session_id": "S1",
            "cdr_token": a_cdr_token(),
            "auth_method": cdr_token_pb2.AUTH_METHOD_WHITELIST,
            "cdr_location": cdr_pb2.CdrLocation(
                id="L1",
                address="Main Street 1",
                city="Berlin",
                country="DEU",
                coordinates=location_pb2.GeoLocation(latitude="52.520008", longitude="13.404954"),
                evse_uid="E1",
                evse_id="DE*ABC*E1",
                connector_id="1",
                connector_standard=location_pb2.CONNECTOR_TYPE_IEC_62196_T2,
                connector_format=location_pb2.CONNECTOR_FORMAT_SOCKET,
                connector_power_type=location_pb2.POWER_TYPE_AC_3_PHASE,
            ),
            "currency": "EUR",
            "charging_periods": [a_period(0, "20")],
            "total_cost": types_pb2.Price(excl_vat=Decimal(value="5"), incl_vat=Decimal(value="5.95")),
            "total_energy": Decimal(value="20"),
            "total_time": Decimal(value="1"),
            **changes,
        }
    )
