package evt;

import java.time.Instant;
import org.apache.flink.table.annotation.ArgumentHint;
import org.apache.flink.table.annotation.ArgumentTrait;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.StateHint;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.table.functions.ProcessTableFunction;
import org.apache.flink.types.Row;

/**
 * Windows that Flink does not have: periods of the calendar, and those with a shift or with any slide. An event counts
 * for a window that is open at its stream time; {@code slack} is the out-of-orderness plus the lateness (µs).
 */
@DataTypeHint("ROW<ws BIGINT, we BIGINT, v DOUBLE, n BIGINT>")
public final class FixedWindows extends ProcessTableFunction<Row> {
    private static final long serialVersionUID = 1;

    public void eval(
            Context context,
            @StateHint(type = @DataTypeHint("MAP<BIGINT NOT NULL, BYTES NOT NULL>")) MapView<Long, byte[]> windows,
            @ArgumentHint(ArgumentTrait.SET_SEMANTIC_TABLE) Row event,
            String unit,
            String zone,
            Long size,
            Long slide,
            Long align,
            Long slack,
            String aggregate,
            String quantile)
            throws Exception {
        Layout layout = Layout.of(unit, zone, size, slide, align);
        long time = event.getFieldAs("event_time");
        long bound = (Long) event.getFieldAs("stream_time") - slack;
        for (long[] window : Windows.of(layout, time)) {
            long end = window[1];
            if (bound >= end) {
                continue;
            }
            byte[] saved = windows.get(end);
            WindowState state =
                    saved == null
                            ? WindowState.empty(aggregate, quantile, window[0], end)
                            : WindowState.load(saved);
            state.add(event);
            windows.put(end, state.save());
            context.timeContext(Instant.class).registerOnTime(Windows.timer(end));
        }
    }

    public void onTimer(OnTimerContext context, MapView<Long, byte[]> windows) throws Exception {
        Windows.fire(context.timeContext(Instant.class).time(), windows, this::collect);
    }
}
