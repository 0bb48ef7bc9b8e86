"""Where the collections of the graph go: Parquet files, topics, or both."""

from dataclasses import dataclass

from pipelines.market_data import MarketData
from transforms import datasets, files, topics
from transforms.brokers import Brokers
from transforms.files import WriteFiles
from transforms.fitting import smaller
from transforms.topics import PublishRecords, TopicNames


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """A root directory for the files and a broker for the topics; None leaves that kind out."""

    files_root: str | None = None
    bootstrap_servers: Brokers | None = None
    topic_prefix: str = "md"


def write(market: MarketData, outputs: Outputs, grace_us: int) -> None:
    """Apply the sinks that `outputs` names; the files of events, bars and stats are written inside of build().

    grace_us: microseconds of the log's clock before a file is written.
    """
    if (root := outputs.files_root) is not None:
        wait = grace_us + 100_000  # the last bars of a window are under way for some milliseconds
        refused = [(datasets.LATE_EVENTS, files.late_pieces), (datasets.REJECTS, files.reject_pieces)]
        _ = (market.late, market.rejects) | "WriteRefused" >> WriteFiles("refused", root, wait, refused)
    if (broker := outputs.bootstrap_servers) is not None:
        names = TopicNames(outputs.topic_prefix)
        _ = market.events | "PublishEvents" >> PublishRecords(broker, names, topics.unique_events)
        _ = market.bars | "PublishBars" >> PublishRecords(broker, names, topics.bars)
        _ = market.stats | "PublishStats" >> PublishRecords(broker, names, topics.stats)
        _ = market.late | "PublishLate" >> PublishRecords(broker, names, topics.late_events)
        _ = market.rejects | "PublishRejects" >> PublishRecords(broker, names, topics.rejects, smaller)
