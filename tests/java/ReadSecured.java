import horizon.AlignedConsumer;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads a record of partition 0 of a topic by settings as KafkaIO is given them, commits, and says so. Arguments: topic,
 * properties files of those settings. tests/runners/test_kafka_config.py runs it.
 */
public final class ReadSecured {
  public static void main(String[] arguments) throws Exception {
    for (String file : List.of(arguments).subList(1, arguments.length)) {
      read(arguments[0], Path.of(file));
    }
  }

  private static void read(String topic, Path file) throws Exception {
    Properties settings = new Properties();
    try (Reader reader = Files.newBufferedReader(file)) {
      settings.load(reader);
    }
    Map<String, Object> config = new HashMap<>();
    settings.forEach((name, value) -> config.put((String) name, value));
    config.put("key.deserializer", ByteArrayDeserializer.class.getName());
    config.put("value.deserializer", ByteArrayDeserializer.class.getName());
    try (AlignedConsumer consumer = new AlignedConsumer(config, 1_000, Map.of())) {
      consumer.assign(List.of(new TopicPartition(topic, 0)));
      long deadline = System.nanoTime() + Duration.ofSeconds(40).toNanos();
      while (System.nanoTime() < deadline) {
        for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
          consumer.commitSync();
          System.out.println("read offset " + record.offset());
          return;
        }
      }
    }
  }
}
