package horizon;

import java.util.Optional;
import org.apache.beam.sdk.io.kafka.KafkaRecord;
import org.apache.beam.sdk.io.kafka.TimestampPolicy;
import org.apache.beam.sdk.transforms.windowing.BoundedWindow;
import org.joda.time.Instant;

/**
 * The clock of a partition: its newest log time, as transforms/log_clock.py has it. Beacons keep it going.
 *
 * <p>KafkaIO's own policies take the wall clock for that of a partition that was read to its end. A record that comes
 * there later with an older log time then finds its window closed, though nothing in the log says so. Only where nobody
 * writes beacons is there no other way.
 */
final class LogClock extends TimestampPolicy<byte[], byte[]> {
  private final boolean hasBeacons;
  private Instant newest;

  LogClock(Optional<Instant> before, boolean hasBeacons) {
    this.newest = before.orElse(BoundedWindow.TIMESTAMP_MIN_VALUE);
    this.hasBeacons = hasBeacons;
  }

  /** Of a block, whose time is that of the newest record in it. */
  @Override
  public Instant getTimestampForRecord(PartitionContext context, KafkaRecord<byte[], byte[]> block) {
    if (block.getTimestamp() != Blocks.NO_TIME) {
      goOnTo(new Instant(block.getTimestamp()));
    }
    return newest;
  }

  /** Of a partition that never held a record the beginning of time. */
  @Override
  public Instant getWatermark(PartitionContext context) {
    boolean isKnown = newest.isAfter(BoundedWindow.TIMESTAMP_MIN_VALUE);
    if (!hasBeacons && isKnown && context.getMessageBacklog() == 0) {
      goOnTo(context.getBacklogCheckTime());
    }
    return newest;
  }

  /** What lies before the first record that is read; null: nothing. */
  void goOnTo(Long timeMs) {
    if (timeMs != null) {
      goOnTo(new Instant(timeMs));
    }
  }

  private void goOnTo(Instant time) {
    if (time.isAfter(newest)) {
      newest = time;
    }
  }
}
