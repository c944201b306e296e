"""Checks of settings, versions, keys and certificates, which need no database."""

import os
import stat
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Final

from cryptography import x509

from service.cli.doctor.check import SOON, Check, NotSeen, Seen
from service.domain.verdict import Verdict, failed, passed, warned
from service.rpc.server import grpc_files
from service.settings import SettingError, Settings, is_loopback
from service.storage.opening import keys_file


def settings_of(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The settings without those that are wrong, and what is wrong, each."""
    left, problems = dict(environ), list[str]()
    while problem := _problem(left):
        problems.append(problem)
        named = [name for name in left if name.startswith("EVBRIDGE_")]
        others = ({key: left[key] for key in left if key != name} for name in named)
        left = next((each for each in others if _problem(each) != problem), {})
    return Settings.from_environ(left), problems


def _problem(environ: Mapping[str, str]) -> str:
    try:
        Settings.from_environ(environ)
    except SettingError as error:
        return str(error)
    return ""


def _values(seen: Seen) -> Verdict:
    count = sum(name.startswith("EVBRIDGE_") for name in seen.environ)
    return failed("; ".join(seen.problems)) if seen.problems else passed(f"{count} variables are set, all are settings")


def _listeners(seen: Seen) -> Verdict:
    settings = seen.settings
    addresses = [each for each in (settings.listen, settings.ocpi_listen) if each]
    open = [each for each in addresses if not is_loopback(each)]
    if not open or settings.tls_cert_file:
        return passed(f"{' and '.join(addresses)}{', with TLS' if settings.tls_cert_file else ''}")
    if settings.allow_plaintext:
        return warned(f"{' and '.join(open)} without TLS: keys and tokens can be read on the way")
    return failed(f"{' and '.join(open)} is not loopback, and there is no TLS: the server will not start")


def _public_url(seen: Seen) -> Verdict:
    settings = seen.settings
    if not settings.ocpi_listen:
        raise NotSeen("no OCPI parties are listened to")
    if not settings.public_url:
        return warned(f"partners are told {settings.ocpi_listen}, which is an address of this machine")
    if not settings.public_url.startswith("https://"):
        return warned(f"{settings.public_url} is not https")
    return passed(settings.public_url)


def _egress(seen: Seen) -> Verdict:
    settings = seen.settings
    switched = (("this machine", settings.egress_allow_loopback), ("partners without TLS", settings.egress_allow_http))
    allowed = [what for what, on in switched if on]
    return warned(f"calls {' and '.join(allowed)} too") if allowed else passed("public https addresses only")


def _delivery(seen: Seen) -> Verdict:
    if not seen.settings.delivery:
        return warned("a process with these settings delivers, pulls, sweeps and seals nothing")
    return passed("on")


def _versions(seen: Seen) -> Verdict:
    names = ("evbridge", "grpcio", "protobuf", "asyncpg", "aiohttp", "cryptography")
    python = ".".join(map(str, sys.version_info[:3]))
    return passed(", ".join([f"Python {python}", *(f"{name} {version(name)}" for name in names)]))


def _keys(seen: Seen) -> Verdict:
    settings = seen.settings
    if seen.keys is None:
        return failed(seen.keyless)
    path = keys_file(settings)
    if path is None:
        return warned("they stand in EVBRIDGE_SECRETS_KEYS, where whoever sees the process's environment sees them")
    mode = stat.S_IMODE(path.stat().st_mode)
    seals = f"{path}, mode {mode:04o}; {seen.keys.current} seals"
    if mode & stat.S_IRWXG:
        return warned(f"{seals}; its group may read or write it")
    return passed(seals)


def _certificates(seen: Seen) -> Verdict:
    settings = seen.settings
    if not settings.tls_cert_file:
        raise NotSeen("no certificate is set")
    grpc_files(settings).read()
    ends = []
    for file in (settings.tls_cert_file, settings.tls_client_ca_file, settings.ocpi_tls_client_ca_file):
        found = x509.load_pem_x509_certificates(Path(file).read_bytes()) if file else []
        ends += [(each.not_valid_after_utc, file) for each in found]
    end, file = min(ends)
    told = f"{file} is valid until {end:%Y-%m-%d %H:%M} UTC"
    left = end - datetime.now(UTC)
    return failed(told) if left < timedelta(0) else warned(told) if left < SOON else passed(told)


def _data_dir(seen: Seen) -> Verdict:
    settings = seen.settings
    if settings.database_url:
        raise NotSeen("the database is another server's: watch the disk there")
    if not settings.data_dir.exists():
        return passed(f"{settings.data_dir} is made by the first start")
    room = os.statvfs(settings.data_dir)
    free, share = room.f_bavail * room.f_frsize, room.f_bavail / max(room.f_blocks, 1)
    told = f"{free / (1 << 30):.1f} GiB are free below {settings.data_dir}, {share:.0%}"
    return failed(told) if free < 1 << 30 else warned(told) if share < 0.1 else passed(told)


CHECKS: Final = (
    Check(
        "settings.values",
        "variables that exist, with values that fit",
        "Correct what is named; `evbridge serve --help` lists the settings.",
        _values,
    ),
    Check(
        "settings.listeners",
        "TLS wherever others can listen in",
        "Set EVBRIDGE_TLS_CERT_FILE and EVBRIDGE_TLS_KEY_FILE, or let a mesh or a proxy end TLS.",
        _listeners,
    ),
    Check(
        "settings.public-url",
        "an https URL that partners reach",
        "Set EVBRIDGE_PUBLIC_URL to how partners reach EVBRIDGE_OCPI_LISTEN.",
        _public_url,
    ),
    Check(
        "settings.egress",
        "partners at public https addresses",
        "Remove EVBRIDGE_EGRESS_ALLOW_LOOPBACK and EVBRIDGE_EGRESS_ALLOW_HTTP, which are for tests.",
        _egress,
    ),
    Check(
        "settings.delivery",
        "a process that delivers",
        "See that another process runs with EVBRIDGE_DELIVERY=true on the same database.",
        _delivery,
    ),
    Check("versions", "known versions", "", _versions),
    Check(
        "keys.secrets",
        "secrets keys in a file that its owner alone can read",
        "Set EVBRIDGE_SECRETS_KEYS_FILE to a file with mode 0600, and keep a copy: no secret opens without it.",
        _keys,
    ),
    Check(
        "tls.certificates",
        "a certificate with its key, valid for two weeks more",
        "Renew it; the files are read again by themselves.",
        _certificates,
    ),
    Check("disk.free", "1 GiB and a tenth of the disk", "Make room, or move EVBRIDGE_DATA_DIR.", _data_dir),
)
