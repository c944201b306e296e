"""A company made with extrawest_ocpi, which keeps what it is sent: `python extrawest_company.py ROLE TOKEN`.

It is DE*CPO or DE*MSP. What it has is read at /held, and put there; at /push it tells a partner of one of its objects.
"""

import os
import socket
import sys
from collections import defaultdict
from typing import Any

ROLE, TOKEN = sys.argv[1:3]
PARTY = {"country_code": "DE", "party_id": {"CPO": "CPO", "EMSP": "MSP"}[ROLE]}
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
host = f"127.0.0.1:{listening.getsockname()[1]}"
os.environ |= {"OCPI_HOST": host, "PROTOCOL": "http", "ENVIRONMENT": "testing"}
os.environ |= {"COUNTRY_CODE": PARTY["country_code"], "PARTY_ID": PARTY["party_id"]}

import uvicorn  # noqa: E402
from py_ocpi.core import push  # noqa: E402
from py_ocpi.core.authentication.authenticator import Authenticator  # noqa: E402
from py_ocpi.core.crud import Crud  # noqa: E402
from py_ocpi.core.endpoints import ENDPOINTS  # noqa: E402
from py_ocpi.core.endpoints.v_2_1_1.utils import cpo_generator as old_endpoint  # noqa: E402
from py_ocpi.core.endpoints.v_2_2_1.utils import cpo_generator as endpoint  # noqa: E402
from py_ocpi.core.enums import Action, ModuleID, RoleEnum  # noqa: E402
from py_ocpi.main import get_application  # noqa: E402
from py_ocpi.modules.cdrs.v_2_2_1.schemas import CdrLocation  # noqa: E402
from py_ocpi.modules.versions.enums import VersionNumber  # noqa: E402
from py_ocpi.modules.versions.v_2_2_1.enums import InterfaceRole  # noqa: E402
from pydantic import Extra  # noqa: E402

# Faults that would end the circle at its beginning, mended.
# An operator takes commands, and does not list their endpoint.
ENDPOINTS[VersionNumber.v_2_2_1][RoleEnum.cpo][ModuleID.commands] = endpoint.generate_endpoint(
    ModuleID.commands, InterfaceRole.receiver
)
ENDPOINTS[VersionNumber.v_2_1_1][RoleEnum.cpo][ModuleID.commands] = old_endpoint.generate_endpoint(ModuleID.commands)
# What is pushed goes to ".../sessionsDE/CPO/S1", unless the endpoint ends with a slash.
joined = push.client_url
push.client_url = lambda module, id, url: joined(module, id, url if module == ModuleID.cdrs else f"{url.rstrip('/')}/")
# Of a CDR's location it leaves out evse_uid, which OCPI requires: such a CDR we refuse.
CdrLocation.__config__.extra = Extra.allow

MODULES = (
    ModuleID.credentials_and_registration,
    ModuleID.locations,
    ModuleID.tariffs,
    ModuleID.tokens,
    ModuleID.sessions,
    ModuleID.commands,
    ModuleID.charging_profile,
    ModuleID.cdrs,
)
HELD: dict[str, dict[str, Any]] = defaultdict(dict)
PARTNER: dict[str, Any] = {}
OWN_TOKEN = "token-of-the-company"


class Tokens(Authenticator):
    @classmethod
    async def get_valid_token_c(cls) -> list[str]:
        return [OWN_TOKEN]

    @classmethod
    async def get_valid_token_a(cls) -> list[str]:
        return [TOKEN]


class Objects(Crud):
    @classmethod
    async def get(cls, module: Any, role: Any, id: Any, *_: Any, **__: Any) -> Any:
        if module in (ModuleID.commands, ModuleID.charging_profile) and not id:  # what the charger says in the end
            return {"result": "ACCEPTED"}
        return HELD[module.value].get(str(id).lower())

    @classmethod
    async def list(cls, module: Any, role: Any, filters: dict[str, Any], *_: Any, **__: Any) -> Any:
        found = [*HELD[module.value].values()]
        end = filters["offset"] + filters["limit"]
        return found[filters["offset"] : end], len(found), end >= len(found)

    @classmethod
    async def create(cls, module: Any, role: Any, data: Any, *_: Any, **more: Any) -> Any:
        if module == ModuleID.credentials_and_registration:
            PARTNER.update(data["credentials"])
            named = PARTY | {"business_details": {"name": "Extrawest"}}
            roles = {"roles": [named | {"role": ROLE}]} if more["version"] == VersionNumber.v_2_2_1 else named
            return roles | {"token": OWN_TOKEN, "url": f"http://{host}/ocpi/versions"}
        HELD[module.value][data.get("id", data.get("uid")).lower()] = data
        return data

    @classmethod
    async def update(cls, module: Any, role: Any, data: Any, id: Any, *_: Any, **__: Any) -> Any:
        HELD[module.value][str(id).lower()] = data
        return data

    @classmethod
    async def delete(cls, module: Any, role: Any, id: Any, *_: Any, **__: Any) -> None:
        HELD[module.value].pop(str(id).lower(), None)

    @classmethod
    async def do(cls, module: Any, role: Any, action: Any, data: Any = None, *_: Any, **more: Any) -> Any:
        if action == Action.get_client_token:
            return PARTNER["token"]
        if action == Action.authorize_token:
            token = HELD["tokens"][data["token_uid"].lower()]
            return {"allowed": "ALLOWED", "token": token, "location": data["location_reference"]}
        HELD[f"{module.value}/done"][more.get("command", action)] = data
        return {"result": "ACCEPTED", "timeout": 30}


versions = [VersionNumber.v_2_2_1, VersionNumber.v_2_1_1]
app = get_application(versions, [RoleEnum(ROLE)], Objects, MODULES, Tokens, http_push=True)


@app.get("/held")
async def held() -> dict[str, Any]:
    return {"partner": PARTNER, **HELD}


@app.put("/held/{module}/{id}")
async def hold(module: str, id: str, data: dict[str, Any]) -> None:
    HELD[module][id.lower()] = data


sys.stdout.write(f"http://{host}\n{OWN_TOKEN}\n")
sys.stdout.flush()
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])
