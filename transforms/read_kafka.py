"""Live: a topic through KafkaIO, in batches as they come over the data channel."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import apache_beam as beam
from apache_beam.transforms.external import ExternalTransform, NamedTupleBasedPayloadBuilder

from schemas.units import US_PER_MS
from transforms.batches import RawBatch
from transforms.blocks import INTERCEPTOR
from transforms.brokers import Brokers, java_settings
from transforms.kafka_record import KafkaRecordBytes, parse_chunk
from transforms.keep_clock import KeepClock
from transforms.time_index import TimeIndex

_URN: Final = "horizon:read_blocks:v1"  # runners/java/horizon/ReadBlocks.java
_MAX_DRIFT_MS: Final = 1_000


class _Asked(NamedTuple):
    """What horizon.ReadBlocks takes."""

    topic: str
    consumer: Mapping[str, str]
    starts: Mapping[str, int]
    clocks_ms: Mapping[str, int]
    max_drift_ms: int
    has_beacons: bool


class _JarsAreThere:
    """An expansion service whose answer stages no jars: the cluster has them on its own class path."""

    def __init__(self, address: str) -> None:
        self._address = address

    def Expand(self, request: Any) -> Any:  # noqa: N802  (gRPC's name)
        with ExternalTransform.service(self._address) as service:
            response = service.Expand(request)
        for environment in response.components.environments.values():
            del environment.dependencies[:]
        return response


class ReadKafka(beam.PTransform):
    """Read a topic without end, from given offsets.

    In:     nothing (a pipeline's begin). starts: partition -> the offset of the first record to read, 0 for one that is
            not in it; clocks_us: partition -> the newest log time before that, where there is one.
    Out:    RawBatch of what came at once, at most a bundle or about 1 MB; event time and watermark are the log's clock,
            that of the slowest partition. Unless `has_beacons` (somebody writes them to silent partitions) the clock of
            a partition that was read to its end goes on with the wall clock.
    Errors: EncodingError when Java's part is not of this version.
    Cost:   a fixed one for each partition and poll, little for each record; offsets are committed with each checkpoint.
    Source: docs/specs/market_data.md, step 1.
    """

    def __init__(
        self,
        expansion_service: str,
        bootstrap_servers: Brokers,
        topic: str,
        consumer: dict[str, str],
        starts: Mapping[int, int],
        clocks_us: Mapping[int, int],
        has_beacons: bool = True,
    ) -> None:
        super().__init__()
        self._expansion_service, self._topic, self._has_beacons = expansion_service, topic, has_beacons
        self._starts = {str(partition): offset for partition, offset in starts.items()}
        self._clocks_ms = {str(partition): clock_us // US_PER_MS for partition, clock_us in clocks_us.items()}
        # a record of KafkaIO's is then a block: its cost for each is paid once a partition and poll
        self._consumer = consumer | java_settings(bootstrap_servers) | {"interceptor.classes": INTERCEPTOR}
        self._bootstrap_servers = bootstrap_servers

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[RawBatch]:
        asked = _Asked(self._topic, self._consumer, self._starts, self._clocks_ms, _MAX_DRIFT_MS, self._has_beacons)
        return (
            begin
            | "KafkaIO"
            >> ExternalTransform(
                _URN, NamedTupleBasedPayloadBuilder(asked), expansion_service=_JarsAreThere(self._expansion_service)
            )
            | "ParseRecords" >> beam.Map(parse_chunk).with_input_types(KafkaRecordBytes).with_output_types(RawBatch)
            | "KeepClock" >> KeepClock(TimeIndex(self._bootstrap_servers))
        )
