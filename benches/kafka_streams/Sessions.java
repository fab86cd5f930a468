// Cuts clicks into sessions by the rules of dce's defaults, and publishes the customer's embedding when one closes, or has grown. A task
// of Kafka Streams has one partition of the input, and so one of these.

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.StreamWriteFeature;
import com.fasterxml.jackson.core.util.ByteArrayBuilder;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Comparator;
import java.util.PriorityQueue;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;

final class Sessions implements Processor<byte[], Features.Click, byte[], byte[]> {
    static final int EVENTS_MAX = 1_000;
    private static final long GAP_MS = 30 * 60_000;
    private static final long DURATION_MAX_MS = 12 * 3_600_000;

    private enum Reason { LOGOUT, RELOGIN, GAP, DURATION_MAX, EVENTS_MAX }

    /** When a session may have been silent for too long. */
    private record Alarm(long when, long start, Bytes key) {}

    private final Model model;
    /** Publishes an open session after every so many events; 0: never. */
    private final int every;
    private final JsonFactory json = JsonFactory.builder().enable(StreamWriteFeature.USE_FAST_DOUBLE_WRITER).build();
    private final PriorityQueue<Alarm> alarms = new PriorityQueue<>(Comparator.comparingLong(Alarm::when).thenComparing(Alarm::key));
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<Bytes, byte[]> open;
    private KeyValueStore<Bytes, byte[]> customers;

    Sessions(Model model, int every) {
        this.model = model;
        this.every = every;
    }

    @Override
    public void init(ProcessorContext<byte[], byte[]> context) {
        this.context = context;
        open = context.getStateStore("open");
        customers = context.getStateStore("customers");
        try (KeyValueIterator<Bytes, byte[]> rows = open.all()) {
            while (rows.hasNext()) {
                KeyValue<Bytes, byte[]> row = rows.next();
                arm(row.key, State.Row.of(row.value));
            }
        }
    }

    @Override
    public void process(Record<byte[], Features.Click> record) {
        long now = context.currentStreamTimeMs();
        while (!alarms.isEmpty() && alarms.peek().when < now) ring(alarms.poll());
        Features.Click click = record.value();
        if (click.kind() != Features.Kind.TICK) take(record.key(), click);
    }

    private void arm(Bytes key, State.Row row) {
        alarms.add(new Alarm(row.end() + GAP_MS, row.start(), key));
    }

    /** Closes the session if it has been silent for so long, else sets the alarm anew. */
    private void ring(Alarm alarm) {
        State.Row row = State.Row.of(open.get(alarm.key));
        if (row == null || row.start() != alarm.start) return;
        if (row.end() + GAP_MS > alarm.when) {
            arm(alarm.key, row);
            return;
        }
        if (row.count() > 0) publish(customer(alarm.key), row, Reason.GAP, alarm.when);
        open.delete(alarm.key);
    }

    private void take(byte[] customer, Features.Click click) {
        Bytes key = key(customer, click.key());
        State.Row row = State.Row.of(open.get(key));
        boolean isLogin = click.kind() == Features.Kind.LOGIN;
        if (row != null && click.time() - row.end() > GAP_MS) {
            if (row.count() > 0) publish(customer, row, Reason.GAP, row.end() + GAP_MS);
            row = null;
        } else if (row != null && isLogin) {
            if (row.count() > 0) publish(customer, row, Reason.RELOGIN, click.time());
            row = null;
        } else if (row != null && row.count() > 0 && click.time() - row.start() > DURATION_MAX_MS) {
            row = publish(customer, row, Reason.DURATION_MAX, row.end());
        }
        boolean isLogout = click.kind() == Features.Kind.LOGOUT;
        if (isLogout && (row == null || row.count() == 0)) {
            // A lone LOGOUT is no session.
            open.delete(key);
            return;
        }
        boolean isNew = row == null || row.count() == 0;
        if (row == null) row = State.Row.begun(click, isLogin ? State.Opened.LOGIN : State.Opened.IMPLICIT);
        else if (isNew) row = row.continued(click.time());
        row = row.with(click);
        if (isLogout) {
            publish(customer, row, Reason.LOGOUT, click.time());
            open.delete(key);
            return;
        }
        if (isNew) arm(key, row);
        if (row.count() == EVENTS_MAX) row = publish(customer, row, Reason.EVENTS_MAX, row.end());
        else if (every > 0 && row.count() % every == 0) publish(customer, row, null, row.end());
        open.put(key, row.bytes());
    }

    /**
     * Publishes the customer with the session folded in, and gives what a session that continues it would need. Without a reason the
     * session is still open, and stays out of the customer's state.
     */
    private State.Row publish(byte[] name, State.Row row, Reason reason, long time) {
        Bytes key = Bytes.wrap(name);
        byte[] known = customers.get(key);
        State.Customer before = known != null ? State.Customer.of(known) : State.Customer.unknown(model.stateLen);
        State.Row rest = row.closedByLimit(before);
        long asOf = Math.max(before.asOf(), time);
        Model.Settled settled = model.settle(before, row, rest, asOf);
        State.Customer after = reason == null ? before.counted() : before.with(row, asOf, settled);
        customers.put(key, after.bytes());
        long now = context.currentSystemTimeMs();
        byte[] json = json(new String(name, StandardCharsets.UTF_8), before, row, settled, reason, asOf, now);
        if (every > 0) context.forward(new Record<>(name, json, now), "live");
        if (reason != null) context.forward(new Record<>(name, json, now), "embeddings");
        return rest;
    }

    private byte[] json(String name, State.Customer before, State.Row row, Model.Settled settled, Reason reason, long asOf, long now) {
        ByteArrayBuilder bytes = new ByteArrayBuilder(2_000);
        try (JsonGenerator out = json.createGenerator(bytes)) {
            out.writeStartObject();
            out.writeStringField("customer_id", name);
            out.writeNumberField("sequence", before.sequence() + 1);
            out.writeStringField("kind", reason == null ? "PROVISIONAL" : "SESSION_CLOSED");
            array(out, "embedding", settled.embedding());
            out.writeStringField("model", model.id);
            if (before.isKnown()) {
                out.writeNumberField("cosine_shift", Model.cosineShift(before.embedding(), settled.embedding()));
                out.writeNumberField("previous_as_of", before.asOf());
            }
            out.writeNumberField("gate", reason == null ? 1 : settled.gate());
            out.writeObjectFieldStart("scores");
            for (var head : settled.scores().entrySet()) array(out, head.getKey(), head.getValue());
            out.writeEndObject();
            out.writeBooleanField("cold_start", !before.isKnown());
            out.writeNumberField("session_start", row.start());
            out.writeNumberField("session_end", row.end());
            out.writeStringField("opened_by", row.opened().name());
            if (reason != null) {
                out.writeNumberField("closed_at", asOf);
                out.writeStringField("close_reason", reason.name());
            }
            out.writeNumberField("event_count", row.count());
            out.writeNumberField("as_of", asOf);
            out.writeNumberField("emitted_at", now);
            out.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return bytes.toByteArray();
    }

    private static void array(JsonGenerator out, String name, float[] values) throws IOException {
        out.writeArrayFieldStart(name);
        for (float value : values) out.writeNumber(value);
        out.writeEndArray();
    }

    /** The customer, a zero, the key of the session among the customer's. */
    private static Bytes key(byte[] customer, String session) {
        byte[] rest = session.getBytes(StandardCharsets.UTF_8);
        byte[] key = Arrays.copyOf(customer, customer.length + 1 + rest.length);
        System.arraycopy(rest, 0, key, customer.length + 1, rest.length);
        return Bytes.wrap(key);
    }

    private static byte[] customer(Bytes key) {
        int end = 0;
        while (key.get()[end] != 0) end++;
        return Arrays.copyOf(key.get(), end);
    }
}
