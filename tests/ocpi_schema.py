"""The members and values of OCPI's objects in each version: what a strict party lets through.

Source: OCPI 2.1.1, 2.2.1 and 2.3.0, locations, tariffs, sessions, cdrs and types. "!" is required; after ":" stands the
class of an object or of the objects in a list, after "=" the enum.
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, dict[str, str]]

_ENUMS = {
    "Status": "AVAILABLE BLOCKED CHARGING INOPERATIVE OUTOFORDER PLANNED REMOVED RESERVED UNKNOWN",
    "ConnectorFormat": "SOCKET CABLE",
    "ImageCategory": "CHARGER ENTRANCE LOCATION NETWORK OPERATOR OTHER OWNER",
    "EnergySourceCategory": "NUCLEAR GENERAL_FOSSIL COAL GAS GENERAL_GREEN SOLAR WIND WATER",
    "EnvironmentalImpactCategory": "NUCLEAR_WASTE CARBON_DIOXIDE",
    "DayOfWeek": "MONDAY TUESDAY WEDNESDAY THURSDAY FRIDAY SATURDAY SUNDAY",
    "TariffDimensionType": "ENERGY FLAT PARKING_TIME TIME",
}
_CLASSES = {
    "GeoLocation": "latitude! longitude!",
    "AdditionalGeoLocation": "latitude! longitude! name:DisplayText",
    "DisplayText": "language! text!",
    "BusinessDetails": "name! website logo:Image",
    "Image": "url! thumbnail category!=ImageCategory type! width height",
    "StatusSchedule": "period_begin! period_end status!=Status",
    "RegularHours": "weekday! period_begin! period_end!",
    "ExceptionalPeriod": "period_begin! period_end!",
    "EnergySource": "source!=EnergySourceCategory percentage!",
    "EnergyMix": "is_green_energy! energy_sources:EnergySource environ_impact:EnvironmentalImpact supplier_name"
    " energy_product_name",
    "CdrDimension": "type!=CdrDimensionType volume!",
    "TariffElement": "price_components!:PriceComponent restrictions:TariffRestrictions",
}
_OLD = {
    "Location": "id! type!=LocationType name address! city! postal_code! country! coordinates!:GeoLocation"
    " related_locations:AdditionalGeoLocation evses:Evse directions:DisplayText operator:BusinessDetails"
    " suboperator:BusinessDetails owner:BusinessDetails facilities=Facility time_zone opening_times:Hours"
    " charging_when_closed images:Image energy_mix:EnergyMix last_updated!",
    "Evse": "uid! evse_id status!=Status status_schedule:StatusSchedule capabilities=Capability"
    " connectors!:Connector floor_level coordinates:GeoLocation physical_reference directions:DisplayText"
    " parking_restrictions=ParkingRestriction images:Image last_updated!",
    "Connector": "id! standard!=ConnectorType format!=ConnectorFormat power_type!=PowerType voltage! amperage!"
    " tariff_id terms_and_conditions last_updated!",
    "Hours": "twentyfourseven regular_hours:RegularHours exceptional_openings:ExceptionalPeriod"
    " exceptional_closings:ExceptionalPeriod",
    "EnvironmentalImpact": "source!=EnvironmentalImpactCategory amount!",
    "Tariff": "id! currency! tariff_alt_text:DisplayText tariff_alt_url elements!:TariffElement energy_mix:EnergyMix"
    " last_updated!",
    "PriceComponent": "type!=TariffDimensionType price! step_size!",
    "TariffRestrictions": "start_time end_time start_date end_date min_kwh max_kwh min_power max_power min_duration"
    " max_duration day_of_week=DayOfWeek",
    "Session": "id! start_datetime! end_datetime kwh! auth_id! auth_method!=AuthMethod location!:Location meter_id"
    " currency! charging_periods:ChargingPeriod total_cost status!=SessionStatus last_updated!",
    "CDR": "id! start_date_time! stop_date_time! auth_id! auth_method!=AuthMethod location!:Location meter_id currency!"
    " tariffs:Tariff charging_periods!:ChargingPeriod total_cost! total_energy! total_time! total_parking_time remark"
    " last_updated!",
    "ChargingPeriod": "start_date_time! dimensions!:CdrDimension",
    "AuthMethod": "AUTH_REQUEST WHITELIST",
    "SessionStatus": "ACTIVE COMPLETED INVALID PENDING",
    "CdrDimensionType": "ENERGY FLAT MAX_CURRENT MIN_CURRENT PARKING_TIME TIME",
    "LocationType": "ON_STREET PARKING_GARAGE UNDERGROUND_GARAGE PARKING_LOT OTHER UNKNOWN",
    "Facility": "HOTEL RESTAURANT CAFE MALL SUPERMARKET SPORT RECREATION_AREA NATURE MUSEUM BUS_STOP TAXI_STAND"
    " TRAIN_STATION AIRPORT CARPOOL_PARKING FUEL_STATION WIFI",
    "Capability": "CHARGING_PROFILE_CAPABLE CREDIT_CARD_PAYABLE REMOTE_START_STOP_CAPABLE RESERVABLE RFID_READER"
    " UNLOCK_CAPABLE",
    "ConnectorType": "CHADEMO DOMESTIC_A DOMESTIC_B DOMESTIC_C DOMESTIC_D DOMESTIC_E DOMESTIC_F DOMESTIC_G DOMESTIC_H"
    " DOMESTIC_I DOMESTIC_J DOMESTIC_K DOMESTIC_L IEC_60309_2_single_16 IEC_60309_2_three_16 IEC_60309_2_three_32"
    " IEC_60309_2_three_64 IEC_62196_T1 IEC_62196_T1_COMBO IEC_62196_T2 IEC_62196_T2_COMBO IEC_62196_T3A IEC_62196_T3C"
    " TESLA_R TESLA_S",
    "PowerType": "AC_1_PHASE AC_3_PHASE DC",
    "ParkingRestriction": "EV_ONLY PLUGGED DISABLED CUSTOMERS MOTORCYCLES",
}
_NEW = {
    "Location": "country_code! party_id! id! publish! publish_allowed_to:PublishTokenType name address! city!"
    " postal_code state country! coordinates!:GeoLocation related_locations:AdditionalGeoLocation"
    " parking_type=ParkingType evses:Evse directions:DisplayText operator:BusinessDetails suboperator:BusinessDetails"
    " owner:BusinessDetails facilities=Facility time_zone! opening_times:Hours charging_when_closed images:Image"
    " energy_mix:EnergyMix last_updated!",
    "PublishTokenType": "uid type=TokenType visual_number issuer group_id",
    "Evse": _OLD["Evse"],
    "Connector": "id! standard!=ConnectorType format!=ConnectorFormat power_type!=PowerType max_voltage! max_amperage!"
    " max_electric_power tariff_ids terms_and_conditions last_updated!",
    "Hours": _OLD["Hours"].replace("twentyfourseven", "twentyfourseven!"),
    "EnvironmentalImpact": "category!=EnvironmentalImpactCategory amount!",
    "Tariff": "country_code! party_id! id! currency! type=TariffType tariff_alt_text:DisplayText tariff_alt_url"
    " min_price:Price max_price:Price elements!:TariffElement start_date_time end_date_time energy_mix:EnergyMix"
    " last_updated!",
    "Price": "excl_vat! incl_vat",
    "PriceComponent": _OLD["PriceComponent"] + " vat",
    "TariffRestrictions": _OLD["TariffRestrictions"]
    + " min_current max_current reservation=ReservationRestrictionType",
    "Session": "country_code! party_id! id! start_date_time! end_date_time kwh! cdr_token!:CdrToken"
    " auth_method!=AuthMethod authorization_reference location_id! evse_uid! connector_id! meter_id currency!"
    " charging_periods:ChargingPeriod"
    " total_cost:Price status!=SessionStatus last_updated!",
    "CDR": "country_code! party_id! id! start_date_time! end_date_time! session_id cdr_token!:CdrToken"
    " auth_method!=AuthMethod authorization_reference cdr_location!:CdrLocation meter_id currency! tariffs:Tariff"
    " charging_periods!:ChargingPeriod signed_data:SignedData total_cost!:Price total_fixed_cost:Price total_energy!"
    " total_energy_cost:Price total_time! total_time_cost:Price total_parking_time total_parking_cost:Price"
    " total_reservation_cost:Price remark invoice_reference_id credit credit_reference_id home_charging_compensation"
    " last_updated!",
    "CdrToken": "country_code! party_id! uid! type!=TokenType contract_id!",
    "CdrLocation": "id! name address! city! postal_code state country! coordinates!:GeoLocation evse_uid! evse_id!"
    " connector_id! connector_standard!=ConnectorType connector_format!=ConnectorFormat"
    " connector_power_type!=PowerType",
    "ChargingPeriod": "start_date_time! dimensions!:CdrDimension tariff_id",
    "SignedData": "encoding_method! encoding_method_version public_key signed_values!:SignedValue url",
    "SignedValue": "nature! plain_data! signed_data!",
    "AuthMethod": "AUTH_REQUEST COMMAND WHITELIST",
    "SessionStatus": "ACTIVE COMPLETED INVALID PENDING RESERVATION",
    "CdrDimensionType": "CURRENT ENERGY ENERGY_EXPORT ENERGY_IMPORT MAX_CURRENT MIN_CURRENT MAX_POWER MIN_POWER"
    " PARKING_TIME POWER RESERVATION_TIME STATE_OF_CHARGE TIME",
    "TariffType": "AD_HOC_PAYMENT PROFILE_CHEAP PROFILE_FAST PROFILE_GREEN REGULAR",
    "ReservationRestrictionType": "RESERVATION RESERVATION_EXPIRES",
    "TokenType": "AD_HOC_USER APP_USER OTHER RFID",
    "ParkingType": "ALONG_MOTORWAY PARKING_GARAGE PARKING_LOT ON_DRIVEWAY ON_STREET UNDERGROUND_GARAGE",
    "Facility": _OLD["Facility"] + " BIKE_SHARING TRAM_STOP METRO_STATION PARKING_LOT",
    "Capability": _OLD["Capability"] + " CHARGING_PREFERENCES_CAPABLE CHIP_CARD_SUPPORT CONTACTLESS_CARD_SUPPORT"
    " DEBIT_CARD_PAYABLE PED_TERMINAL START_SESSION_CONNECTOR_REQUIRED TOKEN_GROUP_CAPABLE",
    "ConnectorType": _OLD["ConnectorType"]
    + " CHAOJI DOMESTIC_M DOMESTIC_N DOMESTIC_O GBT_AC GBT_DC NEMA_5_20 NEMA_6_30"
    " NEMA_6_50 NEMA_10_30 NEMA_10_50 NEMA_14_30 NEMA_14_50 PANTOGRAPH_BOTTOM_UP PANTOGRAPH_TOP_DOWN",
    "PowerType": "AC_1_PHASE AC_2_PHASE AC_2_PHASE_SPLIT AC_3_PHASE DC",
    "ParkingRestriction": _OLD["ParkingRestriction"],
}
_NEWEST = {
    "Location": _NEW["Location"] + " help_phone parking_places:Parking",
    "Parking": "id! physical_reference vehicle_types!=VehicleType max_vehicle_weight max_vehicle_height"
    " max_vehicle_length max_vehicle_width parking_space_length parking_space_width dangerous_goods_allowed"
    " direction=ParkingDirection drive_through restricted_to_type! reservation_required! time_limit roofed images:Image"
    " lighting refrigeration_outlet standards apds_reference",
    "Evse": _NEW["Evse"] + " parking:EvseParking accepted_service_providers",
    "EvseParking": "parking_id! evse_position=EvsePosition",
    "Connector": _NEW["Connector"] + " capabilities=ConnectorCapability",
    "Tariff": _NEW["Tariff"] + " tax_included!=TaxIncluded",
    "Session": _NEW["Session"].replace(":Price", ":Cost"),
    "CDR": _NEW["CDR"].replace(":Price", ":Cost"),
    "Cost": "before_taxes! taxes:TaxAmount",
    "TaxAmount": "name! account_number percentage amount!",
    "Price": "before_taxes! after_taxes",
    "TaxIncluded": "YES NO N/A",
    "ConnectorType": _NEW["ConnectorType"] + " MCS SAE_J3400",
    "ConnectorCapability": "ISO_15118_2_PLUG_AND_CHARGE ISO_15118_20_PLUG_AND_CHARGE",
    "ParkingRestriction": _NEW["ParkingRestriction"] + " EMPLOYEES TAXIS TENANTS",
    "ParkingDirection": "PARALLEL PERPENDICULAR ANGLE",
    "EvsePosition": "LEFT RIGHT CENTER",
    "TokenType": _NEW["TokenType"] + " EMAID",
    "VehicleType": "MOTORCYCLE PERSONAL_VEHICLE PERSONAL_VEHICLE_WITH_TRAILER VAN SEMI_TRACTOR RIGID TRUCK_WITH_TRAILER"
    " BUS DISABLED",
}
SCHEMAS: dict[str, dict[str, str]] = {
    "2.1.1": _ENUMS | _CLASSES | _OLD,
    "2.2.1": _ENUMS | _CLASSES | _NEW,
    "2.3.0": _ENUMS | _CLASSES | _NEW | _NEWEST,
}


def complaints(version: str, kind: str, value: Any, pointer: str = "") -> Iterator[str]:
    """What a party of that version would refuse in an object of the class."""
    schema = SCHEMAS[version]
    members = {}
    for text in schema[kind].split():
        name, _, inner = text.replace("=", ":=").partition(":")
        members[name.removesuffix("!")] = inner, name.endswith("!")
    yield from (f"{pointer}/{name} is missing" for name, (_, needed) in members.items() if needed and name not in value)
    for name, item in value.items():
        if name not in members:
            yield f"{pointer}/{name} is not known"
            continue
        inner = members[name][0]
        for each in item if isinstance(item, list) else [item]:
            if inner.startswith("="):
                if each not in schema[inner[1:]].split():
                    yield f"{pointer}/{name} has no value {each}"
            elif inner:
                yield from complaints(version, inner, each, f"{pointer}/{name}")
