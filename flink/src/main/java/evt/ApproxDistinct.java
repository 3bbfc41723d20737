package evt;

import java.nio.charset.StandardCharsets;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.FunctionHint;
import org.apache.flink.table.functions.AggregateFunction;

/** evt's {@code approx_distinct(x)}: the number of distinct texts. */
@FunctionHint(
        accumulator =
                @DataTypeHint(value = "RAW", bridgedTo = DistinctState.class, rawSerializer = StateSerializer.OfDistinct.class))
public final class ApproxDistinct extends AggregateFunction<Double, DistinctState> {
    private static final long serialVersionUID = 1;

    @Override
    public DistinctState createAccumulator() {
        return new DistinctState();
    }

    public void accumulate(DistinctState state, String text) {
        if (text != null) {
            state.add(text.getBytes(StandardCharsets.UTF_8));
        }
    }

    public void merge(DistinctState state, Iterable<DistinctState> others) {
        others.forEach(state::merge);
    }

    @Override
    public Double getValue(DistinctState state) {
        return state.estimate();
    }
}
