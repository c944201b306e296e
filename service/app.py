"""The composition root: settings -> database -> channel -> server and workers. The only file that knows all."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from evbridge.options.v1 import options_pb2 as options
from evbridge.v1.integration_pb2 import INTEGRATION_TYPE_HTTP
from google.protobuf.descriptor import FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pool import Default

from service.bridge.channel import PartnerChannel
from service.bridge.egress import Egress, EgressPolicy
from service.bridge.oauth import OAuth
from service.bridge.ports import Recorder
from service.bridge.registry import Registry, contract_files
from service.bridge.tls import Certificate
from service.delivery.backlog import BacklogGauges
from service.delivery.results import Results
from service.delivery.worker import DeliveryWorker
from service.domain.delivery import RetryPolicy
from service.domain.secret import Secret
from service.identity.authentication import authenticating
from service.ocpi.endpoints import endpoints
from service.ocpi.listener import Listener, Webhook
from service.ocpi.tries import Tries
from service.partners import ampeco, chargeprice, emabler, ocpi, salesforce, utility_cloud
from service.partners.partner import Partner
from service.processes.pool import Processes
from service.processes.serving import ServingProcesses, reserved
from service.resources.audit import Sealer
from service.resources.question import Questions
from service.resources.registration import Door
from service.resources.retention import sweep
from service.resources.run import notified_due, syncs_due
from service.rpc.api_key import KeyService
from service.rpc.audit import AuditService
from service.rpc.authorization import AuthorizationService
from service.rpc.cdr import CdrService
from service.rpc.charger import ChargerService
from service.rpc.command import CommandService
from service.rpc.company import CompanyService
from service.rpc.contract import ContractService
from service.rpc.delivery import DeliveryService
from service.rpc.disclosure import DisclosureService
from service.rpc.hub_client import HubClientService
from service.rpc.integration import IntegrationService
from service.rpc.interceptors import Interceptors
from service.rpc.invoice_reconciliation import InvoiceReconciliationService
from service.rpc.location import LocationService
from service.rpc.partner import PartnerService
from service.rpc.party import PartyService
from service.rpc.personal_data import PersonalDataService
from service.rpc.pricing import PricingService
from service.rpc.publication import PublicationService
from service.rpc.quarantine import QuarantineService
from service.rpc.reconciliation import ReconciliationService
from service.rpc.registration import RegistrationService
from service.rpc.run import RunService
from service.rpc.server import Server, check_listening, ocpi_files
from service.rpc.session import SessionService
from service.rpc.tariff import TariffService
from service.rpc.token import TokenService
from service.rpc.watch import WatchService
from service.runs.auditing import audits_due
from service.runs.worker import RunWorker, Tools
from service.settings import Settings
from service.storage.access_token import AccessTokens
from service.storage.api_key import api_key_first
from service.storage.clock import Clock
from service.storage.connection import describe
from service.storage.exchange import ExchangeRecorder
from service.storage.gate import PartnerGate
from service.storage.integration import integration_takes_refresh, tombstones_due
from service.storage.keyring import Keyring
from service.storage.marking import markings_due, tariffs_due
from service.storage.notices import Notices
from service.storage.opening import keyring, migrated_url, opened
from service.storage.pool import Database
from service.storage.publication import rules_due
from service.storage.target import IntegrationTargets
from service.watch.feed import Feed

log = logging.getLogger(__name__)

PARTNERS: tuple[Partner, ...] = tuple(
    room.PARTNER for room in (ampeco, chargeprice, emabler, ocpi, salesforce, utility_cloud)
)
FIRST_TENANT = "default"
_SWEEP_S = 3600.0
_DUE_S = 1.0
_SEAL_S = 10.0
_BOOKMARK_S = 10.0


@dataclass(frozen=True, slots=True)
class Evbridge:
    """A running evbridge. `first_key` is set when the database was empty; it exists nowhere else.

    By the `clock` rules and tariffs begin and end in what this process delivers. `ocpi_url` is where it
    listens for OCPI parties, "" when it does not.
    """

    address: str
    database: Database
    keyring: Keyring
    clock: Clock
    first_key: Secret | None
    ocpi_url: str = ""


@asynccontextmanager
async def evbridge(
    settings: Settings, record: Recorder | None = None, *, shares_ports: bool = False
) -> AsyncIterator[Evbridge]:
    """Serves and delivers while entered; leaving drains. `record` is shown every exchange with a partner.

    `shares_ports`: other processes serve on the same, see `evbridge_processes`.
    """
    check_listening(settings, shares_port=shares_ports)
    keys = keyring(settings)
    policy = EgressPolicy(settings.egress_allow_loopback, settings.egress_allow_http)
    behaviours = {partner.name: partner.behaviour for partner in PARTNERS if partner.behaviour}
    supported = {(kind, partner.type) for partner in PARTNERS for kind in partner.runs}
    registry = Registry.of(_contracts())
    takes = {partner.type: partner.takes for partner in PARTNERS}
    # Nothing is delivered through these, and no run finds out their status.
    clock = Clock()
    called = {INTEGRATION_TYPE_HTTP, *(partner.type for partner in PARTNERS if not (partner.deliverer or partner.runs))}
    door = Door(settings.public_url, sorted(settings.ocpi_versions.split(","), reverse=True))
    retries = RetryPolicy(
        base_s=settings.delivery_backoff_s,
        max_attempts=settings.delivery_max_attempts,
        suspend_after=timedelta(days=settings.delivery_suspend_days),
    )
    async with (
        migrated_url(settings) as url,
        opened(settings, url) as store,
        aclosing(Egress(policy)) as egress,
        authenticating(settings, store, keys, egress, policy) as authenticator,
        aclosing(Processes(settings.pricing_processes)) as processes,
        _following(settings, url) as feed,
        _noticing(settings, url) as notices,
    ):

        def tools(database: Database) -> Tools:
            targets, oauth = targets_of(database, keys), OAuth(AccessTokens(database, keys), egress)
            gate, recorder = PartnerGate(database, retries), ExchangeRecorder(database)
            channel = PartnerChannel(
                registry, targets, gate, egress, behaviours, recorder, record, authorise=oauth.authorise
            )
            percent = settings.mass_removal_percent
            return Tools(database, targets, oauth, channel, recorder, keys, policy, door, processes, percent)

        await integration_takes_refresh(store, takes)
        served = tools(store)
        comparers = {each.type: each.comparer(store, served.channel) for each in PARTNERS if each.comparer}
        authorizers = {each.type: each.authorizer(store, served.channel) for each in PARTNERS if each.authorizer}
        commanders = {each.type: each.commander(served) for each in PARTNERS if each.commander}
        tellers = {each.type: each.preferences(store, served.channel) for each in PARTNERS if each.preferences}
        questions = Questions(store, notices, min(_BOOKMARK_S, settings.max_deadline_s / 3))
        server = Server(
            settings,
            store,
            Interceptors(authenticator, settings),
            _by_descriptor(
                CompanyService(store, keys),
                IntegrationService(store, keys, policy, supported, takes),
                DeliveryService(store, keys, comparers),
                DisclosureService(store),
                AuditService(store, keys),
                PartyService(store, keys),
                LocationService(store, keys),
                TariffService(store, keys),
                TokenService(store, keys),
                AuthorizationService(store, keys, questions, authorizers),
                HubClientService(store),
                CommandService(store, keys, questions, commanders),
                PricingService(store, processes),
                SessionService(store, keys, questions, tellers),
                CdrService(store, keys),
                InvoiceReconciliationService(store, keys),
                ReconciliationService(store),
                ChargerService(store, keys),
                PublicationService(store, keys),
                PartnerService(store, keys, registry, served.targets),
                RunService(store, keys, supported),
                QuarantineService(store, keys),
                KeyService(store, keys, service_names()),
                PersonalDataService(store, keys),
                RegistrationService(store, keys, door, supported),
                WatchService(feed),
            )
            | {
                each: ContractService(each, registry, served.channel, store, keys, called)
                for each in registry.services
                if not each.GetOptions().Extensions[options.internal]
            },
            shares_port=shares_ports,
        )
        address = await server.start()
        try:
            async with (
                _listening(settings, served, registry, questions, shares_ports) as ocpi_url,
                _delivering(settings, url, keys, tools, retries, clock, processes),
            ):
                # Last of all: it can be shown only once, so nothing may fail between making and showing it.
                first = settings.first_key and await api_key_first(store, keys, FIRST_TENANT, options.ROLE_ADMIN)
                yield Evbridge(address, store, keys, clock, first or None, ocpi_url)
        finally:
            feed.stop()
            questions.stop()
            await server.stop()
            await served.recorder.close(settings.drain_s)


@asynccontextmanager
async def evbridge_processes(settings: Settings, count: int) -> AsyncIterator[Evbridge]:
    """The same in `count` processes, which this one starts, starts again when they die, and drains.

    The embedded database and its key file are this process's. Raises what `evbridge` does.
    """
    check_listening(settings)
    keys = keyring(settings)
    async with migrated_url(settings) as url, opened(settings, url, size=1) as store:
        with ExitStack() as ports:
            address = ports.enter_context(reserved(settings.listen))
            ocpi_listen = settings.ocpi_listen and ports.enter_context(reserved(settings.ocpi_listen))
            environ = {
                "EVBRIDGE_LISTEN": address,
                "EVBRIDGE_OCPI_LISTEN": ocpi_listen,
                "EVBRIDGE_FIRST_KEY": "false",
            }
            processes = ServingProcesses(count, environ, settings.drain_s)
            async with aclosing(processes):
                await processes.start()
                first = settings.first_key and await api_key_first(store, keys, FIRST_TENANT, options.ROLE_ADMIN)
                scheme = "https" if settings.tls_cert_file else "http"
                yield Evbridge(
                    address, store, keys, Clock(), first or None, ocpi_listen and f"{scheme}://{ocpi_listen}"
                )


def targets_of(database: Database, keys: Keyring) -> IntegrationTargets:
    """Where integrations of every type lead."""
    partners = [file.GetOptions().Extensions[options.partner] for file in _contracts()]
    return IntegrationTargets(database, keys, partners)


def service_names() -> frozenset[str]:
    """The services that are served to callers."""
    files = [*contract_files("evbridge.v1"), *_contracts()]
    services = [service for file in files for service in file.services_by_name.values()]
    return frozenset(each.full_name for each in services if not each.GetOptions().Extensions[options.internal])


def _contracts() -> list[FileDescriptor]:
    return [file for partner in PARTNERS if partner.contract for file in contract_files(partner.contract)]


@asynccontextmanager
async def _listening(
    settings: Settings, served: Tools, registry: Registry, questions: Questions, shares_port: bool
) -> AsyncIterator[str]:
    """Serves OCPI parties, and the webhooks of others, while entered; yields where."""
    if not settings.ocpi_listen:
        yield ""
        return
    webhooks = [
        Webhook(Default().FindServiceByName(f"{each.contract}.{name}"), made(served))
        for each in PARTNERS
        for name, made in each.webhooks.items()
    ]
    listener = Listener(
        served.database,
        served.keyring,
        registry,
        served.door,
        endpoints(served, questions),
        webhooks,
        Tries(settings.ocpi_unknown_per_minute),
        settings.proxies(),
    )
    certificate = Certificate(ocpi_files(settings)) if settings.tls_cert_file else None
    url = await listener.start(settings.ocpi_listen, certificate, shares_port=shares_port)
    served.door.url = settings.public_url or url
    try:
        yield url
    finally:
        await listener.stop()


@asynccontextmanager
async def _following(settings: Settings, url: str) -> AsyncIterator[Feed]:
    """The change feed, followed while entered over connections of its own: no call waits for a watcher."""
    bookmark_s = min(_BOOKMARK_S, settings.max_deadline_s / 3)
    async with opened(settings, url, name="evbridge-watch", size=2) as store:
        feed = Feed(store, settings.watch_poll_s, bookmark_s)
        async with _meanwhile(feed.run()):
            yield feed


@asynccontextmanager
async def _noticing(settings: Settings, url: str) -> AsyncIterator[Notices]:
    """Notices, heard while entered; where the server itself cannot be reached, none are."""
    notices = Notices(settings.database_direct_url or ("" if settings.pgbouncer else url))
    async with _meanwhile(notices.run()):
        yield notices


@asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def _delivering(
    settings: Settings,
    url: str,
    keys: Keyring,
    tools: Callable[[Database], Tools],
    retries: RetryPolicy,
    clock: Clock,
    processes: Processes,
) -> AsyncIterator[None]:
    """Delivers and carries out runs while entered, over connections of its own."""
    if not settings.delivery:
        yield
        return
    async with opened(settings, url, name="evbridge-delivery") as store:
        used = tools(store)
        deliverers = {each.type: each.deliverer(store, used.channel) for each in PARTNERS if each.deliverer}
        worker = DeliveryWorker(store, deliverers, retries, settings.delivery_poll_s, clock)
        results = Results(store, {each.type: each.commander(used) for each in PARTNERS if each.commander})
        executors = {(kind, each.type): make(used) for each in PARTNERS for kind, make in each.runs.items()}
        runs = RunWorker(store, executors, settings.delivery_poll_s)
        work = (
            worker.run(),
            runs.run(),
            BacklogGauges(store).run(),
            _watch(partial(sweep, store, keys, settings), "what is past its time", _SWEEP_S),
            _watch(partial(rules_due, store, clock), "rules that come into force or end"),
            _watch(partial(tariffs_due, store, clock), "tariffs that end"),
            _watch(partial(markings_due, store), "objects that are to be marked"),
            _watch(partial(tombstones_due, store), "what is left of deleted integrations"),
            _watch(partial(audits_due, store, processes), "CDRs to audit"),
            _watch(partial(syncs_due, store, executors), "lists that are pulled"),
            _watch(partial(notified_due, store, executors), "what partners notified us of"),
            _watch(results.due, "results of commands"),
            _watch(Sealer(store, keys).due, "audit events to seal", _SEAL_S),
        )
        tasks = [asyncio.create_task(each) for each in work]
        try:
            yield
        finally:
            await asyncio.gather(worker.stop(settings.drain_s), runs.stop(settings.drain_s))
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await results.stop(settings.drain_s)
            await used.recorder.close(settings.drain_s)


async def _watch(due: Callable[[], Awaitable[bool]], what: str, pause_s: float = _DUE_S) -> None:
    """Does what is due, one after another, and looks again."""
    while True:
        try:
            while await due():
                pass
        except Exception as error:
            problem = {"what": what, "problem": describe(error)}
            log.warning("looking for what is due failed", extra=problem, exc_info=True)
        await asyncio.sleep(pause_s)


def _by_descriptor(*services: object) -> dict[ServiceDescriptor, object]:
    """Each implementation with the service of the contract that it is named after."""
    return {Default().FindServiceByName(f"evbridge.v1.{type(service).__name__}"): service for service in services}
