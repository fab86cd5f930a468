// What the stores hold, and its bytes: big-endian, floats with their number before them.

import java.nio.ByteBuffer;
import java.util.Arrays;

final class State {
    enum Opened { LOGIN, IMPLICIT, CONTINUED }

    /**
     * An open session, or, without events, what a limit closed, for the session that continues it. `context` is null where there was
     * no LOGIN. `outset` is the customer before the first of the sessions that it continues, which began at `outsetStart`; null where
     * it continues none.
     */
    record Row(long start, long end, Opened opened, float[] context, Customer outset, long outsetStart, int count, byte[] events) {
        static Row begun(Features.Click click, Opened opened) {
            return new Row(click.time(), click.time(), opened, click.context(), null, 0, 0, new byte[0]);
        }

        /** With one more event: its fields, then its numbers, the time since the event before first. */
        Row with(Features.Click click) {
            int size = 2 * click.fields().length + 4 + 4 * click.numbers().length;
            ByteBuffer out = ByteBuffer.wrap(Arrays.copyOf(events, events.length + size)).position(events.length);
            for (short field : click.fields()) out.putShort(field);
            out.putFloat(count == 0 ? 0 : Features.secondsSince(end, click.time()));
            for (float number : click.numbers()) out.putFloat(number);
            return new Row(start, click.time(), opened, context, outset, outsetStart, count + 1, out.array());
        }

        /** What is left of it once a limit has closed it. */
        Row closedByLimit(Customer before) {
            boolean isFirst = outset == null;
            return new Row(start, end, opened, context, isFirst ? before : outset, isFirst ? start : outsetStart, 0, new byte[0]);
        }

        /** The session that goes on with what closedByLimit left. */
        Row continued(long start) {
            return new Row(start, start, Opened.CONTINUED, context, outset, outsetStart, 0, events);
        }

        byte[] bytes() {
            byte[] before = outset == null ? new byte[0] : outset.bytes();
            ByteBuffer out = ByteBuffer.allocate(33 + size(context) + before.length + events.length);
            out.putLong(start).putLong(end).put((byte) opened.ordinal()).putLong(outsetStart).putInt(count);
            put(out, context);
            return out.putInt(before.length).put(before).put(events).array();
        }

        static Row of(byte[] bytes) {
            if (bytes == null) return null;
            ByteBuffer in = ByteBuffer.wrap(bytes);
            long start = in.getLong(), end = in.getLong();
            Opened opened = Opened.values()[in.get()];
            long outsetStart = in.getLong();
            int count = in.getInt();
            float[] context = floats(in);
            byte[] before = rest(in, in.getInt());
            Customer outset = before.length == 0 ? null : Customer.of(before);
            return new Row(start, end, opened, context, outset, outsetStart, count, rest(in, in.remaining()));
        }
    }

    /** After some sessions: the end of the one folded last, the latest end, the latest close; `embedding` is the last one published. */
    record Customer(long sequence, long lastEnd, long latestEnd, long asOf, float[] state, float[] embedding) {
        static Customer unknown(int stateLen) {
            return new Customer(0, 0, 0, 0, new float[stateLen], null);
        }

        /** Something is folded. */
        boolean isKnown() {
            return embedding != null;
        }

        Customer counted() {
            return new Customer(sequence + 1, lastEnd, latestEnd, asOf, state, embedding);
        }

        Customer with(Row row, long asOf, Model.Settled settled) {
            return new Customer(sequence + 1, row.end, Math.max(latestEnd, row.end), asOf, settled.state(), settled.embedding());
        }

        byte[] bytes() {
            ByteBuffer out = ByteBuffer.allocate(32 + size(state) + size(embedding));
            out.putLong(sequence).putLong(lastEnd).putLong(latestEnd).putLong(asOf);
            put(out, state);
            put(out, embedding);
            return out.array();
        }

        static Customer of(byte[] bytes) {
            ByteBuffer in = ByteBuffer.wrap(bytes);
            return new Customer(in.getLong(), in.getLong(), in.getLong(), in.getLong(), floats(in), floats(in));
        }
    }

    private static int size(float[] floats) {
        return floats == null ? 2 : 2 + 4 * floats.length;
    }

    private static void put(ByteBuffer out, float[] floats) {
        out.putShort((short) (floats == null ? -1 : floats.length));
        if (floats != null) for (float value : floats) out.putFloat(value);
    }

    private static float[] floats(ByteBuffer in) {
        int length = in.getShort();
        if (length < 0) return null;
        float[] floats = new float[length];
        for (int at = 0; at < length; at++) floats[at] = in.getFloat();
        return floats;
    }

    private static byte[] rest(ByteBuffer in, int length) {
        byte[] bytes = new byte[length];
        in.get(bytes);
        return bytes;
    }
}
