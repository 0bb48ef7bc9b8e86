package horizon;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.clients.consumer.ConsumerInterceptor;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.record.TimestampType;

/**
 * Gives whoever polls one record a partition, whose value is a block: all records of that partition, column by column.
 *
 * <p>The block's record has the offset of its last record, so that a reader goes on behind it, and the newest log time
 * that counts, or none; the records' own times and their types are in the block. transforms/blocks.py has the layout
 * and reads it.
 */
public final class Blocks implements ConsumerInterceptor<byte[], byte[]> {
  /** Of a block without a log time that counts. */
  static final long NO_TIME = ConsumerRecord.NO_TIMESTAMP;

  // what no calendar of a market has is a wrong unit, and would end all time; as transforms/log_clock.py has it
  private static final long FIRST_MS = 1_230_768_000_000L; // the year 2009
  private static final long END_MS = 253_370_764_800_000L; // the year 9999

  private static final int MAGIC = 0x4b4c4248; // "HBLK"
  private static final int VERSION = 1;
  /** Beyond it a new block begins; a record larger than this is a block of its own. */
  private static final int MAX_BYTES = 512 * 1024;

  private static final int HEAD_BYTES = 6 * 4;
  private static final int ROW_BYTES = 8 + 8 + 4 + 4 + 1;
  private static final int HEADER_BYTES = 3 * 4;
  private static final int UTF8_BYTES = 3; // at most, for each char of a name

  // what the client of a replay can tell of headers, so that both say the same; as transforms/headers.py has it
  private static final int MAX_HEADERS = 100_000;
  private static final String NOT_UTF8 = "\ufffd";
  private static final Header[] NONE = {};

  /** What this throws Kafka only logs, and gives the records as they are; Python then finds no block and says so. */
  @Override
  public ConsumerRecords<byte[], byte[]> onConsume(ConsumerRecords<byte[], byte[]> records) {
    Map<TopicPartition, List<ConsumerRecord<byte[], byte[]>>> blocks = new HashMap<>();
    for (TopicPartition partition : records.partitions()) {
      blocks.put(partition, blocks(records.records(partition)));
    }
    return new ConsumerRecords<>(blocks);
  }

  private static List<ConsumerRecord<byte[], byte[]>> blocks(List<ConsumerRecord<byte[], byte[]>> records) {
    List<ConsumerRecord<byte[], byte[]>> found = new ArrayList<>();
    int from = 0;
    long bytes = 0;
    for (int i = 0; i < records.size(); i++) {
      ConsumerRecord<byte[], byte[]> record = records.get(i);
      long more = ROW_BYTES + length(record.value()) + length(record.key()) + headerBound(record.headers());
      if (i > from && bytes + more > MAX_BYTES) {
        found.add(block(records.subList(from, i)));
        from = i;
        bytes = 0;
      }
      bytes += more;
    }
    if (from < records.size()) {
      found.add(block(records.subList(from, records.size())));
    }
    return found;
  }

  private static ConsumerRecord<byte[], byte[]> block(List<ConsumerRecord<byte[], byte[]>> records) {
    ConsumerRecord<byte[], byte[]> last = records.get(records.size() - 1);
    long newest = NO_TIME;
    long values = 0;
    long keys = 0;
    long headers = 0;
    for (ConsumerRecord<byte[], byte[]> record : records) {
      long time = record.timestamp();
      newest = time >= FIRST_MS && time < END_MS ? Math.max(newest, time) : newest;
      values += length(record.value());
      keys += length(record.key());
      headers += headerBound(record.headers());
    }
    byte[] value = encoded(records, values, keys, headers == 0 ? new byte[0] : headers(records, headers));
    return new ConsumerRecord<>(
        last.topic(), last.partition(), last.offset(), newest, TimestampType.CREATE_TIME,
        ConsumerRecord.NULL_SIZE, value.length, null, value, new RecordHeaders(), Optional.empty());
  }

  /** All columns in one walk, each at a place of its own: records lie far apart, and each is fetched once. */
  private static byte[] encoded(List<ConsumerRecord<byte[], byte[]>> records, long values, long keys, byte[] headers) {
    int count = records.size();
    ByteBuffer out = littleEndian(HEAD_BYTES + (long) count * ROW_BYTES + values + keys + headers.length);
    out.putInt(MAGIC).putInt(VERSION).putInt(count).putInt((int) values).putInt((int) keys).putInt(headers.length);
    int offset = HEAD_BYTES;
    int time = offset + 8 * count;
    int valueLength = time + 8 * count;
    int keyLength = valueLength + 4 * count;
    int type = keyLength + 4 * count;
    int value = type + count;
    int key = value + (int) values;
    for (ConsumerRecord<byte[], byte[]> record : records) {
      out.putLong(offset, record.offset()).putLong(time, record.timestamp());
      out.putInt(valueLength, lengthOrNull(record.value())).putInt(keyLength, lengthOrNull(record.key()));
      out.put(type, (byte) record.timestampType().id);
      value = putUnlessNull(out, value, record.value());
      key = putUnlessNull(out, key, record.key());
      offset += 8;
      time += 8;
      valueLength += 4;
      keyLength += 4;
      type++;
    }
    return out.put(key, headers).array();
  }

  /** For each header: row, length of its name, length of its value, name, value. */
  private static byte[] headers(List<ConsumerRecord<byte[], byte[]>> records, long bound) {
    ByteBuffer out = littleEndian(bound);
    for (int row = 0; row < records.size(); row++) {
      for (Header header : known(records.get(row).headers())) {
        byte[] name = name(header.key()).getBytes(StandardCharsets.UTF_8);
        out.putInt(row).putInt(name.length).putInt(lengthOrNull(header.value())).put(name);
        out.position(putUnlessNull(out, out.position(), header.value()));
      }
    }
    return Arrays.copyOf(out.array(), out.position());
  }

  private static long headerBound(Headers headers) {
    long bytes = 0;
    for (Header header : known(headers)) {
      bytes += HEADER_BYTES + (long) header.key().length() * UTF8_BYTES + length(header.value());
    }
    return bytes;
  }

  private static Header[] known(Headers headers) {
    Header[] found = headers.toArray(); // an iterator costs more, and most records have none
    return found.length > MAX_HEADERS ? NONE : found;
  }

  /** A header's name up to its first NUL; a fixed one where it is not UTF-8. */
  private static String name(String sent) {
    int end = sent.indexOf('\0');
    String name = end < 0 ? sent : sent.substring(0, end);
    return name.contains(NOT_UTF8) ? NOT_UTF8 : name;
  }

  private static ByteBuffer littleEndian(long bytes) {
    return ByteBuffer.allocate(Math.toIntExact(bytes)).order(ByteOrder.LITTLE_ENDIAN);
  }

  private static int length(byte[] bytes) {
    return bytes == null ? 0 : bytes.length;
  }

  private static int lengthOrNull(byte[] bytes) {
    return bytes == null ? -1 : bytes.length;
  }

  /** Where the bytes end. */
  private static int putUnlessNull(ByteBuffer out, int at, byte[] bytes) {
    if (bytes == null) {
      return at;
    }
    out.put(at, bytes);
    return at + bytes.length;
  }

  @Override
  public void onCommit(Map<TopicPartition, OffsetAndMetadata> offsets) {}

  @Override
  public void close() {}

  @Override
  public void configure(Map<String, ?> configs) {}
}
