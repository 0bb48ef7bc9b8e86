import horizon.Blocks;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.record.TimestampType;

/** What one poll brought comes in, the interceptor's records go out; tests/transforms/test_blocks.py is at both ends. */
public final class BlocksOfInput {
  public static void main(String[] arguments) throws IOException {
    DataInputStream in = new DataInputStream(System.in);
    Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> polled = new LinkedHashMap<>();
    for (int left = in.readInt(); left > 0; left--) {
      ConsumerRecord<byte[], byte[]> record = record(in);
      TopicPartition partition = new TopicPartition(record.topic(), record.partition());
      polled.computeIfAbsent(partition, any -> new ArrayList<>()).add(record);
    }
    DataOutputStream out = new DataOutputStream(new java.io.BufferedOutputStream(System.out));
    for (ConsumerRecord<byte[], byte[]> block : new Blocks().onConsume(new ConsumerRecords<>(polled))) {
      write(out, block);
    }
    out.flush();
  }

  static void write(DataOutputStream out, ConsumerRecord<byte[], byte[]> block) throws IOException {
    if (block.key() != null || block.headers().iterator().hasNext()) {
      throw new IllegalStateException("a block has a key or headers");
    }
    out.writeInt(block.partition());
    out.writeLong(block.offset());
    out.writeLong(block.timestamp());
    out.writeInt(block.timestampType().id);
    out.writeInt(block.value().length);
    out.write(block.value());
  }

  private static ConsumerRecord<byte[], byte[]> record(DataInputStream in) throws IOException {
    int partition = in.readInt();
    long offset = in.readLong();
    long timestamp = in.readLong();
    TimestampType type = in.readInt() == 1 ? TimestampType.LOG_APPEND_TIME : TimestampType.CREATE_TIME;
    byte[] key = bytes(in);
    byte[] value = bytes(in);
    RecordHeaders headers = new RecordHeaders();
    for (int left = in.readInt(); left > 0; left--) {
      headers.add(new String(bytes(in), StandardCharsets.UTF_8), bytes(in)); // as the client reads a name
    }
    return new ConsumerRecord<>("t", partition, offset, timestamp, type, 0, 0, key, value, headers, Optional.empty());
  }

  private static byte[] bytes(DataInputStream in) throws IOException {
    int length = in.readInt();
    return length < 0 ? null : in.readNBytes(length);
  }
}
