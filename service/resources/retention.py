"""What is thrown away because it is old, of everything that grows."""

import logging

from service.resources.audit import audit_sweep
from service.resources.personal_data import personal_data_sweep
from service.settings import Settings
from service.storage.disclosure import disclosure_sweep
from service.storage.integration import secrets_rewrap
from service.storage.keyring import Keyring
from service.storage.pool import Database
from service.storage.retention import charged_sweep, retention_sweep, tariff_revisions_sweep

log = logging.getLogger(__name__)


async def sweep(store: Database, keys: Keyring, settings: Settings) -> bool:
    """Deletes what is past its time and seals what is under an old key. False, for nothing is left to do."""
    await disclosure_sweep(store, settings.disclosure_days)
    await retention_sweep(store, settings.retention_days)
    await tariff_revisions_sweep(store, settings.tariff_revision_days)
    await charged_sweep(store, settings.session_days, settings.cdr_days)
    await personal_data_sweep(store, keys, settings.personal_data_days)
    await audit_sweep(store, keys, settings.audit_days)
    if rewrapped := await secrets_rewrap(store, keys):
        log.info("sealed under the new key", extra={"secrets": rewrapped})
    return False
