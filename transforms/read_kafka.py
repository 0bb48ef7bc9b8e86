"""Live: a topic through KafkaIO, in batches as they come over the data channel."""

from typing import Any

import apache_beam as beam
from apache_beam.io.kafka import ReadFromKafka
from apache_beam.portability.api import beam_expansion_api_pb2
from apache_beam.transforms.external import ExternalTransform

from transforms.batches import RawBatch
from transforms.blocks import INTERCEPTOR
from transforms.kafka_record import EncodingError, KafkaRecordBytes, parse_chunk
from transforms.keep_clock import KeepClock
from transforms.time_index import TimeIndex


class _OwnElements:
    """An expansion service that leaves out KafkaIO's conversion to rows.

    Calls the real one and keeps, of the composite it answers with, only the read itself.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def Expand(self, request: Any) -> Any:  # noqa: N802  (gRPC's name)
        with ExternalTransform.service(self._address) as service:
            response = service.Expand(request)
        if not response.error:
            _keep_only_read(response)
            for environment in response.components.environments.values():
                del environment.dependencies[:]  # EMBEDDED: the TaskManager has the jars on its own class path
        return response


def _keep_only_read(response: beam_expansion_api_pb2.ExpansionResponse) -> None:
    """Make the output of `...KafkaIO.Read` the output of the composite, and drop what came after it."""
    composite, transforms = response.transform, response.components.transforms
    reads = [key for key in composite.subtransforms if transforms[key].unique_name.endswith("KafkaIO.Read")]
    if len(reads) != 1 or len(transforms[reads[0]].outputs) != 1:
        names = [transforms[key].unique_name for key in composite.subtransforms]
        raise EncodingError(f"KafkaIO expands to {names}, not to one KafkaIO.Read with one output: other Beam version?")
    kept = _with_children(transforms, reads[0])
    for key in set(transforms) - kept:
        del transforms[key]
    output = next(iter(transforms[reads[0]].outputs.values()))
    used = {pcoll for key in kept for pcoll in (*transforms[key].inputs.values(), *transforms[key].outputs.values())}
    for key in set(response.components.pcollections) - used:
        del response.components.pcollections[key]
    del composite.subtransforms[:]
    composite.subtransforms.extend(reads)
    composite.outputs[next(iter(composite.outputs))] = output


def _with_children(transforms: Any, key: str) -> set[str]:
    return {key}.union(*(_with_children(transforms, child) for child in transforms[key].subtransforms))


class ReadKafka(beam.PTransform):
    """Read a topic without end, from the group's offsets or a savepoint.

    In:     nothing (a pipeline's begin).
    Out:    RawBatch of what came at once, at most a bundle or about 1 MB; event time and watermark are the log's clock.
    Errors: EncodingError when Java's part is not of this version.
    Cost:   a fixed one for each partition and poll, little for each record; offsets are committed with each checkpoint.
    Source: docs/specs/market_data.md, step 1.
    """

    def __init__(self, expansion_service: str, topic: str, consumer: dict[str, str]) -> None:
        super().__init__()
        self._expansion_service, self._topic = expansion_service, topic
        # a record of KafkaIO's is then a block: its cost for each is paid once a partition and poll
        self._consumer = consumer | {"interceptor.classes": INTERCEPTOR}

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[RawBatch]:
        return (
            begin
            | "KafkaIO"
            >> ReadFromKafka(
                consumer_config=self._consumer,
                topics=[self._topic],
                timestamp_policy=ReadFromKafka.create_time_policy,
                with_metadata=True,
                commit_offset_in_finalize=True,
                expansion_service=_OwnElements(self._expansion_service),
            )
            | "ParseRecords" >> beam.Map(parse_chunk).with_input_types(KafkaRecordBytes).with_output_types(RawBatch)
            | "KeepClock" >> KeepClock(TimeIndex(self._consumer["bootstrap.servers"]))
        )
