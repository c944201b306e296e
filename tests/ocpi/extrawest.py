"""An operator made with the package extrawest_ocpi, run by an environment of its own: `python extrawest.py TOKEN`.

Serves the examples of 2.2.1, or the locations of the file that is named behind the token, on a port of the system's
choice, and prints the URL of its versions.
"""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

TOKEN = sys.argv[1]
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen()
host = f"127.0.0.1:{listening.getsockname()[1]}"
os.environ |= {"OCPI_HOST": host, "PROTOCOL": "http", "ENVIRONMENT": "testing"}

import uvicorn  # noqa: E402
from py_ocpi.core.authentication.authenticator import Authenticator  # noqa: E402
from py_ocpi.core.crud import Crud  # noqa: E402
from py_ocpi.core.enums import ModuleID, RoleEnum  # noqa: E402
from py_ocpi.main import get_application  # noqa: E402
from py_ocpi.modules.versions.enums import VersionNumber  # noqa: E402


def example(kind: str, number: int) -> dict[str, Any]:
    """Without `energy_mix` and `status_schedule`, whose sound forms the package does not take."""
    text = (Path(__file__).parent / "examples" / f"{kind}_2.2.1.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    found |= {"id": f"{kind}-{number}", "last_updated": f"2026-03-0{number + 1}T08:00:00Z"}
    found.pop("energy_mix", None)
    for evse in found.get("evses", ()):
        evse.pop("status_schedule", None)
    return found


OBJECTS = {f"{kind}s": [example(kind, number) for number in range(5)] for kind in ("location", "tariff")}
if len(sys.argv) > 2:
    OBJECTS["locations"] = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))


class Tokens(Authenticator):
    @classmethod
    async def get_valid_token_c(cls) -> list[str]:
        return [TOKEN]

    @classmethod
    async def get_valid_token_a(cls) -> list[str]:
        return []


class Objects(Crud):
    @classmethod
    async def get(cls, module: Any, role: Any, id: Any, *_: Any, **__: Any) -> Any:
        return next((each for each in OBJECTS[module.value] if each["id"] == id), None)

    @classmethod
    async def list(cls, module: Any, role: Any, filters: dict[str, Any], *_: Any, **__: Any) -> Any:
        bounds = [
            f"{time:%Y-%m-%dT%H:%M:%SZ}" if (time := filters[name]) else otherwise
            for name, otherwise in (("date_from", ""), ("date_to", "9"))
        ]
        found = [each for each in OBJECTS[module.value] if bounds[0] <= each["last_updated"] < bounds[1]]
        start, end = filters["offset"], filters["offset"] + filters["limit"]
        return found[start:end], len(found), end >= len(found)


modules = [ModuleID.credentials_and_registration, ModuleID.locations, ModuleID.tariffs]
app = get_application([VersionNumber.v_2_2_1, VersionNumber.v_2_1_1], [RoleEnum.cpo], Objects, modules, Tokens)
sys.stdout.write(f"http://{host}/ocpi/versions\n")
sys.stdout.flush()
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])
