"""`evbridge import` and `evbridge export`: OCPI objects in files become ours, and ours become files."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from decimal import Decimal
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from evbridge.v1.location_pb2 import GetLocationRequest, ListLocationsRequest, Location, LocationKey
from evbridge.v1.party_pb2 import GetPartyRequest
from evbridge.v1.tariff_pb2 import ListTariffsRequest

from tests.conftest import Tenant
from tests.front_door import Ended, command, environment
from tests.ocpi_schema import complaints

EXAMPLES = Path(__file__).parents[1] / "ocpi" / "examples"
EXACT: Any = {"parse_float": Decimal}
Run = Callable[..., Awaitable[Ended]]


def example(name: str, **changes: Any) -> Any:
    return json.loads((EXAMPLES / f"{name}.json").read_text()) | changes


@pytest.fixture
def evbridge(shared_database_url: str, tenant: Tenant, tmp_path: Path) -> Run:
    """The command, with the tenant's name; a list or an object among its arguments is put into a file."""

    async def run(*arguments: Any) -> Ended:
        given = []
        for position, argument in enumerate(arguments):
            if not isinstance(argument, str):
                (tmp_path / f"{position}.json").write_text(json.dumps(argument))
            given.append(argument if isinstance(argument, str) else str(tmp_path / f"{position}.json"))
        ended = await command(environment(shared_database_url), *given, "--tenant", tenant.name)
        return Ended(ended.code, ended.out, ended.err.replace(f"{tmp_path}/", ""))

    return run


async def locations(tenant: Tenant) -> list[Location]:
    return [*(await tenant.reader.locations.ListLocations(ListLocationsRequest())).locations]


async def test_a_dump_becomes_ours_and_comes_back_equal(evbridge: Run, tenant: Tenant) -> None:
    tariffs = [example("tariff_2.2.1"), example("tariff_2.2.1", id="night", type="PROFILE_CHEAP")]
    dump = [example("location_2.2.1"), *tariffs, example("location_2.2.1", id="quay")]
    ended = await evbridge("import", dump)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "new party: DE*ABC, as a CPO\nstored: 4 of 4 objects\n"
    assert [location.id for location in await locations(tenant)] == ["harbour", "quay"]
    party = await tenant.reader.parties.GetParty(GetPartyRequest(country_code="DE", party_id="ABC"))
    assert party.business_details.name
    for noun, sent in (("locations", [dump[0], dump[3]]), ("tariffs", tariffs)):
        ended = await evbridge("export", noun)
        assert (ended.code, ended.err) == (0, "")
        assert without_times(json.loads(ended.out, **EXACT)) == without_times(exact(sent))


def exact(value: Any) -> Any:
    return json.loads(json.dumps(value), **EXACT)


def without_times(value: Any) -> Any:
    """Ours say when we changed them."""
    if isinstance(value, dict):
        return {name: without_times(item) for name, item in value.items() if name != "last_updated"}
    return [without_times(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("version", ["2.1.1", "2.2.1", "2.3.0"])
async def test_each_version_is_read_and_written(evbridge: Run, tenant: Tenant, version: str) -> None:
    old = ("--party", "de*abc") if version == "2.1.1" else ()
    other = {} if version == "2.1.1" else {"type": "PROFILE_CHEAP"}
    tariffs = [example(f"tariff_{version}"), example(f"tariff_{version}", id="night", **other)]
    ended = await evbridge("import", {"data": [example(f"location_{version}"), *tariffs], "status_code": 1000}, *old)
    assert (ended.code, ended.err) == (0, "")
    for noun, kind in (("locations", "Location"), ("tariffs", "Tariff")):
        ended = await evbridge("export", noun, "--version", version)
        assert (ended.code, ended.err) == (0, "")
        (first, *_) = json.loads(ended.out)
        assert [*complaints(version, kind, first)] == []
        assert without_times(exact(first)) == without_times(exact(example(f"{kind.lower()}_{version}")))


async def test_a_reader_that_takes_no_more_hears_no_complaint(shared_database_url: str, tenant: Tenant) -> None:
    read, written = os.pipe()
    os.close(read)
    arguments = ("-m", "service", "export", "tariffs", "--tenant", tenant.name)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment(shared_database_url), stdout=written, stderr=asyncio.subprocess.PIPE
    )
    os.close(written)
    _, err = await process.communicate()
    assert (process.returncode, err) == (141, b"")


async def test_a_folder_of_wire_examples_is_stored_and_comes_back_equal(evbridge: Run, tenant: Tenant) -> None:
    """EVBRIDGE_OCPI_EXAMPLES names another one than ours, for example the specification's."""
    folder = Path(os.environ.get("EVBRIDGE_OCPI_EXAMPLES", EXAMPLES))
    names = ("location_example*.json", "location_2.2.1.json", "tariff*_*.json", "tariff_2.2.1.json")
    paths = sorted({path for name in names for path in folder.glob(name) if ".1.1" not in path.name})
    files = {str(path): json.loads(path.read_text(), **EXACT) for path in paths if "2.3.0" not in path.name}
    named = {
        (location["country_code"], location["party_id"], id)
        for location in files.values()
        for evse in location.get("evses", ())
        for connector in evse["connectors"]
        for id in connector.get("tariff_ids", ())
    }
    keys = ("country_code", "party_id", "id")
    named -= {tuple(sent[name] for name in keys) for sent in files.values()}
    types = cycle(["PROFILE_CHEAP", "PROFILE_FAST", "PROFILE_GREEN"])  # of one type, a connector has one
    others = [
        example("tariff_2.2.1", type=type, **dict(zip(keys, key, strict=True)))
        for key, type in zip(sorted(named), types, strict=False)
    ]
    assert (await evbridge("import", others)).code == 0
    assert len(files) > 1
    while files:
        once = {tuple(sent[name] for name in keys): path for path, sent in files.items()}
        ended = await evbridge("import", *once.values())
        assert (ended.code, ended.err) == (0, "")
        found = [await evbridge("export", noun) for noun in ("locations", "tariffs")]
        ours = {tuple(each[name] for name in keys): each for text in found for each in json.loads(text.out, **EXACT)}
        for key, path in once.items():
            assert without_times(ours[key]) == without_times(files.pop(path)), path


async def test_a_bad_object_costs_itself_alone_and_is_named_by_its_pointer(evbridge: Run, tenant: Tenant) -> None:
    location = example("location_2.2.1")
    unclear = example("tariff_2.2.1")
    unclear["elements"][0]["restrictions"]["max_speed"] = 3
    dump = [
        example("location_2.2.1", coordinates={"latitude": "53.543210"}),
        location,
        example("location_2.2.1", id="moon", time_zone="Luna/Tycho"),
        example("location_2.2.1"),
        "L7",
        unclear,
        example("location_2.1.1"),
        example("location_2.2.1", id="lit", colour="blue", postal_code="20457 Hamburg", evses=[]),
    ]
    ended = await evbridge("import", dump)
    assert ended.code == 1
    assert ended.out.endswith("stored: 2 of 8 objects\n")
    said = ended.err.splitlines()
    assert [line for line in said if line.startswith("refused: ")] == [
        "refused: 1.json#/0/coordinates/longitude is missing",
        "refused: 1.json#/2/time_zone must be the name of a time zone of the IANA database, such as Europe/Oslo",
        "refused: 1.json#/4 is no Location and no Tariff",
        "refused: 1.json#/5/elements/0/restrictions/max_speed can change a price and is not understood",
        "refused: 1.json#/6/country_code is missing: say whose it is, for example --party DE*ABC",
        "refused: 1.json#/3/id stands in the request twice",
    ]
    assert "1.json#/7/colour is not known" in said
    unknown = "is no tariff of the party, and left out: import its tariffs first"
    assert f"1.json#/1/evses/0/connectors/0/tariff_ids/1 {unknown}" in said
    assert [each.id for each in await locations(tenant)] == ["harbour", "lit"]


async def test_a_dry_run_says_the_same_and_stores_nothing(evbridge: Run, tenant: Tenant) -> None:
    dump = [example("location_2.2.1"), example("tariff_2.2.1"), example("location_2.2.1", id="x", country="Germany")]
    rehearsed = await evbridge("import", dump, "--dry-run")
    assert await locations(tenant) == []
    assert not (await tenant.reader.tariffs.ListTariffs(ListTariffsRequest())).tariffs
    ended = await evbridge("import", dump)
    assert (rehearsed.code, rehearsed.err) == (ended.code, ended.err)
    assert rehearsed.out == ended.out.replace("stored", "would be stored")


async def test_an_import_again_changes_nothing_and_another_changes_the_object(evbridge: Run, tenant: Tenant) -> None:
    sent = example("location_2.2.1", evses=[])
    assert (await evbridge("import", sent)).code == 0
    (before,) = await locations(tenant)
    assert (await evbridge("import", [sent])).code == 0
    assert await locations(tenant) == [before]
    assert (await evbridge("import", sent | {"name": "Kai"})).code == 0
    key = LocationKey(country_code="DE", party_id="ABC", id="harbour")
    after = await tenant.reader.locations.GetLocation(GetLocationRequest(key=key))
    assert (after.name, after.create_time) == ("Kai", before.create_time)


async def test_an_export_says_what_a_version_cannot(evbridge: Run, tenant: Tenant) -> None:
    dump = [
        example("location_2.3.0", evses=[], publish=False, id="hidden"),
        example("location_2.3.0", evses=[]),
        example("tariff_2.3.0"),
    ]
    assert (await evbridge("import", dump)).code == 0
    ended = await evbridge("export", "locations", "--version", "2.1.1")
    assert ended.code == 1
    assert [each["id"] for each in json.loads(ended.out)] == ["harbour"]
    assert "DE*ABC*harbour without state, facilities[1], help_phone, parking_places[0]" in ended.err
    assert "left out: DE*ABC*hidden: publish: is false, which OCPI 2.1.1 cannot say (publish)" in ended.err
    ended = await evbridge("export", "tariffs")
    assert (ended.code, json.loads(ended.out)) == (1, [])
    assert "left out: DE*ABC*day: the tariff would have other prices in OCPI 2.2.1: tax_included: " in ended.err


@pytest.mark.parametrize(("text", "problem"), [("", "is empty"), ("[1", "is not JSON in UTF-8 with finite numbers")])
async def test_a_file_that_is_no_json_is_named(database_url: str, tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "dump.json").write_text(text)
    ended = await command(environment(database_url), "import", str(tmp_path / "dump.json"))
    assert (ended.code, ended.err) == (1, f"evbridge: {tmp_path}/dump.json {problem}\n")


async def test_a_tenant_is_not_made_by_a_slip(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "dump.json").write_text("[]")
    ended = await command(environment(database_url), "import", str(tmp_path / "dump.json"), "--tenant", "nobody")
    assert (ended.code, ended.out) == (1, "")
    assert "keys create --tenant nobody" in ended.err
