"""The settings, read once at start from environment variables; a wrong one stops the start and is named."""

import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any


class SettingError(ValueError):
    """An environment variable that cannot be used. Names it, never its value."""


class Limit(int):
    """A count that may not be passed; 0 is none."""


class Reflection(StrEnum):
    """AUTO: as long as nobody but this machine is listened to."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


def _setting(name: str, default: Any, help: str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"name": f"EVBRIDGE_{name}", "help": help})


@dataclass(frozen=True, slots=True)
class Settings:
    """One field per variable; `help` is what the table in docs/production.md and `evbridge serve --help` show."""

    listen: str = _setting("LISTEN", "127.0.0.1:50051", "host:port of the gRPC server")
    database_url: str = _setting(
        "DATABASE_URL", "", "PostgreSQL >= 14; empty: an embedded server in DATA_DIR", secret=True
    )
    database_direct_url: str = _setting(
        "DATABASE_DIRECT_URL", "", "the server behind PgBouncer, for migrations and notices", secret=True
    )
    database_pool_size: int = _setting("DATABASE_POOL_SIZE", 10, "connections for calls; delivery uses as many again")
    pgbouncer: bool = _setting("PGBOUNCER", False, "DATABASE_URL is PgBouncer >= 1.21 in transaction mode")
    migrate: bool = _setting("MIGRATE", True, "apply migrations at start; false: refuse to start when some are pending")
    data_dir: Path = _setting("DATA_DIR", Path(".data"), "the embedded database and its key file")
    secrets_keys: str = _setting(
        "SECRETS_KEYS", "", "name:base64 of 32 bytes, comma, more; the first seals", secret=True
    )
    secrets_keys_file: str = _setting("SECRETS_KEYS_FILE", "", "a file (mode 0600) with the same text")
    tls_cert_file: str = _setting("TLS_CERT_FILE", "", "PEM certificate chain; with TLS_KEY_FILE turns TLS on")
    tls_key_file: str = _setting("TLS_KEY_FILE", "", "PEM private key")
    tls_client_ca_file: str = _setting(
        "TLS_CLIENT_CA_FILE", "", "PEM certificates of who signs gRPC clients'; demands one of every client"
    )
    ocpi_tls_client_ca_file: str = _setting(
        "OCPI_TLS_CLIENT_CA_FILE", "", "the same for OCPI parties; demands one of every party"
    )
    allow_plaintext: bool = _setting("ALLOW_PLAINTEXT", False, "listen beyond loopback without TLS (behind a mesh)")
    ocpi_listen: str = _setting("OCPI_LISTEN", "", "host:port of the OCPI endpoints; empty: none")
    public_url: str = _setting("PUBLIC_URL", "", "where partners reach OCPI_LISTEN; empty: at its own address")
    ocpi_versions: str = _setting(
        "OCPI_VERSIONS", "2.3.0,2.2.1,2.1.1", "the versions of OCPI that partners are offered, the highest first"
    )
    ocpi_trusted_proxies: str = _setting(
        "OCPI_TRUSTED_PROXIES", "", "addresses or networks, comma between; their X-Forwarded-For is believed"
    )
    ocpi_unknown_per_minute: int = _setting(
        "OCPI_UNKNOWN_PER_MINUTE", 60, "requests of one address without a known token; more are HTTP 429"
    )
    jwt_issuer: str = _setting("JWT_ISSUER", "", "whose JSON Web Tokens are accepted too: their `iss`; empty: nobody's")
    jwt_audience: str = _setting("JWT_AUDIENCE", "", "the `aud` that their tokens for us have")
    jwt_jwks_url: str = _setting("JWT_JWKS_URL", "", "where the issuer's keys are: a public https URL of a JWK Set")
    jwt_algorithms: str = _setting(
        "JWT_ALGORITHMS", "RS256,ES256", "that sign them: RS, PS or ES with 256, 384 or 512, EdDSA"
    )
    jwt_tenant_claim: str = _setting("JWT_TENANT_CLAIM", "tenant", "the claim, or the path to it, with the tenant")
    jwt_role_claim: str = _setting("JWT_ROLE_CLAIM", "role", "the same for the role: reader, writer, admin, or a list")
    jwt_leeway_s: float = _setting("JWT_LEEWAY_S", 30.0, "how far the issuer's clock may differ")
    reflection: Reflection = _setting(
        "REFLECTION", Reflection.AUTO, "on, off, or auto (on loopback only): show the contract to callers with a key"
    )
    first_key: bool = _setting("FIRST_KEY", True, "on an empty database, make an admin key and print it once")
    max_deadline_s: float = _setting("MAX_DEADLINE_S", 30.0, "the longest a call may take, and the default")
    max_concurrent_rpcs: int = _setting("MAX_CONCURRENT_RPCS", 200, "calls beyond are RESOURCE_EXHAUSTED")
    max_concurrent_rpcs_per_key: int = _setting("MAX_CONCURRENT_RPCS_PER_KEY", 100, "the share of one key of these")
    calls_per_minute: Limit = _setting(
        "CALLS_PER_MINUTE", Limit(0), "of a key without a limit of its own, in each process; 0: any number"
    )
    pricing_processes: int = _setting("PRICING_PROCESSES", 2, "for long quotes; one key has all but one of them")
    burst_s: float = _setting("BURST_S", 0.25, "how long calls may queue before load is shed")
    receive_s: float = _setting("RECEIVE_S", 10.0, "how long a call's message may take to arrive")
    send_s: float = _setting("SEND_S", 10.0, "how long the caller of a stream may take for a message")
    max_watches: int = _setting("MAX_WATCHES", 1000, "watches beyond are RESOURCE_EXHAUSTED")
    max_watches_per_key: int = _setting("MAX_WATCHES_PER_KEY", 500, "the share of one key of these")
    watch_poll_s: float = _setting("WATCH_POLL_S", 0.1, "how often to look for changes while somebody watches")
    drain_s: float = _setting("DRAIN_S", 20.0, "how long calls under way may take to end after SIGTERM")
    lame_duck_s: float = _setting(
        "LAME_DUCK_S", 0.3, "how long calls are refused before the port closes, so that balancers notice"
    )
    egress_allow_loopback: bool = _setting("EGRESS_ALLOW_LOOPBACK", False, "partners may be on this machine (tests)")
    egress_allow_http: bool = _setting("EGRESS_ALLOW_HTTP", False, "partners may be spoken to without TLS (tests)")
    delivery: bool = _setting("DELIVERY", True, "deliver from this process; false: another one does")
    delivery_poll_s: float = _setting("DELIVERY_POLL_S", 0.25, "how often to look for work")
    delivery_backoff_s: float = _setting("DELIVERY_BACKOFF_S", 1.0, "first delay after a failure; doubles, to 300 s")
    delivery_max_attempts: int = _setting(
        "DELIVERY_MAX_ATTEMPTS", 10, "failures after which an object is parked, if the partner takes others meanwhile"
    )
    delivery_suspend_days: int = _setting(
        "DELIVERY_SUSPEND_DAYS", 5, "days in which a partner takes nothing, after which its integration is paused"
    )
    mass_removal_percent: int = _setting(
        "MASS_REMOVAL_PERCENT", 20, "an import that would remove more of what is held than this removes nothing"
    )
    retention_days: int = _setting(
        "RETENTION_DAYS", 30, "how long attempts, runs, changes, tombstones and quarantined objects are kept"
    )
    disclosure_days: int = _setting("DISCLOSURE_DAYS", 90, "how long what partners were sent and shown is kept")
    tariff_revision_days: int = _setting(
        "TARIFF_REVISION_DAYS", 400, "how long earlier versions of tariffs are kept, to price sessions of that time"
    )
    session_days: int = _setting("SESSION_DAYS", 400, "how long sessions are kept after they last changed")
    cdr_days: int = _setting("CDR_DAYS", 3650, "how long CDRs are kept; laws on accounts ask for years")
    personal_data_days: int = _setting(
        "PERSONAL_DATA_DAYS", 3650, "how long sessions and CDRs lead to drivers; a pseudonym stands there afterwards"
    )
    audit_days: int = _setting("AUDIT_DAYS", 400, "how long it is kept who changed what")
    log_level: str = _setting("LOG_LEVEL", "INFO", "DEBUG, INFO, WARNING or ERROR")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> "Settings":
        """Raises SettingError for a value of the wrong type and for an EVBRIDGE_ variable that does not exist."""
        known = {f.metadata["name"]: f for f in fields(cls)}
        values: dict[str, Any] = {}
        for name, text in environ.items():
            if not name.startswith("EVBRIDGE_") or name in _OTHERS:
                continue
            if name not in known:
                raise SettingError(f"{name} is not a setting of evbridge")
            setting = known[name]
            read, kind = _READERS[type(setting.default)]
            try:
                values[setting.name] = read(text)
            except (ValueError, KeyError):
                raise SettingError(f"{name} must be {kind}") from None
        settings = cls(**values)
        if bool(settings.tls_cert_file) != bool(settings.tls_key_file):
            raise SettingError("EVBRIDGE_TLS_CERT_FILE and EVBRIDGE_TLS_KEY_FILE go together")
        if (settings.tls_client_ca_file or settings.ocpi_tls_client_ca_file) and not settings.tls_cert_file:
            raise SettingError("clients show certificates over TLS alone: set EVBRIDGE_TLS_CERT_FILE too")
        try:
            settings.proxies()
        except ValueError:
            raise SettingError("EVBRIDGE_OCPI_TRUSTED_PROXIES must be like 10.0.0.7,10.1.0.0/16") from None
        for name, address in (("LISTEN", settings.listen), ("OCPI_LISTEN", settings.ocpi_listen or settings.listen)):
            host, _, port = address.rpartition(":")
            if not (host and port.isdecimal() and int(port) < 1 << 16):
                raise SettingError(f"EVBRIDGE_{name} must be host:port")
        if not set(settings.ocpi_versions.split(",")) <= {"2.3.0", "2.2.1", "2.1.1"}:
            raise SettingError("EVBRIDGE_OCPI_VERSIONS must be some of 2.3.0,2.2.1,2.1.1")
        if not _PUBLIC_URL.fullmatch(settings.public_url):
            raise SettingError("EVBRIDGE_PUBLIC_URL must be an http or https URL without a slash at its end")
        if len({bool(each) for each in (settings.jwt_issuer, settings.jwt_audience, settings.jwt_jwks_url)}) > 1:
            raise SettingError("EVBRIDGE_JWT_ISSUER, EVBRIDGE_JWT_AUDIENCE and EVBRIDGE_JWT_JWKS_URL go together")
        if not set(settings.jwt_algorithms.split(",")) <= set(JWT_ALGORITHMS):
            raise SettingError(f"EVBRIDGE_JWT_ALGORITHMS must be some of {','.join(JWT_ALGORITHMS)}")
        if settings.mass_removal_percent > 100:
            raise SettingError("EVBRIDGE_MASS_REMOVAL_PERCENT must be 1 to 100")
        if settings.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise SettingError("EVBRIDGE_LOG_LEVEL must be DEBUG, INFO, WARNING or ERROR")
        return settings

    def reflects(self) -> bool:
        return self.reflection is Reflection.ON or (self.reflection is Reflection.AUTO and is_loopback(self.listen))

    def proxies(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """Raises ValueError."""
        named = (text.strip() for text in self.ocpi_trusted_proxies.split(","))
        return [ipaddress.ip_network(text) for text in named if text]


def is_loopback(address: str) -> bool:
    """Whether nobody but this machine can reach the host of "host:port"."""
    return address.rpartition(":")[0] in ("127.0.0.1", "[::1]", "localhost")


# Read elsewhere: by the test suite, by the search for PostgreSQL's binaries and by `evbridge ocpi check`.
_OTHERS = {"EVBRIDGE_TEST_DATABASE_URL", "EVBRIDGE_SOAK", "EVBRIDGE_PG_BIN", "EVBRIDGE_OCPI_TOKEN"}

JWT_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Of signatures by key pairs: whoever can verify a token of another kind can make one."""

_PUBLIC_URL = re.compile(r"(https?://[^\s/?#]+(/[^\s/?#]+)*)?")

_BOOLEANS = {"true": True, "1": True, "on": True, "yes": True, "false": False, "0": False, "off": False, "no": False}


def _read_count(text: str) -> int:
    if (count := int(text)) < 1:
        raise ValueError
    return count


def _read_limit(text: str) -> Limit:
    if (limit := Limit(text)) < 0:
        raise ValueError
    return limit


def _read_seconds(text: str) -> float:
    if not 0 < (seconds := float(text)) < math.inf:
        raise ValueError
    return seconds


def _read_reflection(text: str) -> Reflection:
    if (word := text.strip().lower()) == Reflection.AUTO:
        return Reflection.AUTO
    return Reflection.ON if _BOOLEANS[word] else Reflection.OFF


_READERS: dict[type, tuple[Callable[[str], Any], str]] = {
    str: (str, "text"),
    int: (_read_count, "a whole number above 0"),
    Limit: (_read_limit, "a whole number, 0 for no limit"),
    float: (_read_seconds, "a number above 0"),
    Reflection: (_read_reflection, "auto, on or off"),
    bool: (lambda text: _BOOLEANS[text.strip().lower()], "true or false"),
    type(Path()): (Path, "a path"),
}
