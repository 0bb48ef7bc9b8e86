"""Equal runs are called equal wherever they end; with one bit, row or record changed they are called different."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.options import MarketDataConfig
from runners.compare import Verdict, compare
from runners.dataset_files import DATASETS, read_dataset
from runners.reach import IN_FILES_US, Reach, seen_in
from schemas.market_data_pb2 import MarketDataEvent
from schemas.units import US_PER_S
from tests.oracle import Place, clock_of
from tests.testing import T0_US, Log, Recorded, config_with, raw_batch, run, trade
from transforms.datasets import EVENTS, Dataset
from transforms.read_offsets import Manifest, Stretch

PARTITIONS = 3
CONFIG: MarketDataConfig = config_with(horizon_us=20 * US_PER_S, slack_us=5 * US_PER_S)
LAGS_MS = (-4_000, 0, 0, 0, 50, 2_500, 19_990, 20_010, 40_000)  # the last two are late
START, STOP = 0.25, 0.7  # of the log, where it is cut


def made() -> Log:
    """150 s of trades and tickers with copies, conflicts, late records and rejects on every border there may be."""
    dice, log, sent = random.Random(7), Log(), list[tuple[int, MarketDataEvent | bytes]]()
    for number in range(600):
        at_ms = number * 250
        for _ in range(1 + (dice.random() < 0.2)):
            price, symbol = dice.choice([1.5, 1.5, 1.5, 2.5]), dice.choice("AB")
            event = trade(at_ms * 1_000, price, trade_id=str(number), symbol=symbol, event_type=2 * (number % 3 == 0))
            sent.append((at_ms + dice.choice(LAGS_MS), event))
        if number % 10 == 0:
            sent.append((at_ms, b"\xff" * (1 + number % 7)))
    for log_ms, value in sorted(sent, key=lambda one: one[0]):
        log_time_us = T0_US + (log_ms + dice.choice([0, 0, -700])) * 1_000
        log.add(value, partition=dice.randrange(PARTITIONS), log_time_us=log_time_us)
    return log


def written(root: Path, dataset: Dataset, table: pa.Table) -> None:
    """A dataset as one file, which is quickly read."""
    (root / dataset.name).mkdir(parents=True)
    pq.write_table(table, root / dataset.name / "all.parquet")


class Ends:
    """A log with its clocks, and what lies between two edges of it."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.clocks = clock_of({record.place: record.log_time_us for record in log.records})
        self.whole = {p: sum(one.partition == p for one in log.records) for p in range(PARTITIONS)}

    def at(self, part: float, shift: int = 0) -> dict[int, int]:
        """So far in each partition, `shift` records further in each than in the one before."""
        return {p: int(part * end) + p * shift for p, end in self.whole.items()}

    def clock_us(self, partition: int, upto: int) -> int:
        """Of a partition before an offset."""
        return max((us for (p, offset), us in self.clocks.items() if p == partition and offset < upto), default=0)

    def manifest(self, start: dict[int, int], stop: dict[int, int]) -> Manifest:
        """As Log.freeze gives it."""
        ends = {p: self.clock_us(p, offset + 1) for p, offset in stop.items()}
        stretches = tuple(Stretch(self.log.topic, p, start[p], stop[p], ends[p]) for p in stop)
        oldest_us = max((self.clock_us(p, offset + 1) for p, offset in start.items() if offset), default=0)
        return Manifest(stretches, oldest_us, max(self.clock_us(p, offset) for p, offset in stop.items()))

    def reach(self, offsets: dict[int, int]) -> Reach:
        """As reach_at gives it."""
        due_us = min(self.clock_us(p, offset) for p, offset in offsets.items()) - IN_FILES_US
        filed = {p: sum(self._is_filed((p, o), due_us) for o in range(offset)) for p, offset in offsets.items()}
        return Reach(self.log.topic, offsets, due_us, filed)

    def filed(self, reach: Reach) -> list[Recorded]:
        """The records that a stopped job has in its files at least: all that it read later is in its state."""
        return [one for one in self.log.records if one.offset < reach.filed[one.partition]]

    def between(self, start: dict[int, int], stop: dict[int, int]) -> list[Recorded]:
        return [one for one in self.log.records if start[one.partition] <= one.offset < stop[one.partition]]

    def _is_filed(self, place: Place, due_us: int) -> bool:
        return self.clocks[place] <= due_us


@dataclass(frozen=True)
class Case:
    live: Path
    replay: Path
    manifest: Manifest
    reach: Reach | None

    def verdicts(self, live: Path | None = None, replay: Path | None = None) -> dict[str, Verdict]:
        found = compare(
            live or self.live,
            replay or self.replay,
            self.manifest,
            CONFIG.cell.grace_us,
            horizon_us=CONFIG.cell.horizon_us,
            reach=self.reach,
        )
        return {verdict.dataset: verdict for verdict in found}


Offsets = dict[int, int]
Runs = Callable[[str], Case]


@pytest.fixture(scope="module")
def ends() -> Ends:
    return Ends(made())


@pytest.fixture(scope="module")
def cases(ends: Ends, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Each case by its name; a run is made when it is first asked for."""
    none, end = ends.at(0), ends.whole
    root, done = tmp_path_factory.mktemp("runs"), dict[str, Path]()

    def ran(name: str, records: list[Recorded], log: Log | None = ends.log) -> Path:
        if name not in done:
            run([raw_batch(records)], root / "written", CONFIG, log)
            for dataset in DATASETS:
                written(root / name, dataset, read_dataset(root / "written", dataset))
            shutil.rmtree(root / "written")
            done[name] = root / name
        return done[name]

    def live() -> Path:
        return ran("live", ends.log.records)

    def cut(name: str, start: Offsets, stop: Offsets, log: Log | None = ends.log) -> tuple[Path, Manifest]:
        records = sorted(ends.between(start, stop), key=lambda one: one.place)
        return ran(name, records, log), ends.manifest(start, stop)

    def stopped(at: dict[int, int]) -> tuple[Path, Reach]:
        reach = ends.reach(at)
        return ran(f"stopped at {at}", ends.filed(reach)), reach

    def case(name: str) -> Case:
        some, uneven = ends.at(STOP), ends.at(STOP, shift=-25)
        match name:
            case "whole":
                return Case(live(), *cut("whole", none, end), None)
            case "after retention":
                return Case(live(), *cut("retained", ends.at(START), end, None), None)
            case "ended earlier":
                return Case(live(), *cut("earlier", none, some), None)
            case "uneven ends":
                return Case(live(), *cut("uneven", none, uneven), None)
            case "both borders":
                return Case(live(), *cut("borders", ends.at(START, shift=9), uneven), None)
            case "stopped, replayed to there":
                files, reach = stopped(uneven)
                return Case(files, *cut("uneven", none, uneven), reach)
            case "stopped, replayed further":
                files, reach = stopped(uneven)
                return Case(files, *cut("whole", none, end), reach)
            case "killed":
                files, _ = stopped(uneven)
                seen = seen_in(read_dataset(files, EVENTS), CONFIG.cell.horizon_us)
                return Case(files, *cut("whole", none, end), seen)
        raise KeyError(name)

    return case


CASES = (
    "whole",
    "after retention",
    "ended earlier",
    "uneven ends",
    "both borders",
    "stopped, replayed to there",
    "stopped, replayed further",
    "killed",
)


@pytest.mark.parametrize("name", CASES)
def test_equal_runs_are_called_equal(cases: Runs, name: str) -> None:
    case = cases(name)
    verdicts = case.verdicts()
    assert {name: (one.difference, one.cause) for name, one in verdicts.items() if not one.equal} == {}
    for dataset, verdict in verdicts.items():
        assert verdict.live_rows >= (1 if dataset == "late" else 4), (dataset, verdict)
        assert verdict.live_rows == verdict.replay_rows
    assert any(one["copies"] for one in read_dataset(case.live, EVENTS, ("copies",)).to_pylist())


def test_that_two_runs_have_not_the_same_files_shows_that_the_borders_cut_something(cases: Runs) -> None:
    for name in CASES[1:]:
        verdicts = cases(name).verdicts()
        for dataset in ("events", "bars", "late", "rejects"):
            assert verdicts[dataset].live_left_out != verdicts[dataset].replay_left_out, (name, dataset)


FIELDS = {
    "events": ("price", "copies", "received_at"),
    "bars": ("high", "volume", "identity_digest", "version"),
    "stats": ("max_price", "event_count", "lineage"),
    "late": ("reason", "lag_us", "price"),
    "rejects": ("detail", "value"),
}
PLACED = ("late", "rejects")


@pytest.mark.parametrize("side", ["live", "replay"])
@pytest.mark.parametrize("name", CASES)
def test_one_bit_one_row_less_or_one_more_is_called_different(
    cases: Runs, name: str, side: str, tmp_path: Path
) -> None:
    case = cases(name)
    equal = case.verdicts()
    for dataset in DATASETS:
        table = read_dataset(getattr(case, side), dataset)
        row = table.to_pylist().index(compared_row(case, dataset, equal[dataset.name]))
        for field in FIELDS[dataset.name] if name == "whole" else FIELDS[dataset.name][:1]:
            found = changed(case, side, dataset, flipped(table, row, field), tmp_path)
            assert f": {field} is " in str(found[dataset.name].difference), (dataset.name, field, found[dataset.name])
            assert [other for other, one in found.items() if not one.equal] == [dataset.name]
        lacking = table.filter(pa.array([number != row for number in range(len(table))]))
        found = changed(case, side, dataset, lacking, tmp_path)
        other = "replay" if side == "live" else "live"
        assert str(found[dataset.name].difference).startswith(f"only in {other}: "), (dataset.name, found[dataset.name])
        more = pa.concat_tables([table, table.slice(row, 1)])
        found = changed(case, side, dataset, more, tmp_path)
        assert str(found[dataset.name].difference).startswith(f"only in {side}: "), (dataset.name, found[dataset.name])


def compared_row(case: Case, dataset: Dataset, verdict: Verdict) -> dict[str, object]:
    """A row that both have, in the middle of what is compared."""
    ours, theirs = (read_dataset(root, dataset).to_pylist() for root in (case.live, case.replay))
    both = [row for row in ours if row in theirs]
    if dataset.name not in PLACED:
        after_us, until_us = verdict.after_us or 0, verdict.until_us or 0
        begins = "event_time" if "event_time" in both[0] else "window_start"
        ends_ = "event_time" if "event_time" in both[0] else "window_end"
        middle_us = (max(after_us, T0_US) + until_us) // 2
        both = [one for one in both if us(one[begins]) > after_us and us(one[ends_]) + US_PER_S <= until_us]
        return min(both, key=lambda one: abs(us(one[begins]) - middle_us))
    places = {one.partition: (one.start, one.stop) for one in case.manifest.stretches}
    if case.reach is not None:
        places = {p: (start, min(stop, case.reach.filed.get(p, 0))) for p, (start, stop) in places.items()}
    both = [
        one
        for one in both
        if places[one["partition"]][0] <= one["offset"] < places[one["partition"]][1]
        and one.get("reason") != "identity_conflict"
    ]
    return both[-1]


def us(time: object) -> int:
    return pa.scalar(time, pa.timestamp("us", "UTC")).value  # type: ignore[no-any-return]


def flipped(table: pa.Table, row: int, field: str) -> pa.Table:
    """The table with another value in one field of a row: the lowest bit of it, or one place more."""
    values, kind = table[field].to_pylist(), table.schema.field(field).type
    value = values[row]
    if pa.types.is_floating(kind):
        bits = pa.array([value], kind).view(pa.int64())[0].as_py() ^ 1
        value = pa.array([bits], pa.int64()).view(kind)[0].as_py()
    elif isinstance(value, bytes):
        value = value[:-1] + bytes([value[-1] ^ 1])
    elif isinstance(value, str):
        value = value[:-1] + chr(ord(value[-1]) ^ 1)
    elif isinstance(value, list):
        fields = [one.name for one in kind.value_type]
        value = [*value, dict.fromkeys(fields, 0)]
    elif value is None:
        value = 0
    else:
        value = value + type(value)(1) / 10**18 if pa.types.is_decimal(kind) else value ^ 1
    values[row] = value
    column = pa.array(values, kind)
    return table.set_column(table.schema.get_field_index(field), table.schema.field(field), column)


def changed(case: Case, side: str, dataset: Dataset, table: pa.Table, tmp_path: Path) -> dict[str, Verdict]:
    """The verdicts with other rows of a dataset on one side."""
    root = tmp_path / "changed"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(getattr(case, side), root, ignore=shutil.ignore_patterns(dataset.name))
    written(root, dataset, table)
    return case.verdicts(**{side: root})


def test_zeros_of_two_signs_are_not_the_same_bits(cases: Runs, tmp_path: Path) -> None:
    case = cases("whole")
    table, index = read_dataset(case.live, EVENTS), EVENTS.record.arrow.get_field_index("price")
    for side, zero in (("live", 0.0), ("replay", -0.0)):
        column = pa.array([zero] * len(table), pa.float64())
        changed(case, side, EVENTS, table.set_column(index, table.schema.field(index), column), tmp_path)
        (tmp_path / "changed").rename(tmp_path / side)
    found = case.verdicts(tmp_path / "live", tmp_path / "replay")["events"]
    assert "price is 0.0 live, -0.0 in replay" in str(found.difference)
