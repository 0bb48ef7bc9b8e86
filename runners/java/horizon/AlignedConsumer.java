package horizon;

import java.time.Duration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/**
 * A consumer that reads no partition far ahead of the others: while one is behind, those whose log time is more than
 * `maxDriftMs` after it are paused.
 *
 * <p>Kafka gives each partition the same number of bytes. Where one holds more of them a second than another, a reader
 * that catches up would have read the sparse one to its end when the dense one has hardly begun, and all that it read
 * ahead waits in state for the clock of the slowest. Only a partition with records left counts as behind, so one that
 * is empty, drained or hours behind on its own clock keeps no other from being read. Flink calls this watermark
 * alignment; Beam has none.
 */
public final class AlignedConsumer extends KafkaConsumer<byte[], byte[]> {
  private final long maxDriftMs;
  private final Map<TopicPartition, Long> clocks = new HashMap<>(); // newest log time read, in ms

  public AlignedConsumer(Map<String, Object> config, long maxDriftMs) {
    super(config);
    this.maxDriftMs = maxDriftMs;
  }

  @Override
  public ConsumerRecords<byte[], byte[]> poll(Duration timeout) {
    align();
    ConsumerRecords<byte[], byte[]> records = super.poll(timeout);
    for (ConsumerRecord<byte[], byte[]> record : records) {
      clocks.merge(new TopicPartition(record.topic(), record.partition()), record.timestamp(), Math::max);
    }
    return records;
  }

  /** The one that KafkaIO calls. */
  @Override
  @SuppressWarnings("deprecation")
  public ConsumerRecords<byte[], byte[]> poll(long timeoutMs) {
    return poll(Duration.ofMillis(timeoutMs));
  }

  private void align() {
    long slowest = Long.MAX_VALUE;
    for (TopicPartition partition : assignment()) {
      Long clock = clocks.get(partition);
      if (clock != null && currentLag(partition).orElse(0) > 0) {
        slowest = Math.min(slowest, clock);
      }
    }
    Set<TopicPartition> ahead = new HashSet<>();
    for (TopicPartition partition : assignment()) {
      Long clock = clocks.get(partition);
      if (clock != null && clock - maxDriftMs > slowest) {
        ahead.add(partition);
      }
    }
    Set<TopicPartition> again = new HashSet<>(paused());
    again.removeAll(ahead);
    resume(again);
    pause(ahead);
  }
}
