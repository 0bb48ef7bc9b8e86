"""What a failing step says of the record at which it fails."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from runners.direct import FLAGS
from tests.testing import Log, raw_batch, trade
from tests.transforms.build_events import events
from transforms.batches import EventBatch, RawBatch
from transforms.check import _Check
from transforms.decode import decode
from transforms.faults import Limits
from transforms.late import late_rows
from transforms.named_failure import RecordError, first_place, names_record, names_record_alone
from transforms.rejects import reject_rows


def log_of(count: int) -> Log:
    log = Log()
    for number in range(count):
        log.add(trade(number, trade_id=str(number)), partition=number % 3)
    return log


class _FailsAt(beam.DoFn):
    """Fails at records of these places; with `is_flaky` only once."""

    def __init__(self, places: set[tuple[int, int]], is_flaky: bool = False) -> None:
        self._places, self._left = places, 1 if is_flaky else 1_000

    @names_record_alone
    def process(self, raw: RawBatch) -> Iterator[RawBatch]:
        met = self._places & set(zip(raw.partition.tolist(), raw.offset.tolist(), strict=True))
        if met and self._left:
            self._left -= 1
            raise ValueError(f"a\nb at {sorted(met)}")
        yield raw


def message(step: Any, element: Any) -> str:
    with pytest.raises(RecordError) as caught:
        list(step.process(element))
    return str(caught.value)


@pytest.mark.parametrize("number", [0, 1, 511, 700, 998, 999])
def test_the_very_record_is_named_whatever_is_beside_it(number: int) -> None:
    batch = raw_batch(log_of(1_000).records)
    place = int(batch.partition[number]), int(batch.offset[number])
    assert message(_FailsAt({place}), batch).endswith(f" [at md.events.raw/{place[0]}/{place[1]}]")


def test_the_first_of_several_is_named_and_the_text_is_one_line() -> None:
    batch = raw_batch(log_of(90).records)
    assert message(_FailsAt({(1, 20), (0, 10), (2, 4)}), batch) == (
        "ValueError: a b at [(0, 10), (1, 20), (2, 4)] [at md.events.raw/2/4]"
    )


def test_what_fails_at_no_record_again_names_where_its_batch_begins() -> None:
    batch = raw_batch(log_of(90).records[4:])
    assert message(_FailsAt({(0, 10)}, is_flaky=True), batch).endswith(" [from md.events.raw/1/1 on]")


def test_what_fails_at_nothing_gives_what_it_gives() -> None:
    batch = raw_batch(log_of(9).records)
    assert list(_FailsAt(set()).process(batch)) == [batch]


def test_elements_of_every_step_tell_their_first_record() -> None:
    log = log_of(9)
    batch = events(log)
    decoded = decode(raw_batch(log.records[4:]), 65_536)[0]
    assert decoded is not None
    assert first_place(decoded) == "md.events.raw/1/1"
    assert first_place(batch.take(np.arange(5, 9))) == "md.events.raw/2/1"
    assert first_place(((1_700_000_000, 0), batch)) == "md.events.raw/0/0"
    assert first_place(late_rows(batch, "beyond_horizon").slice(2)) == "md.events.raw/2/0"
    assert first_place(reject_rows(batch.raw(), np.array([7]), "cell", ["identity_conflict"], [""])) == (
        "md.events.raw/1/2"
    )
    assert first_place((1, pa.record_batch({"a": [1]}))) is None
    assert first_place(batch.take(np.arange(0))) is None


class _Keyed(beam.DoFn):
    @names_record
    def process(self, element: tuple[int, EventBatch]) -> None:
        raise ValueError("no")


def test_beam_takes_a_named_step_and_adds_its_name() -> None:
    with (
        pytest.raises(RuntimeError, match=r"ValueError: no \[from md.events.raw/0/0 on\] \[while running 'Fails"),
        beam.Pipeline(options=PipelineOptions(FLAGS)) as pipeline,
    ):
        _ = pipeline | beam.Create([(1, events(log_of(3)))]) | "Fails" >> beam.ParDo(_Keyed())


def test_a_fault_point_in_the_graph_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from transforms import fault_points

    monkeypatch.setattr(fault_points, "_STEP", "checked")
    monkeypatch.setattr(fault_points, "_ONCE", "md.events.raw/2/7")
    decoded = decode(raw_batch(log_of(60).records), 65_536)[0]
    asked = "RuntimeError: a fault that a test asked for [at md.events.raw/2/7]"
    assert message(_Check(Limits()), decoded) == asked
