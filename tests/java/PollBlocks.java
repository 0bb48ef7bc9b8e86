import horizon.AlignedConsumer;
import horizon.Blocks;
import java.io.BufferedOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads a topic to its end by the live job's consumer and interceptor, and writes the blocks as BlocksOfInput does;
 * tests/transforms/test_both_readers.py reads them. Arguments: brokers, topic, partitions.
 */
public final class PollBlocks {
  @SuppressWarnings("deprecation")
  public static void main(String[] arguments) throws IOException {
    Map<String, Object> config = new HashMap<>();
    config.put("bootstrap.servers", arguments[0]);
    config.put("auto.offset.reset", "none");
    config.put("enable.auto.commit", "false");
    config.put("isolation.level", "read_committed");
    config.put("max.poll.records", "50000");
    config.put("interceptor.classes", Blocks.class.getName());
    config.put("key.deserializer", ByteArrayDeserializer.class.getName());
    config.put("value.deserializer", ByteArrayDeserializer.class.getName());
    List<TopicPartition> partitions = new ArrayList<>();
    for (int partition = 0; partition < Integer.parseInt(arguments[2]); partition++) {
      partitions.add(new TopicPartition(arguments[1], partition));
    }
    DataOutputStream out = new DataOutputStream(new BufferedOutputStream(System.out));
    try (AlignedConsumer consumer = new AlignedConsumer(config, 1_000, Map.of())) {
      consumer.assign(partitions);
      Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
      long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
      while (System.nanoTime() < deadline
          && partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
        for (ConsumerRecord<byte[], byte[]> block : consumer.poll(1_000L)) {
          BlocksOfInput.write(out, block);
        }
      }
    }
    out.flush();
  }
}
