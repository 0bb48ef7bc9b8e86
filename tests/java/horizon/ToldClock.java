package horizon;

import java.util.Optional;
import java.util.Scanner;
import org.apache.beam.sdk.io.kafka.KafkaRecord;
import org.apache.beam.sdk.io.kafka.KafkaTimestampType;
import org.apache.beam.sdk.io.kafka.TimestampPolicy;
import org.apache.beam.sdk.values.KV;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.joda.time.Instant;

/**
 * A partition's clock is told what KafkaIO tells it, and says what it shows; tests/transforms/test_log_clock.py asks.
 *
 * <p>Arguments: whether there are beacons, and the clock before in ms or "none". Lines in: "block TIME", or "ask BACKLOG
 * WALL". For each line the clock in ms.
 */
public final class ToldClock {
  public static void main(String[] arguments) {
    Optional<Instant> before =
        arguments[1].equals("none") ? Optional.empty() : Optional.of(new Instant(Long.parseLong(arguments[1])));
    TimestampPolicy<byte[], byte[]> clock = new LogClock(before, Boolean.parseBoolean(arguments[0]));
    StringBuilder told = new StringBuilder();
    for (Scanner lines = new Scanner(System.in); lines.hasNext(); ) {
      boolean isBlock = lines.next().equals("block");
      long number = lines.nextLong();
      Instant shown =
          isBlock
              ? clock.getTimestampForRecord(context(1, 0), block(number))
              : clock.getWatermark(context(number, lines.nextLong()));
      told.append(shown.getMillis()).append('\n');
    }
    System.out.print(told);
  }

  private static KafkaRecord<byte[], byte[]> block(long time) {
    return new KafkaRecord<>(
        "t", 0, 0, time, KafkaTimestampType.CREATE_TIME, new RecordHeaders(), KV.of(null, new byte[0]));
  }

  private static TimestampPolicy.PartitionContext context(long backlog, long wall) {
    return new TimestampPolicy.PartitionContext() {
      @Override
      public long getMessageBacklog() {
        return backlog;
      }

      @Override
      public Instant getBacklogCheckTime() {
        return new Instant(wall);
      }
    };
  }
}
