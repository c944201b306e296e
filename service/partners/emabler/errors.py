"""How eMabler's errors read."""

from typing import Final

from service.bridge.ports import Refusal

_CODES: Final = {
    b"Something went wrong": "SOMETHING_WENT_WRONG",
    b"Not authorised": "NOT_AUTHORISED",
    b"Customer not found": "CUSTOMER_NOT_FOUND",
}


def explain(status: int, body: bytes) -> Refusal:
    """An error is a line of plain text: a documented one becomes a code, none is passed on. Never raises."""
    return Refusal(_CODES.get(body.strip(b' \r\n"'), ""))
