"""`evbridge quote`, run as a person runs it, with OCPI objects as others write them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.front_door import Ended, command, environment

EXAMPLES = Path(__file__).parents[2] / "examples"
TARIFF = {
    "id": "12",
    "currency": "EUR",
    "elements": [{"price_components": [{"type": "TIME", "price": 2.00, "step_size": 300}]}],
    "last_updated": "2015-02-02T14:15:01Z",
}
CDR = {
    "id": "12345",
    "start_date_time": "2015-06-29T21:39:09",
    "stop_date_time": "2015-06-29T23:37:32",
    "auth_id": "DE8ACC12E46L89",
    "currency": "EUR",
    "tariffs": [TARIFF],
    "charging_periods": [{"start_date_time": "2015-06-29T21:39:09", "dimensions": [{"type": "TIME", "volume": 1.973}]}],
    "total_cost": 4.00,
    "total_energy": 15.342,
    "total_time": 1.973,
}
TABLE = """\
Tariff 12 of ZZ*ZZZ; 2015-06-29 23:39:09 to 2015-06-30 01:37:32, Europe/Brussels

               from                 to                   consumed   billed  price  excl. VAT   VAT  incl. VAT  because
Charging time  2015-06-29 23:39:09  2015-06-30 01:37:32   1:58:23  2:00:00    2/h       4.00  none       4.00  no condition; billed in steps of 0:05:00
Total                                                                               4.00 EUR         4.00 EUR
"""  # noqa: E501
NIGHT = {
    "id": "N",
    "currency": "EUR",
    "elements": [
        {
            "price_components": [{"type": "ENERGY", "price": 0.20, "vat": 19, "step_size": 1}],
            "restrictions": {"start_time": "22:00", "end_time": "06:00", "day_of_week": ["SATURDAY", "SUNDAY"]},
        },
        {
            "price_components": [{"type": "PARKING_TIME", "price": 6, "vat": 19, "step_size": 300}],
            "restrictions": {"max_duration": 15600},
        },
    ],
    "max_price": {"excl_vat": 5.00},
    "last_updated": "2015-02-02T14:15:01Z",
}
STAY = {
    "plan": {"start_date_time": "2026-10-25T00:30:00Z", "energy": 20, "charging_s": 14400, "parking_s": 1800},
    "options": {"time_zone": "Europe/Berlin"},
}
INVOICE = """\
Tariff N of ZZ*ZZZ; 2026-10-25 02:30:00 to 2026-10-25 06:00:00, Europe/Berlin

              from           to             consumed   billed    price  excl. VAT   VAT  incl. VAT  because
Energy        02:30:00+0200  05:30:00+0100    20 kWh   20 kWh  0.2/kWh       4.00  19 %       4.76  from 22:00 to 06:00 local time; on Saturday and Sunday
Parking time  05:30:00+0100  05:50:00+0100   0:20:00  0:20:00      6/h       2.00  19 %       2.38  duration below 260 min
Total                                                                    5.00 EUR         5.95 EUR
- the maximum price lowers the total without VAT from 6 to 5
- the maximum price lowers the total with VAT from 7.14 to 5.95
- not priced by this tariff: charging time 4:00:00
- not charged: parking time 0:10:00 from 05:50:00+0100 to 06:00:00+0100: none of the tariff's prices for it applies then
- max_price says no amount with VAT: 5.95 follows from the session's VAT of 19 %
"""  # noqa: E501


async def quote(folder: Path, tariff: Any, session: Any, *arguments: str) -> Ended:
    for name, content in (("tariff.json", tariff), ("session.json", session)):
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return await command(
        environment(""), "quote", str(folder / "tariff.json"), str(folder / "session.json"), *arguments
    )


async def test_a_cdr_of_2_1_1_is_priced_as_a_table_and_for_machines(tmp_path: Path) -> None:
    printed = await quote(tmp_path, TARIFF, CDR, "--time-zone", "Europe/Brussels", "--decimals", "2")
    assert (printed.code, printed.err) == (0, "")
    assert printed.out == TABLE
    answer = json.loads((await quote(tmp_path, TARIFF, CDR, "--time-zone", "Europe/Brussels", "--json")).out)
    assert answer["total_cost"] == {"excl_vat": 4}
    assert answer["lines"][0]["billed_quantity"] == 7200


async def test_a_table_reads_like_an_invoice(tmp_path: Path) -> None:
    assert (await quote(tmp_path, NIGHT, STAY, "--decimals", "2")).out == INVOICE


@pytest.mark.parametrize(
    ("tariff", "session", "complaint"),
    [
        ("{", CDR, "tariff.json: the file is not JSON"),
        ("", CDR, "tariff.json: the file is empty"),
        (TARIFF, "{", "session.json: the file is not JSON"),
        ("[]", CDR, "tariff.json: the file must be an object"),
        ([TARIFF, TARIFF], CDR, "tariff.json: the file is a list of 2 objects"),
        ({**TARIFF, "elements": []}, CDR, "tariff.json: /elements"),
        (
            {**TARIFF, "elements": [{"price_components": [{"type": "SUN"}]}]},
            CDR,
            "tariff.json: /elements/0/price_components/0/type",
        ),
        (TARIFF, {**CDR, "options": 5}, "session.json: /options must be an object"),
        (TARIFF, {"options": {"time_zone": "UTC"}}, "session.json: "),
        (TARIFF, {"plan": {"energi": 5}}, "session.json: /plan/energi is not known"),
        (TARIFF, {**CDR, "options": {"time_zone": "Nowhere"}}, "the location's time zone"),
        (TARIFF, CDR, "the location's time zone"),
    ],
)
async def test_what_cannot_be_read_is_said_in_a_line(tmp_path: Path, tariff: Any, session: Any, complaint: str) -> None:
    ended = await quote(tmp_path, tariff, session)
    assert ended.code == 1
    assert complaint in ended.err
    assert len(ended.err.splitlines()) == 1


async def test_a_file_that_is_not_there_is_named_with_what_is_wanted(tmp_path: Path) -> None:
    session = tmp_path / "session.json"
    session.write_text(json.dumps(CDR))
    for files, wanted in [
        (("none.json", str(session)), "give a file with an OCPI Tariff object, such as examples/tariff.json"),
        ((str(tmp_path),), "give a file with an OCPI CDR or Session object or a plan, such as examples/cdr.json"),
    ]:
        ended = await command(environment(""), "quote", *files)
        assert (ended.code, ended.out) == (1, "")
        assert ended.err.startswith(f"evbridge: {files[0]} cannot be read (")
        assert ended.err.endswith(f"): {wanted}\n")


@pytest.mark.parametrize("session", ["plan.json", "cdr.json"])
async def test_the_examples_are_priced_and_the_help_names_them(session: str) -> None:
    asked = await command(environment(""), "quote", "--help")
    assert f"examples/{session}" in asked.out
    files = (str(EXAMPLES / name) for name in ("tariff.json", session))
    printed = await command(
        environment(""), "quote", *files, "--time-zone", "Europe/Berlin", "--decimals", "2", "--json"
    )
    assert printed.code == 0, printed.err
    said = json.loads((EXAMPLES / session).read_text()).get("total_cost")
    assert json.loads(printed.out)["total_cost"] == (said or {"excl_vat": 6.5, "incl_vat": 7.74})


@pytest.mark.parametrize("session", ["plan.json", "cdr.json"])
async def test_a_missing_time_zone_names_the_option(session: str) -> None:
    ended = await command(environment(""), "quote", str(EXAMPLES / "tariff.json"), str(EXAMPLES / session))
    assert ended.err == "evbridge: the location's time zone is required, for example --time-zone Europe/Berlin\n"
