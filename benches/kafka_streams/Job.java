// The pipeline's work as a Kafka Streams application, which `make bench-streams` compares dce with: clicks are cut into sessions,
// and a session that closes is encoded, folded into its customer's state and published with the new embedding, exactly once.
//
//   click (Features) ▸ row of its open session (Sessions, a store) ▸ at its close: graphs, one row each (Model) ▸ JSON
//
// It does less than dce. The input must be in order and sound: nothing is checked for duplicates, late clicks, clocks ahead and
// broken records, no closed session can be revised, no rejects are written, and embeddings come without session id, device and source.
//
// Takes: bootstrap servers, application id, topic of clicks, topic of embeddings, the bundle's folder, a folder for its own files, after
// how many events an open session is published too (0: never), and the topic for that.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.dataformat.toml.TomlMapper;
import java.io.File;
import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.AutoOffsetReset;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

final class Job {
    public static void main(String[] args) throws Exception {
        JsonNode manifest = new TomlMapper().readTree(new File(args[4], "manifest.toml"));
        Features features = new Features(args[4], manifest);
        int every = Integer.parseInt(args[6]);
        // For the one thread there is.
        Model model = new Model(args[4], manifest);

        Topology topology = new Topology();
        topology.addSource(AutoOffsetReset.earliest(), "clicks", (click, before) -> ((Features.Click) click.value()).time(),
                new ByteArrayDeserializer(), (topic, bytes) -> features.click(bytes), args[2]);
        topology.addProcessor("sessions", () -> new Sessions(model, every), "clicks");
        topology.addStateStore(store("open"), "sessions");
        topology.addStateStore(store("customers"), "sessions");
        topology.addSink("embeddings", args[3], new ByteArraySerializer(), new ByteArraySerializer(), "sessions");
        if (every > 0) topology.addSink("live", args[7], new ByteArraySerializer(), new ByteArraySerializer(), "sessions");

        KafkaStreams streams = new KafkaStreams(topology, settings(args));
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(30))));
        streams.start();
    }

    private static Properties settings(String[] args) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, args[1]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, args[5]);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
        // The default under exactly once.
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        // What is open and closed again between two commits never reaches the changelog.
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 256 << 20);
        // As dce does.
        settings.put(StreamsConfig.producerPrefix("compression.type"), "lz4");
        settings.put(StreamsConfig.producerPrefix("batch.size"), 256 << 10);
        return settings;
    }

    /** In memory with a changelog: RocksDB costs more. */
    private static StoreBuilder<KeyValueStore<Bytes, byte[]>> store(String name) {
        return Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(name), Serdes.Bytes(), Serdes.ByteArray()).withCachingEnabled();
    }
}
