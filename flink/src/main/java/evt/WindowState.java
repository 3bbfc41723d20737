package evt;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Set;
import java.util.TreeSet;
import org.apache.flink.types.Row;

/**
 * A window of a key, the number of its events and the state of its aggregate. It is for windows that Flink does not
 * have. The arguments of the aggregate come as texts, {@code x} and {@code y}.
 */
final class WindowState {
    private static final int TEXTS_MAX = 100_000;

    private final String aggregate;
    private final String q;
    long start;
    long end;
    long rows;
    private long count;
    private long hits;
    private final State state;
    private final Set<String> texts = new TreeSet<>();
    private final RankedValue ranked = new RankedValue();

    private WindowState(String aggregate, String q, State state) {
        this.aggregate = aggregate;
        this.q = q;
        this.state = state;
    }

    /** Returns a window without events. */
    static WindowState empty(String aggregate, String q, long start, long end) {
        State state =
                switch (aggregate) {
                    case "sum", "avg" -> new SumState();
                    case "stddev" -> new StddevState();
                    case "approx_distinct" -> new DistinctState();
                    case "approx_percentile" -> percentile(q);
                    default -> null;
                };
        WindowState window = new WindowState(aggregate, q, state);
        window.start = start;
        window.end = end;
        return window;
    }

    private static PercentileState percentile(String q) {
        PercentileState state = new PercentileState();
        state.select(q);
        return state;
    }

    /** Adds an event. */
    void add(Row event) {
        rows++;
        String x = event.getFieldAs("x");
        String y = event.getFieldAs("y");
        if (aggregate.equals("ratio")) {
            hits += "true".equals(x) ? 1 : 0;
            count += "true".equals(y) ? 1 : 0;
            return;
        }
        if (x == null) {
            return;
        }
        count++;
        switch (aggregate) {
            case "count", "rate" -> {}
            case "sum", "avg" -> Decimals.written(x, (SumState) state);
            case "stddev" -> Decimals.written(x, (StddevState) state);
            case "approx_distinct" -> ((DistinctState) state).add(x.getBytes(StandardCharsets.UTF_8));
            case "approx_percentile" -> ((PercentileState) state).add(Numbers.read(x));
            case "count_distinct" -> addText(x);
            case "min", "max" -> rank(Numbers.read(x), 0L, "", "");
            default -> rank(Numbers.read(x), event.getFieldAs("event_time"), event.getFieldAs("event_id"), y);
        }
    }

    private void addText(String text) {
        if (texts.size() <= TEXTS_MAX) {
            texts.add(text);
        }
    }

    private void rank(Double value, Long time, String id, String text) {
        boolean isNext =
                switch (aggregate) {
                    case "min" -> ranked.value == null || Double.compare(value, ranked.value) < 0;
                    case "max" -> ranked.value == null || Double.compare(value, ranked.value) > 0;
                    case "first" -> ranked.value == null || ranked.compare(time, id, text) < 0;
                    case "last" -> ranked.value == null || ranked.compare(time, id, text) > 0;
                    default -> throw new IllegalArgumentException("no aggregate: " + aggregate);
                };
        if (isNext) {
            ranked.keep(value, time, id, text);
        }
    }

    /** Adds another window of the key, which has no time of its own then. */
    void merge(WindowState other) {
        start = Math.min(start, other.start);
        end = Math.max(end, other.end);
        rows += other.rows;
        count += other.count;
        hits += other.hits;
        if (state instanceof SumState sum) {
            sum.merge((SumState) other.state);
        } else if (state instanceof StddevState stddev) {
            stddev.merge((StddevState) other.state);
        } else if (state instanceof DistinctState distinct) {
            distinct.merge((DistinctState) other.state);
        } else if (state instanceof PercentileState percentile) {
            percentile.merge((PercentileState) other.state);
        }
        other.texts.forEach(this::addText);
        if (other.ranked.value != null) {
            rank(other.ranked.value, other.ranked.time, other.ranked.id, other.ranked.text);
        }
    }

    /** Returns the value; null is NULL. */
    Double result() {
        Double value =
                switch (aggregate) {
                    case "count" -> (Double) (double) count;
                    case "rate" -> (Double) (count * 1e6 / (end - start));
                    case "ratio" -> count == 0 ? null : (Double) ((double) hits / count);
                    case "sum" -> ((SumState) state).sum();
                    case "avg" -> ((SumState) state).mean();
                    case "stddev" -> ((StddevState) state).stddev();
                    case "approx_distinct" -> (Double) ((DistinctState) state).estimate();
                    case "approx_percentile" -> ((PercentileState) state).percentile();
                    case "count_distinct" -> texts.size() > TEXTS_MAX ? null : (Double) (double) texts.size();
                    default -> ranked.value;
                };
        return value == null ? null : (Double) Numbers.canonical(value);
    }

    /** Restores a window. */
    static WindowState load(byte[] saved) {
        ByteBuffer in = State.reader(saved);
        String aggregate = text(in);
        String q = text(in);
        ByteBuffer bytes = State.reader(bytes(in));
        State state =
                switch (aggregate) {
                    case "sum", "avg" -> SumState.load(bytes);
                    case "stddev" -> StddevState.load(bytes);
                    case "approx_distinct" -> DistinctState.load(bytes);
                    case "approx_percentile" -> PercentileState.load(bytes);
                    default -> null;
                };
        if (state instanceof PercentileState percentile) {
            percentile.select(q);
        }
        WindowState window = new WindowState(aggregate, q, state);
        window.start = in.getLong();
        window.end = in.getLong();
        window.rows = in.getLong();
        window.count = in.getLong();
        window.hits = in.getLong();
        for (long texts = in.getLong(); texts > 0; texts--) {
            window.texts.add(text(in));
        }
        if (in.get() == 1) {
            window.ranked.keep(Double.longBitsToDouble(in.getLong()), in.getLong(), text(in), text(in));
        }
        return window;
    }

    private static byte[] bytes(ByteBuffer in) {
        byte[] bytes = new byte[in.getInt()];
        in.get(bytes);
        return bytes;
    }

    private static String text(ByteBuffer in) {
        return new String(bytes(in), StandardCharsets.UTF_8);
    }

    /** Returns its saved form. */
    byte[] save() {
        SavedForm out = new SavedForm();
        write(out, aggregate);
        write(out, q);
        byte[] saved = state == null ? new byte[0] : state.saved();
        out.writeInt(saved.length);
        out.writeBytes(saved);
        for (long number : new long[] {start, end, rows, count, hits}) {
            out.writeLong(number);
        }
        out.writeLong(texts.size());
        texts.forEach(text -> write(out, text));
        out.writeByte(ranked.value == null ? 0 : 1);
        if (ranked.value != null) {
            out.writeLong(Double.doubleToRawLongBits(ranked.value));
            out.writeLong(ranked.time);
            write(out, ranked.id);
            write(out, ranked.text);
        }
        return out.toByteArray();
    }

    private static void write(SavedForm out, String text) {
        byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
        out.writeInt(bytes.length);
        out.writeBytes(bytes);
    }
}
