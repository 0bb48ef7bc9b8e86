"""What Beam's worker is changed to do: sizes that count, writes of state that are sent together, no sampling thread."""

import threading

import pyarrow as pa
import pytest
from apache_beam.coders import BytesCoder, VarIntCoder
from apache_beam.coders.coders import GlobalWindowCoder
from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.worker import statecache, statesampler
from apache_beam.runners.worker.bundle_processor import FnApiUserStateContext
from apache_beam.runners.worker.sdk_worker import _Future
from apache_beam.transforms.userstate import BagStateSpec
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.counters import CounterFactory

from transforms import beam_worker

StateKey, StateResponse = beam_fn_api_pb2.StateKey, beam_fn_api_pb2.StateResponse
SPEC = BagStateSpec("parts", BytesCoder())


class Runner:
    """Takes writes, and answers none before `answered_after` of them have come: who waits for the first waits long."""

    def __init__(self, answered_after: int, error: str = "") -> None:
        self.answered_after, self.error = answered_after, error
        self.open: list[_Future[StateResponse]] = []
        self.writes: list[tuple[str, bytes]] = []

    def clear(self, key: StateKey) -> _Future[StateResponse]:
        return self._taken("clear", key)

    def extend(self, key: StateKey, coder: object, elements: object) -> _Future[StateResponse]:
        return self._taken("extend", key)

    def _taken(self, what: str, key: StateKey) -> _Future[StateResponse]:
        self.writes.append((what, key.bag_user_state.key))
        self.open.append(_Future())
        if len(self.writes) >= self.answered_after:
            for answer in self.open:
                answer.set(StateResponse(error=self.error))
        return self.open[-1]


def committed(runner: Runner, keys: int) -> None:
    """Commit a bundle that cleared and wrote the state of so many keys; fails if that does not come to its end."""
    context = FnApiUserStateContext(runner, "step", VarIntCoder(), GlobalWindowCoder())
    for key in range(keys):
        state = context.get_state(SPEC, key, GlobalWindow())
        state.clear()
        state.add(b"value")
    raised: list[Exception] = []

    def commit() -> None:
        try:
            context.commit()
        except RuntimeError as error:
            raised.append(error)

    thread = threading.Thread(target=commit, daemon=True)
    thread.start()
    thread.join(3)
    assert not thread.is_alive(), f"it waits after {len(runner.writes)} of {2 * keys} writes"
    if raised:
        raise raised[0]


def test_all_writes_of_a_bundle_are_sent_in_order_before_any_is_waited_for() -> None:
    runner = Runner(answered_after=20)
    committed(runner, keys=10)
    assert [what for what, _ in runner.writes] == ["clear", "extend"] * 10
    assert len({key for _, key in runner.writes}) == 10


def test_a_bundle_waits_for_the_last_answer() -> None:
    with pytest.raises(AssertionError, match="waits after 20 of 20"):
        committed(Runner(answered_after=21), keys=10)


def test_a_write_that_the_runner_refuses_fails_the_bundle() -> None:
    with pytest.raises(RuntimeError, match="did not take a write of state: no room"):
        committed(Runner(answered_after=2, error="no room"), keys=1)


def test_a_bundle_starts_no_thread_and_the_next_can_follow() -> None:
    sampler = statesampler.StateSampler("stage", CounterFactory())
    threads = threading.active_count()
    sampler.start()
    assert threading.active_count() == threads
    assert statesampler.get_current_tracker() is sampler
    sampler.stop_if_still_running()
    assert statesampler.get_current_tracker() is None
    sampler.reset()
    sampler.start()  # the next bundle of the same steps
    sampler.stop()


def test_the_cache_holds_no_more_than_its_limit_when_all_that_is_left_is_empty() -> None:
    assert statecache.get_deep_size is beam_worker.size_of
    cache = statecache.StateCache(100_000)
    for key in range(10_000):
        cache.put((b"key", key), [])
    assert cache.size() < 250


def test_batches_count_with_their_data() -> None:
    batch = pa.record_batch({"price": pa.array(range(10_000))})
    assert 80_000 < beam_worker.size_of([batch]) < 82_000
    assert beam_worker.size_of([batch, batch]) > 160_000
