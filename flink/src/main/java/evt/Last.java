package evt;

import org.apache.flink.table.functions.AggregateFunction;

/** evt's {@code last(x)}: x of the event with the greatest event_time and, of several, the greatest event_id. */
public final class Last extends AggregateFunction<Double, RankedValue> {
    private static final long serialVersionUID = 1;

    @Override
    public RankedValue createAccumulator() {
        return new RankedValue();
    }

    /** Adds a value, with the instant and the id of its event, and its own text. */
    public void accumulate(RankedValue held, Double value, Long time, String id, String text) {
        if (value != null && (held.value == null || held.compare(time, id, text) > 0)) {
            held.keep(value, time, id, text);
        }
    }

    public void merge(RankedValue held, Iterable<RankedValue> others) {
        others.forEach(other -> accumulate(held, other.value, other.time, other.id, other.text));
    }

    @Override
    public Double getValue(RankedValue held) {
        return held.value;
    }
}
