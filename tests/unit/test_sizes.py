"""How much a request may hold, judged from its bytes."""

import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from evbridge.v1.location_pb2 import (
    BatchGetLocationsRequest,
    BatchUpsertLocationsRequest,
    CreateLocationRequest,
    ReportEvseStatusRequest,
)
from evbridge.v1.tariff_pb2 import CreateTariffRequest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from service.domain import sizes as limits
from service.domain.sizes import MAX_BYTES, SMALL_BYTES, inflated, sizes
from service.domain.validation import MAX_VIOLATIONS, validate, violations
from service.errors import InvalidArgument, MalformedRequest, RequestTooLarge
from tests.filling import filled
from tests.rpc.test_access import METHODS

REQUESTS = {method.input_type.full_name: method.input_type for method in METHODS}


def gzipped(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*out, value))


def padded(data: bytes) -> bytes:
    """The same message, in as many bytes as are judged: what is added is a field that no contract has."""
    return data + b"\xfa\x7f\xff\x1f" + bytes(SMALL_BYTES - 1)


def refusal(judge: Callable[[bytes], None], data: bytes) -> InvalidArgument:
    with pytest.raises(InvalidArgument) as refused:
        judge(data)
    return refused.value


@pytest.mark.parametrize(
    ("request_type", "data", "message"),
    [
        (BatchGetLocationsRequest, b"\x0a\x00" * 100_000, "keys: takes at most 500 items"),
        (ReportEvseStatusRequest, b"\x0a\x00" * 400_000, "reports: takes at most 1000 items"),
        (
            BatchUpsertLocationsRequest,
            BatchUpsertLocationsRequest(
                locations=[{}, {"evses": [{}, {"connectors": [{}] * 5000}]}]
            ).SerializeToString(),
            "locations[1].evses[1].connectors: takes at most 20 items",
        ),
        (
            CreateLocationRequest,
            CreateLocationRequest(location={"publish": True, "evses": [{}] * 80_000}).SerializeToString(),
            "location.evses: takes at most 1000 items",
        ),
        (
            CreateTariffRequest,
            CreateTariffRequest(
                tariff={"elements": [{"price_components": [{"price": {"value": "9" * 3_900_000}}]}]}
            ).SerializeToString(),
            "tariff.elements[0].price_components[0].price.value: takes at most 100 bytes",
        ),
        (
            CreateLocationRequest,
            CreateLocationRequest(location={"name": "n" * 100_000}).SerializeToString(),
            "location.name: takes at most 1020 bytes",
        ),
    ],
    ids=["empty keys", "empty reports", "deep", "evses", "digits", "text"],
)
def test_what_is_too_much_is_named(request_type: type[Message], data: bytes, message: str) -> None:
    assert refusal(sizes(request_type.DESCRIPTOR), data).message == message


LISTS = [
    (descriptor, field)
    for descriptor in REQUESTS.values()
    for field in descriptor.fields
    if field.is_repeated and not (field.message_type and field.message_type.GetOptions().map_entry)
]


@pytest.mark.parametrize(("descriptor", "field"), LISTS, ids=[field.full_name for _, field in LISTS])
def test_a_list_of_every_request_ends_where_its_contract_says(descriptor: Any, field: FieldDescriptor) -> None:
    rule = field.GetOptions().Extensions[limits.rules.field].repeated
    most = rule.max_items or limits.MAX_ITEMS
    is_number = field.message_type is None and field.type not in (
        FieldDescriptor.TYPE_STRING,
        FieldDescriptor.TYPE_BYTES,
    )
    item = varint(field.number << 3) + b"\1" if is_number else varint(field.number << 3 | 2) + b"\0"
    judge = sizes(descriptor)
    judge(padded(item * most))
    assert refusal(judge, padded(item * (most + 1))).violations[0].path == field.name


def test_a_packed_list_counts_its_items() -> None:
    judge = sizes(GetMessageClass(limits.rules.DESCRIPTOR.message_types_by_name["Int32Rules"]).DESCRIPTOR)  # `in`: 6
    many = limits.MAX_ITEMS + 1
    numbers = b"\x81\x01" * many
    refused = refusal(judge, padded(b"\x32" + varint(len(numbers)) + numbers))
    assert refused.message == f"in: takes at most {limits.MAX_ITEMS} items"


@given(st.data())
def test_no_request_of_a_caller_with_manners_is_refused(data: st.DataObject) -> None:
    descriptor = data.draw(st.sampled_from(list(REQUESTS.values())))
    request = data.draw(filled(GetMessageClass(descriptor)))
    sizes(descriptor)(padded(request.SerializeToString()))


@given(st.data())
def test_what_it_calls_no_message_no_parser_takes(data: st.DataObject) -> None:
    descriptor = data.draw(st.sampled_from(list(REQUESTS.values())))
    request_type = GetMessageClass(descriptor)
    whole = bytearray(data.draw(filled(request_type)).SerializeToString() or b"\x0a\x00")
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=4)):
        whole[at] = byte
    wild = padded(bytes(whole))
    try:
        sizes(descriptor)(wild)
    except MalformedRequest:
        with pytest.raises((DecodeError, RecursionError)):
            request_type.FromString(wild)
    except InvalidArgument:
        pass


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_a_gzip_bomb_takes_no_more_than_a_request() -> None:
    bomb = gzipped(bytes(64 << 20))

    def refused() -> None:
        with pytest.raises(RequestTooLarge) as error:
            inflated(bomb)
        assert error.value.metadata == {"limit_bytes": str(MAX_BYTES)}

    assert peak_bytes(refused) < 4 * MAX_BYTES
    assert peak_bytes(lambda: zlib.decompress(bomb, wbits=31)) >= 64 << 20


@pytest.mark.parametrize("data", [b"", b"a", b"ab" * 9000])
def test_gzip_is_read(data: bytes) -> None:
    assert inflated(gzipped(data)) == data


@pytest.mark.parametrize("broken", [b"\x1f\x8b", b"\x1f\x8bxxxxxxxxxxxx", gzipped(b"whole" * 100)[:-9]])
def test_gzip_that_is_broken_is_malformed(broken: bytes) -> None:
    with pytest.raises(MalformedRequest):
        inflated(broken)


def test_twenty_violations_are_enough() -> None:
    wrong = BatchGetLocationsRequest(keys=[{"country_code": "?"}] * 400)
    with pytest.raises(InvalidArgument) as refused:
        validate(wrong)
    assert len(refused.value.violations) == MAX_VIOLATIONS < len(violations(wrong))
    assert refused.value.violations[0].path == "keys[0].country_code"

    right_but_one = BatchGetLocationsRequest(
        keys=[{"country_code": "DE", "party_id": "ABC", "id": f"L{number}"} for number in range(400)]
    )
    validate(right_but_one)
    right_but_one.keys[300].id = ""
    with pytest.raises(InvalidArgument) as refused:
        validate(right_but_one)
    assert [each.path for each in refused.value.violations] == ["keys[300].id"], "none is lost behind the first items"
