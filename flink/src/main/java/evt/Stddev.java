package evt;

import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.functions.AggregateFunction;

/** evt's {@code stddev(x)}: the sample standard deviation of the decimals, rounded once. */
@FunctionHint(
        accumulator =
                @DataTypeHint(value = "RAW", bridgedTo = StddevState.class, rawSerializer = StateSerializer.OfStddev.class))
public final class Stddev extends AggregateFunction<Double, StddevState> {
    private static final long serialVersionUID = 1;

    @Override
    public StddevState createAccumulator() {
        return new StddevState();
    }

    /** Adds a number as written, whose text is a number. */
    public void accumulate(StddevState state, String written) {
        if (written != null) {
            Decimals.written(written, state);
        }
    }

    /** Adds a double, which counts as its shortest text. */
    public void accumulate(StddevState state, Double value) {
        if (value != null) {
            Decimals.shortest(value, state);
        }
    }

    public void merge(StddevState state, Iterable<StddevState> others) {
        others.forEach(state::merge);
    }

    @Override
    public Double getValue(StddevState state) {
        return state.stddev();
    }
}
