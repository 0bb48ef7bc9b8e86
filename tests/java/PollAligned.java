import horizon.AlignedConsumer;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads a topic as KafkaIO does; a line a poll: "partition offset timestamp" of each record, tests/runners/test_aligned.py
 * reads them. Arguments: brokers, topic, partitions, records to read, drift in ms, records a poll.
 */
public final class PollAligned {
  @SuppressWarnings("deprecation")
  public static void main(String[] arguments) {
    Map<String, Object> config = new HashMap<>();
    config.put("bootstrap.servers", arguments[0]);
    config.put("auto.offset.reset", "earliest");
    config.put("enable.auto.commit", "false");
    config.put("max.poll.records", arguments[5]);
    config.put("max.partition.fetch.bytes", "4096");
    config.put("key.deserializer", ByteArrayDeserializer.class.getName());
    config.put("value.deserializer", ByteArrayDeserializer.class.getName());
    List<TopicPartition> partitions = new java.util.ArrayList<>();
    for (int partition = 0; partition < Integer.parseInt(arguments[2]); partition++) {
      partitions.add(new TopicPartition(arguments[1], partition));
    }
    try (AlignedConsumer consumer = new AlignedConsumer(config, Long.parseLong(arguments[4]), Map.of())) {
      consumer.assign(partitions);
      long deadline = System.nanoTime() + Duration.ofSeconds(40).toNanos();
      for (int left = Integer.parseInt(arguments[3]); left > 0 && System.nanoTime() < deadline; ) {
        StringBuilder line = new StringBuilder();
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(1_000L)) {
          line.append(record.partition()).append(' ').append(record.offset()).append(' ').append(record.timestamp()).append(',');
          left--;
        }
        System.out.println(line);
      }
    }
  }
}
