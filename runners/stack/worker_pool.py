"""The pool of Python workers that the TaskManagers ask for one. Run as a module with a port and the boot program.

Beam's own `worker_pool_main` listens on every interface, and leaves the output of a worker in a pipe that nobody
reads, so that a worker which prints much stops. This one listens on the loopback interface, and its boot program
sends the output to the pool's log.
"""

import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

_UNBOUNDED = 64  # calls that start or stop a worker at the same time; the rest wait a moment


def serve(port: int, boot: str) -> grpc.Server:
    """Start the pool at 127.0.0.1:port; each worker is a process of `boot`."""
    options = [("grpc.http2.max_pings_without_data", 0), ("grpc.http2.max_ping_strikes", 0)]
    server = grpc.server(ThreadPoolExecutor(max_workers=_UNBOUNDED), options=options)
    server.add_insecure_port(f"127.0.0.1:{port}")
    pool = BeamFnExternalWorkerPoolServicer(use_process=True, container_executable=boot)
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    server.start()
    return server


def main(port: int, boot: str) -> None:
    """Serve until SIGTERM, which the whole process group gets, the workers too."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    server = serve(port, boot)
    stopped.wait()
    server.stop(grace=None).wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
