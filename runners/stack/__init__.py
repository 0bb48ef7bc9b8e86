"""A real Kafka and Flink on this machine, with all that Beam needs beside them; nothing has to be installed."""

from runners.stack.endpoints import Endpoints, StackError, endpoints
from runners.stack.local import LocalStack

__all__ = ["Endpoints", "LocalStack", "StackError", "endpoints"]
