package horizon;

import java.time.Duration;
import java.util.Collection;
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
 * is empty, drained, without a leader or hours behind on its own clock keeps no other from being read for long. Flink
 * calls this watermark alignment; Beam has none.
 */
public final class AlignedConsumer extends KafkaConsumer<byte[], byte[]> {
  private static final long PATIENCE_MS = 5_000;

  private final long maxDriftMs;
  private final Map<String, Long> starts;
  private final Map<TopicPartition, Long> clocks = new HashMap<>(); // newest log time read, in ms
  private final Map<TopicPartition, Long> waitedMs = new HashMap<>(); // in polls that brought nothing of it

  /** `starts`: partition -> the offset to begin at, where the reader has no place of its own; others begin at 0. */
  public AlignedConsumer(Map<String, Object> config, long maxDriftMs, Map<String, Long> starts) {
    super(config);
    this.maxDriftMs = maxDriftMs;
    this.starts = starts;
  }

  /** KafkaIO asks for the position afterwards, or goes to that of its checkpoint. */
  @Override
  public void assign(Collection<TopicPartition> partitions) {
    super.assign(partitions);
    for (TopicPartition partition : partitions) {
      seek(partition, starts.getOrDefault(String.valueOf(partition.partition()), 0L));
    }
  }

  @Override
  public ConsumerRecords<byte[], byte[]> poll(Duration timeout) {
    align();
    long began = System.nanoTime();
    ConsumerRecords<byte[], byte[]> records = super.poll(timeout);
    long tookMs = (System.nanoTime() - began) / 1_000_000;
    for (TopicPartition partition : assignment()) {
      waitedMs.merge(partition, tookMs, Long::sum);
    }
    for (TopicPartition partition : records.partitions()) {
      waitedMs.put(partition, 0L);
      for (ConsumerRecord<byte[], byte[]> record : records.records(partition)) {
        clocks.merge(partition, record.timestamp(), Math::max);
      }
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
      if (isBehind(partition)) {
        slowest = Math.min(slowest, clocks.getOrDefault(partition, Long.MIN_VALUE));
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

  /** Whether it has records left, and they come: one whose leader is gone must not keep the others. */
  private boolean isBehind(TopicPartition partition) {
    return currentLag(partition).orElse(0) > 0
        && (waitedMs.getOrDefault(partition, 0L) < PATIENCE_MS || paused().contains(partition));
  }
}
