"""Ask a SuperLink or SuperNode that was started with --health whether it is well: exit code 0 if so, else 1.

python deploy/check_health.py 127.0.0.1:8081
"""

import argparse
import sys

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from deploy.address import host_port

SECONDS = 5.0


def main() -> None:
    """Say SERVING, or what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", type=host_port, help="host:port that --health was given")
    address = parser.parse_args().address
    try:
        with grpc.insecure_channel(address) as channel:
            status = HealthStub(channel).Check(HealthCheckRequest(), timeout=SECONDS).status
    except grpc.RpcError as error:
        sys.exit(f"check_health: {address} does not answer ({error.code().name})")  # type: ignore[attr-defined]
    name = HealthCheckResponse.ServingStatus.Name(status)
    print(name)
    sys.exit(name != "SERVING")


if __name__ == "__main__":
    main()
