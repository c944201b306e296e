"""JSON text: what is parsed quickly is what the standard library parses, and is written as it was."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.bridge.json_text import CodecError, Number, parse_json, text_of

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """JSON, or what is left of it when something is put where it does not belong."""
    text = json.dumps(draw(values), ensure_ascii=draw(st.booleans()))
    place = draw(st.integers(0, len(text)))
    return (
        text[:place]
        + draw(st.sampled_from(["", "", "1", "01", ".", "e5", '"', ",", "]", "\\", "NaN", "\n", "\0"]))
        + text[place:]
    )


def strictly(text: str) -> Any:
    def refuse(_: str) -> Any:
        raise ValueError

    return json.loads(text, parse_float=Number, parse_constant=refuse)


@given(texts())
@example('"\\ud800"')
@example('{"a": 1, "a": 1.10}')
@example("9" * 5000)
@example("[" * 3000)
def test_a_text_is_read_as_the_standard_library_reads_it(text: str) -> None:
    try:
        expected = strictly(text)
    except (ValueError, RecursionError):
        expected = CodecError
    try:
        parsed = parse_json(text)
    except CodecError:
        parsed = CodecError
    assert parsed == expected
    assert repr(parsed) == repr(expected), "1 and 1.0, or 1.1 and 1.10, are different texts"


@given(values)
@example(["\ud800", "\u00e4", "\U0001f600", "\0", {"\ud800": 10**30}])
@example("9" * 300)
def test_what_was_parsed_is_written_in_ascii_with_the_same_digits(value: Any) -> None:
    parsed = parse_json(json.dumps(value))
    written = text_of(parsed)
    assert written.isascii()
    assert repr(parse_json(written)) == repr(parsed)


@pytest.mark.parametrize("digits", ["0.10", "1e400", "-1.5E+3", "123456789012345678901234567890.50"])
def test_a_number_keeps_its_digits(digits: str) -> None:
    assert text_of(parse_json(f'{{"price":{digits}}}')) == f'{{"price":{digits}}}'
