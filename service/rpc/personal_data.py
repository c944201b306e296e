"""evbridge.v1.PersonalDataService."""

from functools import partial

from evbridge.v1.personal_data_pb2 import ErasePersonalDataRequest

from service.domain.caller import Caller
from service.resources.mutation import mutate_in_steps
from service.resources.personal_data import personal_data_erased
from service.storage.keyring import Keyring
from service.storage.pool import Database


class PersonalDataService:
    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def ErasePersonalData(self, request: ErasePersonalDataRequest, caller: Caller) -> bytes:
        erase = partial(personal_data_erased, self._database, self._keyring, request, caller)
        return await mutate_in_steps(self._database, self._keyring, request, caller, erase)
