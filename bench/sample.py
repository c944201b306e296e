"""What the benchmarks read and write: about what an operator with a dozen roaming partners has."""

from uuid import UUID

from evbridge.v1.company_pb2 import Company, ExternalSourceMapping
from evbridge.v1.location_pb2 import (
    CAPABILITY_REMOTE_START_STOP_CAPABLE,
    CAPABILITY_RESERVABLE,
    CAPABILITY_RFID_READER,
    CONNECTOR_FORMAT_CABLE,
    CONNECTOR_TYPE_IEC_62196_T2_COMBO,
    EVSE_STATUS_AVAILABLE,
    FACILITY_CAFE,
    FACILITY_TRAIN_STATION,
    PARKING_TYPE_PARKING_LOT,
    POWER_TYPE_DC,
    Connector,
    Evse,
    GeoLocation,
    Hours,
    Location,
)
from evbridge.v1.types_pb2 import IMAGE_CATEGORY_LOCATION, BusinessDetails, DisplayText, Image


def company() -> Company:
    return Company(
        id=str(UUID(int=1)),
        version=1,
        name="Wattwerk Energie",
        url="https://wattwerk.example/elektromobilitaet/laden",
        is_cpo=True,
        is_emp=True,
        external_source_mapping=ExternalSourceMapping(going_electric_names=["Wattwerk", "Wattwerk (Straßenlaternen)"]),
        supported_emp_ids=[str(UUID(int=number << 64 | 0x1234)) for number in range(2, 14)],
        cpo_group_id=str(UUID(int=20)),
    )


def location(number: int) -> Location:
    """A site with two chargers of two sockets each; about 1.2 KB once it is stored."""
    return Location(
        country_code="DE",
        party_id="WAT",
        id=f"SITE-{number:06}",
        publish=True,
        name="Wattwerk Ladepark Hauptbahnhof",
        address="Hermann-Löns-Straße 12a",
        city="Freiburg im Breisgau",
        postal_code="79098",
        country="DEU",
        coordinates=GeoLocation(latitude=f"{47 + number % 800 / 100:.6f}", longitude=f"{7 + number / 1000:.6f}"),
        parking_type=PARKING_TYPE_PARKING_LOT,
        directions=[
            DisplayText(language="de", text="Zufahrt über den Parkplatz an der Nordseite, die Schranke steht offen."),
            DisplayText(language="en", text="Enter through the car park on the north side, the barrier is open."),
        ],
        operator=BusinessDetails(name="Wattwerk Energie", website="https://wattwerk.example/elektromobilitaet"),
        facilities=[FACILITY_TRAIN_STATION, FACILITY_CAFE],
        time_zone="Europe/Berlin",
        opening_times=Hours(twentyfourseven=True),
        images=[
            Image(
                url=f"https://wattwerk.example/bilder/{number:06}-{view}.jpg",
                category=IMAGE_CATEGORY_LOCATION,
                type="jpeg",
                width=1600,
                height=1200,
            )
            for view in ("einfahrt", "ladepark", "umgebung")
        ],
        evses=[
            Evse(
                uid=uid,
                evse_id=f"DE*WAT*E{number:06}*{uid}",
                status=EVSE_STATUS_AVAILABLE,
                capabilities=[CAPABILITY_RFID_READER, CAPABILITY_REMOTE_START_STOP_CAPABLE, CAPABILITY_RESERVABLE],
                physical_reference=f"Säule {uid}",
                connectors=[
                    Connector(
                        id=id,
                        standard=CONNECTOR_TYPE_IEC_62196_T2_COMBO,
                        format=CONNECTOR_FORMAT_CABLE,
                        power_type=POWER_TYPE_DC,
                        max_voltage=920,
                        max_amperage=500,
                        max_electric_power=300_000,
                        terms_and_conditions="https://wattwerk.example/elektromobilitaet/agb",
                    )
                    for id in "12"
                ],
            )
            for uid in ("A1", "A2")
        ],
    )
