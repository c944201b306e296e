"""What AMPECO's error bodies say."""

from typing import Any

import pytest

from service.bridge.ports import Refusal
from service.errors import FieldViolation
from service.partners.ampeco import mapping as ampeco


@pytest.mark.parametrize(
    ("body", "message", "violations"),
    [
        (b'{"message": "Unauthenticated."}', "Unauthenticated.", {}),
        (
            b'{"message": "Bad.", "errors": {"a.b.0": ["No.", "Really."], "c/d": []}}',
            "Bad.",
            {"/a/b/0": "No.", "/c~1d": ""},
        ),
        (b'{"errors": {"a": "No.", "b": {}, "c": [1]}}', "", {"/a": "No.", "/b": "", "/c": ""}),
        (b'{"message": {}, "errors": ["a"]}', "", {}),
        (b'{"message": "x", "errors": []}', "x", {}),
        (b'\xef\xbb\xbf{"message": "x", "at": NaN}', "x", {}),
        (b"[]", "", {}),
        (b"null", "", {}),
        (b"", "", {}),
        (b"<html>", "", {}),
        (b"\xff", "", {}),
        (b"[" * 100_000, "", {}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_an_error_body_is_explained(body: bytes, message: str, violations: dict[str, Any]) -> None:
    found = tuple(FieldViolation(path, text) for path, text in violations.items())
    assert ampeco.explain(422, body) == Refusal(message=message, violations=found)
