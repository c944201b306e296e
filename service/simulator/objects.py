"""What a simulated partner holds: JSON objects by the path they are served under, within bounds."""

import json
from collections.abc import Iterator, MutableMapping
from typing import Any, Final

from service.bridge.edge import Refused

Object = dict[str, Any]

MAX_OBJECTS: Final = 50_000
MAX_BYTES: Final = 64 * 1024 * 1024


class Objects(MutableMapping[str, Object]):
    """Objects in the order they were made. What is read is a copy.

    A write beyond the bounds raises Refused with 507.
    """

    def __init__(self) -> None:
        self._texts: dict[str, bytes] = {}
        self._size = 0

    def __getitem__(self, path: str) -> Object:
        held: Object = json.loads(self._texts[path])
        return held

    def __setitem__(self, path: str, value: Object) -> None:
        text = json.dumps(value).encode()
        size = self._size + len(text) - len(self._texts.get(path, b""))
        if size > MAX_BYTES or (len(self._texts) >= MAX_OBJECTS and path not in self._texts):
            raise Refused(507)
        self._texts[path], self._size = text, size

    def __delitem__(self, path: str) -> None:
        self._size -= len(self._texts.pop(path))

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def below(self, path: str) -> Iterator[Object]:
        """The items of a collection."""
        return (self[each] for each in list(self._texts) if each.rpartition("/")[0] == path)
