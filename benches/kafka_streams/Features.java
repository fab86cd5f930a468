// From a click's bytes, and from times, to the numbers that the graphs take: docs/model-contract.md. Fields out of attributes are not
// supported; an attribute that is to be a number must be one.

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneId;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

final class Features {
    enum Kind { LOGIN, LOGOUT, PAGE_VIEW, ACTION, TICK }

    /** `key` is that of its session among the customer's; `numbers` those that the manifest lists; `context` that of a LOGIN. */
    record Click(long time, Kind kind, String key, short[] fields, float[] numbers, float[] context) {}

    private record Field(String source, Map<String, Short> known, int buckets) {
        short id(String value) {
            Short id = known.get(value);
            return id != null ? id : (short) (known.size() + 1 + Long.remainderUnsigned(fnv1a64(value), buckets));
        }
    }

    private record Scaled(String name, boolean isLog, double mean, double scale) {
        Scaled(String name, JsonNode node) {
            this(name, node.get("transform").asText().equals("log1p"), node.get("mean").asDouble(), node.get("scale").asDouble());
        }

        float of(double x) {
            double transformed = isLog ? Math.copySign(Math.log1p(Math.abs(x)), x) : x;
            return (float) Math.max(-8, Math.min(8, (transformed - mean) / scale));
        }
    }

    private static final long DAY_MS = 86_400_000;

    private final JsonFactory json = JsonFactory.builder().enable(StreamReadFeature.USE_FAST_DOUBLE_PARSER).build();
    private final List<Field> fields = new ArrayList<>();
    private final List<Scaled> numbers = new ArrayList<>();
    private final List<Scaled> context = new ArrayList<>();

    Features(String folder, JsonNode manifest) throws IOException {
        JsonNode vocabulary = new ObjectMapper().readTree(new File(folder, manifest.at("/vocabulary/file").asText()));
        for (JsonNode field : manifest.path("fields")) {
            String source = field.get("source").asText();
            if (source.contains(".")) throw new IllegalArgumentException("no field out of an attribute: " + source);
            Map<String, Short> known = new HashMap<>();
            vocabulary.path(source).forEach(name -> known.put(name.asText(), (short) (known.size() + 1)));
            fields.add(new Field(source, known, field.get("buckets").asInt()));
        }
        for (JsonNode number : manifest.path("numbers")) {
            numbers.add(new Scaled(number.get("source").asText().replace("attributes.", ""), number));
        }
        for (JsonNode value : manifest.path("context")) context.add(new Scaled(value.get("name").asText(), value));
    }

    Click click(byte[] bytes) {
        String kind = "", name = "", channel = "", device = "", session = "";
        long time = 0;
        float[] numbers = new float[this.numbers.size()], context = null;
        try (JsonParser parser = json.createParser(bytes)) {
            parser.nextToken();
            for (String key = parser.nextFieldName(); key != null; key = parser.nextFieldName()) {
                JsonToken value = parser.nextToken();
                if (value == JsonToken.VALUE_NULL) continue;
                switch (key) {
                    case "event_time" -> time = parser.getLongValue();
                    case "kind" -> kind = parser.getText();
                    case "name" -> name = parser.getText();
                    case "channel" -> channel = parser.getText();
                    case "device_id" -> device = parser.getText();
                    case "session_id" -> session = parser.getText();
                    case "context" -> context = context(parser);
                    case "attributes" -> numbers(parser, numbers);
                    default -> parser.skipChildren();
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        short[] ids = new short[fields.size()];
        for (int at = 0; at < ids.length; at++) {
            Field field = fields.get(at);
            ids[at] = field.id(switch (field.source) {
                case "name" -> name;
                case "kind" -> kind;
                case "channel" -> channel;
                default -> device;
            });
        }
        String key = session.isEmpty() ? "d:" + channel.length() + ":" + channel + "/" + device : "s:" + session;
        return new Click(time, Kind.valueOf(kind), key, ids, numbers, context);
    }

    private void numbers(JsonParser parser, float[] columns) throws IOException {
        for (String key = parser.nextFieldName(); key != null; key = parser.nextFieldName()) {
            parser.nextToken();
            for (int at = 0; at < columns.length; at++) {
                if (numbers.get(at).name.equals(key)) columns[at] = numbers.get(at).of(Double.parseDouble(parser.getText()));
            }
        }
    }

    /** Values, then masks. */
    private float[] context(JsonParser parser) throws IOException {
        float[] columns = new float[2 * context.size()];
        for (String key = parser.nextFieldName(); key != null; key = parser.nextFieldName()) {
            if (parser.nextToken() == JsonToken.VALUE_NULL) continue;
            for (int at = 0; at < context.size(); at++) {
                if (context.get(at).name.equals(key)) {
                    columns[at] = context.get(at).of(parser.getDoubleValue());
                    columns[context.size() + at] = 1;
                }
            }
        }
        return columns;
    }

    private static long fnv1a64(String text) {
        long hash = 0xcbf29ce484222325L;
        for (byte b : text.getBytes(StandardCharsets.UTF_8)) hash = (hash ^ (b & 0xff)) * 0x100000001b3L;
        return hash;
    }

    /** Sine and cosine of the time of day, then of the day of week. */
    static float[] calendar(long ms, ZoneId zone) {
        long local = ms + zone.getRules().getOffset(Instant.ofEpochMilli(ms)).getTotalSeconds() * 1000L;
        double day = 2 * Math.PI * Math.floorMod(local, DAY_MS) / DAY_MS;
        // 1 January 1970 was a Thursday.
        double week = 2 * Math.PI * Math.floorMod(Math.floorDiv(local, DAY_MS) + 3, 7) / 7;
        return new float[] {(float) Math.sin(day), (float) Math.cos(day), (float) Math.sin(week), (float) Math.cos(week)};
    }

    static float secondsSince(long before, long time) {
        return (float) Math.log1p(Math.max(0, time - before) / 1000.0);
    }

    static float hoursSince(long before, long time) {
        return (float) Math.log1p(Math.max(0, time - before) / 3_600_000.0);
    }
}
