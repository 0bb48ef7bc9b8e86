"""KafkaIO's elements as whole chunks of the data channel, imported by each worker as a Beam plugin.

Beam takes elements off the wire one by one, decodes each and hands it down: 22 % of the whole live job went into that
loop (docs/figures.md). Where the elements are KafkaIO's own, the chunk itself goes down as one element; every other
input stays as Beam made it.
"""

from typing import Any

from apache_beam.coders.coders import LengthPrefixCoder, WindowedValueCoder
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker import bundle_processor
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from transforms import beam_version
from transforms.kafka_record import JavaCoder

beam_version.check(__name__)


class _ChunkInput(bundle_processor.DataInputOperation):
    def process_encoded(self, encoded_windowed_values: bytes) -> None:
        if encoded_windowed_values:
            # nothing after this looks at an element's timestamp: cells and files live in the global window
            self.output(WindowedValue(encoded_windowed_values, MIN_TIMESTAMP, [GlobalWindow()]))


def _carries_records(coder: Any) -> bool:
    if isinstance(coder, WindowedValueCoder):
        coder = coder.wrapped_value_coder
    if isinstance(coder, LengthPrefixCoder):
        coder = coder.value_coder()
    return isinstance(coder, JavaCoder)


@bundle_processor.BeamTransformFactory.register_urn(bundle_processor.DATA_INPUT_URN, beam_fn_api_pb2.RemoteGrpcPort)
def _create_input(
    factory: Any, transform_id: str, transform: Any, port: beam_fn_api_pb2.RemoteGrpcPort, consumers: Any
) -> bundle_processor.DataInputOperation:
    operation = bundle_processor.create_source_runner(factory, transform_id, transform, port, consumers)
    if _carries_records(operation.windowed_coder):
        operation.__class__ = _ChunkInput
    return operation
