"""`python -m bench`: every benchmark, in two minutes; `--full`: larger tables too. Linux, because it reads /proc."""

import sys

from bench import (
    authorization,
    bridge,
    codec,
    deliveries,
    identity,
    locations,
    ocpi,
    overload,
    pricing,
    pull,
    reconciliation,
    rpc,
    sending,
    watch,
    workers,
)

if __name__ == "__main__":
    rpc.report()
    identity.report()
    codec.report()
    bridge.report()
    pricing.report()
    locations.report(sizes=locations.FULL_SIZES if "--full" in sys.argv[1:] else locations.SIZES)
    deliveries.report(deliveries.FULL_SIZES if "--full" in sys.argv[1:] else deliveries.SIZES)
    ocpi.report()
    authorization.report()
    sending.report(sending.FULL_COUNT if "--full" in sys.argv[1:] else sending.COUNT)
    pull.report(pull.FULL_COUNT if "--full" in sys.argv[1:] else pull.COUNT)
    reconciliation.report(reconciliation.FULL_COUNT if "--full" in sys.argv[1:] else reconciliation.COUNT)
    watch.report()
    workers.report()
    overload.report()
