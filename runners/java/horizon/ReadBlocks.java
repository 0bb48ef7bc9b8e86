package horizon;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.beam.sdk.expansion.ExternalTransformRegistrar;
import org.apache.beam.sdk.io.kafka.KafkaIO;
import org.apache.beam.sdk.io.kafka.KafkaRecord;
import org.apache.beam.sdk.transforms.ExternalTransformBuilder;
import org.apache.beam.sdk.transforms.PTransform;
import org.apache.beam.sdk.values.PBegin;
import org.apache.beam.sdk.values.PCollection;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * KafkaIO as transforms/read_kafka.py asks for it: records as they are, without a conversion to rows, by a consumer
 * and with a clock of our own. What KafkaIO offers to other languages has none of it.
 */
public final class ReadBlocks implements ExternalTransformRegistrar {
  private static final String URN = "horizon:read_blocks:v1";

  @Override
  public Map<String, ExternalTransformBuilder<?, ?, ?>> knownBuilderInstances() {
    return Map.of(URN, new Builder());
  }

  /** What Python gives; Beam fills it by the setters' names. */
  public static final class Config {
    private String topic;
    private Map<String, String> consumer;
    private Map<String, Long> starts;
    private Map<String, Long> clocksMs;
    private Long maxDriftMs;
    private Boolean hasBeacons;

    public void setTopic(String topic) {
      this.topic = topic;
    }

    public void setConsumer(Map<String, String> consumer) {
      this.consumer = consumer;
    }

    /** Partition -> the offset of the first record to read. */
    public void setStarts(Map<String, Long> starts) {
      this.starts = starts;
    }

    /** Partition -> the newest log time before that record; none where nothing lies before it. */
    public void setClocksMs(Map<String, Long> clocksMs) {
      this.clocksMs = clocksMs;
    }

    public void setMaxDriftMs(Long maxDriftMs) {
      this.maxDriftMs = maxDriftMs;
    }

    public void setHasBeacons(Boolean hasBeacons) {
      this.hasBeacons = hasBeacons;
    }
  }

  private static final class Builder
      implements ExternalTransformBuilder<Config, PBegin, PCollection<KafkaRecord<byte[], byte[]>>> {
    @Override
    public PTransform<PBegin, PCollection<KafkaRecord<byte[], byte[]>>> buildExternal(Config config) {
      long maxDriftMs = config.maxDriftMs;
      boolean hasBeacons = config.hasBeacons;
      Map<String, Long> starts = new HashMap<>(config.starts);
      Map<String, Long> clocksMs = new HashMap<>(config.clocksMs);
      return KafkaIO.<byte[], byte[]>read()
          .withConsumerConfigUpdates(new HashMap<>(config.consumer))
          .withTopics(List.of(config.topic))
          .withKeyDeserializer(ByteArrayDeserializer.class)
          .withValueDeserializer(ByteArrayDeserializer.class)
          .withTimestampPolicyFactory(
              (partition, before) -> {
                LogClock clock = new LogClock(before, hasBeacons);
                clock.goOnTo(clocksMs.get(String.valueOf(partition.partition())));
                return clock;
              })
          .commitOffsetsInFinalize()
          .withConsumerFactoryFn(settings -> new AlignedConsumer(settings, maxDriftMs, starts));
    }
  }
}
