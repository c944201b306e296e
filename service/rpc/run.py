"""evbridge.v1.RunService."""

from datetime import datetime

from evbridge.v1.run_pb2 import (
    CancelRunRequest,
    GetRunRequest,
    ListRunFindingsRequest,
    ListRunsRequest,
    Run,
    StartRunRequest,
    WaitRunRequest,
)

from service.domain.caller import Caller, time_to_wait_s
from service.domain.pages import HIGHEST, list_response, number_before, page_size, uuid_before
from service.resources.mutation import mutate
from service.resources.run import Supported, run_begin
from service.storage.connection import Connection
from service.storage.integration import integration_lock
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.run import run_cancel, run_findings_page, run_get, run_page, run_wait


class RunService:
    """`supported`: which kinds of runs which types of integrations know."""

    def __init__(self, database: Database, keyring: Keyring, supported: Supported) -> None:
        self._database = database
        self._keyring = keyring
        self._supported = supported

    async def StartRun(self, request: StartRunRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Run:
            integration = await integration_lock(conn, caller.tenant_id, request.integration_id)
            sync_options = request.sync_options if request.HasField("sync_options") else None
            return await run_begin(conn, caller, integration, request.kind, self._supported, sync_options)

        return await mutate(self._database, self._keyring, request, caller, work)

    async def GetRun(self, request: GetRunRequest, caller: Caller) -> Run:
        return await run_get(self._database, caller.tenant_id, request.id)

    async def ListRuns(self, request: ListRunsRequest, caller: Caller) -> bytes:
        before, size = uuid_before(request, HIGHEST), page_size(request.page_size)
        rows = await run_page(self._database, caller.tenant_id, request, before, size + 1)
        return list_response(request, rows, size)

    async def ListRunFindings(self, request: ListRunFindingsRequest, caller: Caller) -> bytes:
        after, size = number_before(request), page_size(request.page_size)
        rows = await run_findings_page(self._database, caller.tenant_id, request, after, size + 1)
        return list_response(request, rows, size)

    async def CancelRun(self, request: CancelRunRequest, caller: Caller) -> bytes:
        async def work(conn: Connection, now: datetime) -> Run:
            return await run_cancel(conn, caller.tenant_id, request.id)

        return await mutate(self._database, self._keyring, request, caller, work)

    async def WaitRun(self, request: WaitRunRequest, caller: Caller) -> Run:
        limit_s = time_to_wait_s()
        if request.HasField("timeout"):
            limit_s = min(limit_s, request.timeout.seconds + request.timeout.nanos / 1e9)
        after = request.after_update_time if request.HasField("after_update_time") else None
        return await run_wait(self._database, caller.tenant_id, request.id, limit_s, after)
