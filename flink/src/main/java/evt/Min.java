package evt;

import org.apache.flink.table.functions.AggregateFunction;

/** evt's {@code min(x)}: NaN is greater than every number. */
public final class Min extends AggregateFunction<Double, Min.Held> {
    private static final long serialVersionUID = 1;

    /** The value so far. */
    public static final class Held {
        public Double value;
    }

    @Override
    public Held createAccumulator() {
        return new Held();
    }

    public void accumulate(Held held, Double value) {
        if (value != null && (held.value == null || Double.compare(value, held.value) < 0)) {
            held.value = Numbers.canonical(value);
        }
    }

    public void merge(Held held, Iterable<Held> others) {
        others.forEach(other -> accumulate(held, other.value));
    }

    @Override
    public Double getValue(Held held) {
        return held.value;
    }
}
