// The bundle's graphs through ONNX Runtime, each called with one row, on the calling thread.

import ai.onnxruntime.NodeInfo;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.TensorInfo;
import com.fasterxml.jackson.databind.JsonNode;
import java.io.File;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.IntBuffer;
import java.nio.LongBuffer;
import java.time.ZoneId;
import java.util.Arrays;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;

final class Model {
    /** A row of floats that graphs read and write in place: between two calls nothing is copied. */
    private record Cell(FloatBuffer floats, OnnxTensor tensor) {
        void set(float... values) {
            floats.put(0, values);
        }

        float[] get() {
            float[] values = new float[floats.capacity()];
            floats.get(0, values);
            return values;
        }

        /** Brings it to unit length. */
        float[] unit() {
            float[] values = get();
            double length = Math.sqrt(dot(values, values));
            if (!(length > 0 && length < Double.POSITIVE_INFINITY)) throw new ArithmeticException("an embedding without a length");
            for (int at = 0; at < values.length; at++) values[at] = (float) (values[at] / length);
            set(values);
            return values;
        }
    }

    private record Graph(OrtSession session, Map<String, OnnxTensor> inputs, Map<String, OnnxTensor> outputs) {
        void run() throws OrtException {
            session.run(inputs, outputs).close();
        }
    }

    /** What a session made of its customer; `scores` by the head's name. */
    record Settled(float[] state, float gate, float[] embedding, Map<String, float[]> scores) {}

    final String id;
    final int stateLen;
    private final ZoneId zone;
    private final OrtEnvironment environment = OrtEnvironment.getEnvironment();
    private final Map<String, Cell> cells = new HashMap<>();
    private final OrtSession encoder;
    private final Graph step;
    private final Graph read;
    private final Graph readPrior;
    private final Map<String, Graph> heads = new LinkedHashMap<>();
    private final LongBuffer fields;
    private final FloatBuffer numbers;
    private final IntBuffer length = direct(4).asIntBuffer();
    private final int fieldsLen;
    private final int numbersLen;
    private final float[] noContext;
    /** The encoder's inputs by the number of events, all of them over the same memory. */
    private final Map<String, OnnxTensor>[] inputs;

    @SuppressWarnings({"unchecked", "rawtypes"})
    Model(String folder, JsonNode manifest) throws OrtException {
        id = manifest.get("name").asText() + "@" + manifest.get("version").asText();
        zone = ZoneId.of(manifest.get("timezone").asText());
        stateLen = manifest.at("/dimensions/state").asInt();
        fieldsLen = manifest.path("fields").size();
        numbersLen = 1 + manifest.path("numbers").size();
        noContext = new float[2 * manifest.path("context").size()];
        fields = direct(8 * Sessions.EVENTS_MAX * fieldsLen).asLongBuffer();
        numbers = direct(4 * Sessions.EVENTS_MAX * numbersLen).asFloatBuffer();
        inputs = new Map[Sessions.EVENTS_MAX + 1];
        encoder = load(folder, manifest.at("/graphs/session_encoder"));
        cell("session", manifest.at("/dimensions/session").asInt());
        step = bound(load(folder, manifest.at("/graphs/customer_step")), Map.of());
        OrtSession reader = load(folder, manifest.at("/graphs/customer_read"));
        read = bound(reader, Map.of("state", "state_out", "calendar", "moment"));
        readPrior = bound(reader, Map.of("state", "outset", "calendar", "moment", "embedding", "prior"));
        for (var head : manifest.path("heads").properties()) {
            heads.put(head.getKey(), bound(load(folder, head.getValue()), Map.of("scores", "scores of " + head.getKey())));
        }
    }

    private OrtSession load(String folder, JsonNode graph) throws OrtException {
        try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
            options.setIntraOpNumThreads(1);
            options.setInterOpNumThreads(1);
            return environment.createSession(new File(folder, graph.get("file").asText()).getPath(), options);
        }
    }

    /** Each input and output is the cell of its name, or of the other name that is given for it. */
    private Graph bound(OrtSession session, Map<String, String> others) throws OrtException {
        Graph graph = new Graph(session, new HashMap<>(), new HashMap<>());
        for (NodeInfo node : session.getInputInfo().values()) graph.inputs.put(node.getName(), tensor(node, others));
        for (NodeInfo node : session.getOutputInfo().values()) graph.outputs.put(node.getName(), tensor(node, others));
        return graph;
    }

    private OnnxTensor tensor(NodeInfo node, Map<String, String> others) throws OrtException {
        int width = (int) ((TensorInfo) node.getInfo()).getShape()[1];
        return cell(others.getOrDefault(node.getName(), node.getName()), width).tensor;
    }

    private Cell cell(String name, int width) throws OrtException {
        if (!cells.containsKey(name)) {
            FloatBuffer floats = direct(4 * width).asFloatBuffer();
            cells.put(name, new Cell(floats, OnnxTensor.createTensor(environment, floats, new long[] {1, width})));
        }
        return cells.get(name);
    }

    private static ByteBuffer direct(int bytes) {
        return ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder());
    }

    /** Folds a session into the customer. The prior is read where `prior` has its outset. */
    Settled settle(State.Customer before, State.Row row, State.Row prior, long asOf) {
        try {
            encode(row);
            cells.get("state").set(before.state());
            cells.get("gap").set(before.isKnown() ? Features.hoursSince(before.lastEnd(), row.start()) : 0);
            cells.get("calendar").set(Features.calendar(row.start(), zone));
            cells.get("context").set(row.context() != null ? row.context() : noContext);
            step.run();

            cells.get("ahead").set(Features.hoursSince(Math.max(before.latestEnd(), row.end()), asOf));
            cells.get("moment").set(Features.calendar(asOf, zone));
            read.run();
            float[] embedding = cells.get("embedding").unit();

            State.Customer outset = prior.outset();
            cells.get("outset").set(outset.state());
            cells.get("ahead").set(outset.isKnown() ? Features.hoursSince(outset.latestEnd(), prior.outsetStart()) : 0);
            cells.get("moment").set(Features.calendar(prior.outsetStart(), zone));
            readPrior.run();
            cells.get("prior").unit();

            Map<String, float[]> scores = new LinkedHashMap<>();
            for (var head : heads.entrySet()) {
                head.getValue().run();
                scores.put(head.getKey(), cells.get("scores of " + head.getKey()).get());
            }
            return new Settled(cells.get("state_out").get(), cells.get("gate").floats.get(0), embedding, scores);
        } catch (OrtException e) {
            throw new IllegalStateException(e);
        }
    }

    private void encode(State.Row row) throws OrtException {
        int count = row.count();
        ByteBuffer events = ByteBuffer.wrap(row.events());
        for (int event = 0; event < count; event++) {
            for (int at = 0; at < fieldsLen; at++) fields.put(event * fieldsLen + at, events.getShort());
            for (int at = 0; at < numbersLen; at++) numbers.put(event * numbersLen + at, events.getFloat());
        }
        length.put(0, count);
        if (inputs[count] == null) {
            LongBuffer fields = this.fields.slice(0, count * fieldsLen);
            FloatBuffer numbers = this.numbers.slice(0, count * numbersLen);
            inputs[count] = Map.of(
                    "fields", OnnxTensor.createTensor(environment, fields, new long[] {1, count, fieldsLen}),
                    "numbers", OnnxTensor.createTensor(environment, numbers, new long[] {1, count, numbersLen}),
                    "length", OnnxTensor.createTensor(environment, length, new long[] {1}));
        }
        encoder.run(inputs[count], Map.of("session", cells.get("session").tensor)).close();
    }

    /** Of two vectors of unit length. */
    static double cosineShift(float[] before, float[] after) {
        if (Arrays.equals(before, after)) return 0;
        return Math.max(0, Math.min(2, 1 - dot(before, after) / Math.sqrt(dot(before, before) * dot(after, after))));
    }

    private static double dot(float[] a, float[] b) {
        double sum = 0;
        for (int at = 0; at < a.length; at++) sum += (double) a[at] * b[at];
        return sum;
    }
}
