"""Becomes one Python worker: what Beam's container boot does, without container or Go binary.

The runner calls it with the endpoints of one worker. A bare worker would run with no pipeline options and without
a cache for its state; so it asks the provision endpoint for them first, with the worker's id in the call's metadata.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence

import grpc
from apache_beam.portability.api import (
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)
from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor
from google.protobuf import json_format, text_format

_PROVISION_TIMEOUT_S = 60


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of Beam's container contract; what is not needed is let through."""
    parser = argparse.ArgumentParser(description="Boot one Beam Python worker.")
    for name in ("id", "logging_endpoint", "artifact_endpoint", "provision_endpoint", "control_endpoint"):
        parser.add_argument(f"--{name}", default="")
    arguments, _ = parser.parse_known_args(argv)
    return arguments


def provision(endpoint: str, worker_id: str) -> beam_provision_api_pb2.ProvisionInfo:
    """Ask the runner what this worker is to be.

    Raises:
        grpc.RpcError: the endpoint does not answer within a minute; the runner then asks the pool again.
    """
    with grpc.insecure_channel(endpoint) as plain:
        channel = grpc.intercept_channel(plain, WorkerIdInterceptor(worker_id))
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        return service.GetProvisionInfo(request, timeout=_PROVISION_TIMEOUT_S, wait_for_ready=True).info


def worker_environment(
    arguments: argparse.Namespace, info: beam_provision_api_pb2.ProvisionInfo, directory: str
) -> dict[str, str]:
    """What sdk_worker_main reads from its environment; endpoints in protobuf's text form."""

    def descriptor(given: endpoints_pb2.ApiServiceDescriptor, otherwise: str) -> str:
        chosen = given if given.url else endpoints_pb2.ApiServiceDescriptor(url=otherwise)
        return str(text_format.MessageToString(chosen))

    found = {
        "WORKER_ID": arguments.id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "LOGGING_API_SERVICE_DESCRIPTOR": descriptor(info.logging_endpoint, arguments.logging_endpoint),
        "CONTROL_API_SERVICE_DESCRIPTOR": descriptor(info.control_endpoint, arguments.control_endpoint),
        "SEMI_PERSISTENT_DIRECTORY": directory,
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
    }
    if info.status_endpoint.url:
        found["STATUS_API_SERVICE_DESCRIPTOR"] = descriptor(info.status_endpoint, "")
    return found


def main(argv: Sequence[str]) -> None:
    """Become the worker; this process keeps its id, so that the pool can stop it."""
    os.dup2(2, 1)  # the pool never reads a worker's standard output; its log is where both belong
    arguments = parse(argv)
    info = provision(arguments.provision_endpoint, arguments.id)
    environment = worker_environment(arguments, info, tempfile.gettempdir())
    command = [sys.executable, "-m", "runners.stack.worker_main"]
    os.execve(sys.executable, command, {**os.environ, **environment})


if __name__ == "__main__":
    main(sys.argv[1:])
