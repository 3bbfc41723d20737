package evt;

import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.functions.AggregateFunction;

/** evt's {@code avg(x)}: the exact sum of the decimals divided by the count, rounded once. */
@FunctionHint(
        accumulator =
                @DataTypeHint(value = "RAW", bridgedTo = SumState.class, rawSerializer = StateSerializer.OfSum.class))
public final class Avg extends AggregateFunction<Double, SumState> {
    private static final long serialVersionUID = 1;

    @Override
    public SumState createAccumulator() {
        return new SumState();
    }

    /** Adds a number as written, whose text is a number. */
    public void accumulate(SumState state, String written) {
        if (written != null) {
            Decimals.written(written, state);
        }
    }

    /** Adds a double, which counts as its shortest text. */
    public void accumulate(SumState state, Double value) {
        if (value != null) {
            Decimals.shortest(value, state);
        }
    }

    public void merge(SumState state, Iterable<SumState> others) {
        others.forEach(state::merge);
    }

    @Override
    public Double getValue(SumState state) {
        return state.mean();
    }
}
