"""A Chargeprice for the demo and the tests: companies with lock versions, JSON:API pages and errors.

Built from the seed document's PUT and the public docs' list and delete.
"""

import json
import time
from collections.abc import Iterator, MutableMapping
from typing import Any

from evbridge.partner.chargeprice.v1 import company_pb2 as chargeprice
from google.protobuf.message import Message

from service.bridge.codec import compile_codec
from service.bridge.edge import Call, Refused
from service.bridge.registry import Operation, Registry
from service.simulator import simulator
from service.simulator.objects import Object, Objects

_PATH = "/v1/companies"
_MAX_HISTORY = 100_000
_codec = compile_codec(chargeprice.CompanyResource.DESCRIPTOR, field_names=True)


class _Companies(MutableMapping[str, chargeprice.CompanyResource]):
    """The companies among the objects, by id."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def __getitem__(self, company_id: str) -> chargeprice.CompanyResource:
        company: chargeprice.CompanyResource = _codec.decode(json.dumps(self._objects[f"{_PATH}/{company_id}"])).message
        return company

    def __setitem__(self, company_id: str, company: chargeprice.CompanyResource) -> None:
        self._objects[f"{_PATH}/{company_id}"] = json.loads(_codec.encode(company))

    def __delitem__(self, company_id: str) -> None:
        del self._objects[f"{_PATH}/{company_id}"]

    def __iter__(self) -> Iterator[str]:
        return (path.rpartition("/")[2] for path in self._objects)

    def __len__(self) -> int:
        return len(self._objects)


class Simulator(simulator.Simulator):
    """`companies` are what it holds by id; `history` has the last (id, version) it stored, in order; `with_tariffs` are
    the ids of those it refuses to delete, `broken` those of which each PUT is answered with the status named.
    """

    unauthenticated_status = 403

    def __init__(self, *, api_key: str) -> None:
        super().__init__(Registry.of([chargeprice.DESCRIPTOR]).operations.values(), api_key=api_key)
        self.companies = _Companies(self.objects)
        self.history: list[tuple[str, int]] = []
        self.with_tariffs: set[str] = set()
        self.broken: dict[str, int] = {}

    def edit(self, company_id: str, **attributes: str | bool) -> None:
        """Someone else's change: sets attributes and raises the lock version."""
        company = self.objects[f"{_PATH}/{company_id}"]
        version = company["attributes"]["version"] + 1
        changed = company["attributes"] | attributes | {"version": version}
        self.objects[f"{_PATH}/{company_id}"] = self._stored(company, company | {"attributes": changed})

    def check(self, operation: Operation, request: Message) -> None:
        if isinstance(request, chargeprice.UpsertCompanyRequest):
            if status := self.broken.get(request.company_id):
                raise Refused(status)
            sent = request.document.data
            given = {field.name for field, _ in sent.attributes.ListFields()}
            if (
                sent.id != request.company_id
                or sent.type != "company"
                or not given >= {"name", "version", "is_cpo", "is_emp", "external_source_mapping"}
                or not sent.relationships.HasField("supported_emps")
            ):
                raise Refused(400)

    def written(self, operation: Operation, request: Message, before: Object | None, sent: Object) -> Object:
        if sent["attributes"]["version"] != (before["attributes"]["version"] + 1 if before else 1):
            raise Refused(409)
        for group in ("cpo_group", "emp_group"):
            if before and group in before.get("relationships", {}):
                sent["relationships"].setdefault(group, before["relationships"][group])
        return self._stored(before, sent)

    def _stored(self, before: Object | None, company: Object) -> Object:
        now_ms = time.time_ns() // 1_000_000
        company["attributes"]["created_at"] = before["attributes"].get("created_at", now_ms) if before else now_ms
        company["attributes"]["updated_at"] = now_ms
        self.history.append((company["id"], company["attributes"]["version"]))
        del self.history[:-_MAX_HISTORY]
        return company

    def removed(self, path: str) -> None:
        if path.rpartition("/")[2] in self.with_tariffs:
            raise Refused(400)

    def page(self, operation: Operation, request: Any, found: Iterator[Object], call: Call) -> Any:
        def fits(company: Object) -> bool:
            attributes = company["attributes"]
            return (
                (not request.HasField("filter_id") or company["id"] in request.filter_id.split(","))
                and (not request.HasField("filter_is_cpo") or attributes.get("is_cpo", False) == request.filter_is_cpo)
                and (not request.HasField("filter_is_emp") or attributes.get("is_emp", False) == request.filter_is_emp)
                and request.q.casefold() in attributes.get("name", "").casefold()
            )

        companies = list(filter(fits, found))
        size = min(request.page_size or 100, 100)
        first = size * ((request.page_number or 1) - 1)
        if size < 1 or first < 0:
            raise Refused(400)
        return {"data": companies[first : first + size], "meta": {"overall_count": len(companies)}}

    def error_body(self, refused: Refused) -> bytes:
        code, title = _ERRORS.get(refused.status, (refused.code, "some error"))
        return json.dumps({"errors": [{"status": str(refused.status), "code": code, "title": title}]}).encode()


_ERRORS = {403: ("FORBIDDEN", "api_key missing"), 409: ("VERSION_CONFLICT", "Version conflict")}
