"""AMPECO: its errors. The contract says the rest."""

from typing import Any

from service.bridge.ports import Refusal
from service.bridge.values import CodecError, parse_json
from service.errors import FieldViolation


def explain(status: int, body: bytes) -> Refusal:
    """The message and, of a 422, the first complaint about each field. Never raises."""
    try:
        document = parse_json(body)
    except CodecError:
        return Refusal()
    told = document if isinstance(document, dict) else {}
    complaints = told.get("errors")
    return Refusal(
        message=_text(told.get("message")),
        violations=tuple(
            FieldViolation("/" + str(field).replace("~", "~0").replace("/", "~1").replace(".", "/"), _text(texts))
            for field, texts in (complaints.items() if isinstance(complaints, dict) else ())
        ),
    )


def _text(value: Any) -> str:
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, str) else ""
