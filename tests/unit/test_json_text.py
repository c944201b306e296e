"""JSON text: what is parsed quickly is what the standard library parses."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from service.bridge.json_text import CodecError, Number, parse_json

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
