"""The command line: each command is a module of service/cli, which is imported when it is used."""

import argparse
import asyncio
import os
import sys
from importlib import import_module
from importlib.metadata import version
from types import ModuleType

COMMANDS = {
    "serve": "serve gRPC and deliver to partners",
    "demo": "tell the whole story on a throw-away database, then exit",
    "migrate": "bring the database's schema up to date",
    "keys": "make, list and revoke API keys",
    "simulate": "simulate a partner on this machine",
    "import": "read locations and tariffs from files of OCPI objects, or a whole tenant from a directory",
    "export": "print locations or tariffs as OCPI objects, or write a whole tenant to a directory",
    "backup": "copy the embedded database to a new directory, while it works",
    "restore": "make the embedded database of a backup",
    "ocpi": "check what an OCPI party does",
    "reconcile": "write what was charged through an integration in a month, and what of it does not add up",
    "quote": "say what a session costs under a tariff, and why",
    "status": "show the state of each integration and of its deliveries",
    "doctor": "say what is wrong with the settings, files and database of this process, and what to do",
    "health": "exit 0 when the server at EVBRIDGE_LISTEN is serving",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="evbridge", description="Settings are EVBRIDGE_* variables: `evbridge serve --help` lists them."
    )
    parser.add_argument("--version", action="version", version=f"evbridge {version('evbridge')}")
    commands = parser.add_subparsers(dest="command", required=True)
    used = sys.argv[1] if sys.argv[1:] else ""
    module = import_module(f"service.cli.{used}") if used in COMMANDS else None
    for name, help in COMMANDS.items():
        command = commands.add_parser(name, help=help, description=help)
        if name == used and (add := getattr(module, "arguments", None)):
            add(command)
    arguments = parser.parse_args()
    if module is not None:
        _run(module, arguments)


def _run(module: ModuleType, arguments: argparse.Namespace) -> None:
    import asyncpg

    from service.cli.common import loop_factory
    from service.errors import EvbridgeError
    from service.settings import SettingError, Settings
    from service.storage.connection import refusal
    from service.storage.embedded import EmbeddedPostgresError
    from service.storage.keyring import KeyringInvalid
    from service.storage.migrations import MigrationError
    from service.telemetry import configure_logging, configure_telemetry, shutdown_telemetry

    try:
        settings = getattr(module, "settings", Settings.from_environ)()
        configure_logging("WARNING" if arguments.command == "demo" else settings.log_level)
        configure_telemetry()
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(module.run(settings, arguments))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read what is printed has gone, as `head` does; Python would complain about the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # 128 + SIGPIPE
    except (SettingError, KeyringInvalid, MigrationError, EmbeddedPostgresError, EvbridgeError, OSError) as error:
        sys.exit(f"evbridge: {error}")
    except asyncpg.PostgresError as error:
        sys.exit(f"evbridge: {refusal(error)}")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        shutdown_telemetry()


if __name__ == "__main__":
    main()
