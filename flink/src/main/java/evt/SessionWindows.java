package evt;

import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.table.annotation.ArgumentHint;
import org.apache.flink.table.annotation.ArgumentTrait;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.StateHint;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.table.functions.ProcessTableFunction;
import org.apache.flink.types.Row;

/**
 * Sessions by the rule of evt: an event joins the sessions of its key that are open at its stream time and at most a gap
 * away. {@code slack} is the out-of-orderness plus the lateness (µs).
 *
 * <p>It has no argument {@code on_time}, with which Flink would drop events behind the watermark before it sees them.
 */
@DataTypeHint("ROW<ws BIGINT, we BIGINT, v DOUBLE, n BIGINT>")
public final class SessionWindows extends ProcessTableFunction<Row> {
    private static final long serialVersionUID = 1;

    public void eval(
            Context context,
            @StateHint(type = @DataTypeHint("MAP<BIGINT NOT NULL, BYTES NOT NULL>")) MapView<Long, byte[]> sessions,
            @ArgumentHint(ArgumentTrait.SET_SEMANTIC_TABLE) Row event,
            Long gap,
            Long slack,
            String aggregate,
            String quantile)
            throws Exception {
        long time = event.getFieldAs("event_time");
        long closed = (Long) event.getFieldAs("stream_time") - slack - 1;
        List<WindowState> open = new ArrayList<>();
        for (Long end : sessions.keys()) {
            if (end > closed) {
                open.add(WindowState.load(sessions.get(end)));
            }
        }
        WindowState session = WindowState.empty(aggregate, quantile, time, time + gap);
        boolean joins = false;
        for (WindowState next = overlapping(open, session); next != null; next = overlapping(open, session)) {
            sessions.remove(next.end);
            session.merge(next);
            joins = true;
        }
        if (!joins && session.end <= closed) {
            return;
        }
        session.add(event);
        sessions.put(session.end, session.save());
        context.timeContext(Instant.class).registerOnTime(Windows.timer(session.end));
    }

    /** Removes and returns a session that overlaps another one; null if none does. */
    static WindowState overlapping(List<WindowState> open, WindowState session) {
        for (WindowState next : open) {
            if (next.start <= session.end && next.end >= session.start) {
                open.remove(next);
                return next;
            }
        }
        return null;
    }

    public void onTimer(OnTimerContext context, MapView<Long, byte[]> sessions) throws Exception {
        Windows.fire(context.timeContext(Instant.class).time(), sessions, this::collect);
    }
}
