package evt;

import java.math.BigDecimal;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.functions.AggregateFunction;

/** evt's {@code approx_percentile(x, q)}: q is a text, because it counts as the decimal that is written. */
@FunctionHint(
        accumulator =
                @DataTypeHint(
                        value = "RAW",
                        bridgedTo = PercentileState.class,
                        rawSerializer = StateSerializer.OfPercentile.class))
public final class ApproxPercentile extends AggregateFunction<Double, PercentileState> {
    private static final long serialVersionUID = 1;

    @Override
    public PercentileState createAccumulator() {
        return new PercentileState();
    }

    public void accumulate(PercentileState state, Double value, String q) {
        state.select(q);
        if (value != null) {
            state.add(value);
        }
    }

    public void merge(PercentileState state, Iterable<PercentileState> others) {
        others.forEach(state::merge);
    }

    @Override
    public Double getValue(PercentileState state) {
        return state.percentile();
    }
}
