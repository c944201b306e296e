"""`evbridge demo`: the story, on a throw-away database and with simulated partners."""

import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from evbridge.options.v1.options_pb2 import ROLE_ADMIN

from service.app import evbridge
from service.demo.circle import Circle
from service.demo.recovery import Exchanges, Recovery
from service.demo.story import API_KEY, say
from service.partners.ampeco import simulator as ampeco
from service.partners.chargeprice.simulator import Simulator
from service.partners.ocpi import simulator as ocpi
from service.settings import Settings
from service.storage.api_key import api_key_create


async def demo() -> None:
    with tempfile.TemporaryDirectory(prefix="evb-") as directory:
        settings = Settings(
            listen="127.0.0.1:0",
            ocpi_listen="127.0.0.1:0",
            data_dir=Path(directory),
            egress_allow_loopback=True,
            egress_allow_http=True,
            delivery_poll_s=0.05,
            delivery_backoff_s=0.2,
        )
        say("evbridge starts on an embedded PostgreSQL; simulators stand in for the partners")
        simulator, ampeco_simulator = Simulator(api_key=API_KEY), ampeco.Simulator(api_key=API_KEY)
        ocpi_simulator = ocpi.Simulator(api_key=API_KEY)
        partner_url, ampeco_url = await simulator.start(), await ampeco_simulator.start()
        ocpi_url = await ocpi_simulator.start()
        exchanges = Exchanges()
        try:
            async with evbridge(settings, record=exchanges) as running:
                print(f"  gRPC on {running.address}, Chargeprice on {partner_url}, AMPECO on {ampeco_url},")
                print(f"  an OCPI party on {ocpi_url}, and our door for such parties on {running.ocpi_url}")
                if running.first_key is None:
                    raise RuntimeError("a new database has no key yet")
                print("  tenant 'default' and its first API key are made")
                credential = (("authorization", f"Bearer {running.first_key.reveal()}"),)
                async with grpc.aio.insecure_channel(running.address) as channel:
                    story = Recovery(channel, credential, simulator)
                    await story.tell(partner_url, ampeco_url)
                    await story.roam(ocpi_url)
                    held = ocpi_simulator.objects["/ocpi/2.2.1/locations/BE/BEC/LOC1"]
                    if held["evses"][0]["status"] != "CHARGING":
                        sys.exit("the status did not arrive")
                    midnight = (datetime.now(UTC) + timedelta(days=1)).replace(
                        hour=0, minute=0, second=0, microsecond=0
                    )
                    await story.outage(ocpi_simulator, exchanges, midnight)
                    await story.midnight(ocpi_simulator, running.clock, midnight)
                    async with running.database.transaction() as conn:
                        key = await api_key_create(conn, running.keyring, "drivers", "", ROLE_ADMIN)
                    exchanges.quiet = True
                    await Circle(channel, credential, (("authorization", f"Bearer {key.reveal()}"),)).tell()
        finally:
            await simulator.stop()
            await ampeco_simulator.stop()
            await ocpi_simulator.stop()
        say("The end. `make serve` gives you the same server to talk to.")
