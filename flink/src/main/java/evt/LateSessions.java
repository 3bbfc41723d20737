package evt;

import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.flink.table.annotation.ArgumentHint;
import org.apache.flink.table.annotation.ArgumentTrait;
import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.annotation.StateHint;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.table.functions.ProcessTableFunction;
import org.apache.flink.types.Row;

/**
 * Adds to each event whether it is late for a session metric, by the rule of {@link SessionWindows}: its name to
 * {@code late_for}, or to {@code partial} that the metric counts it. An event that does not count for the metric
 * ({@code counts}) passes as it is.
 */
@DataTypeHint(
        "ROW<`value` BYTES, kafka_partition INT, `offset` BIGINT, server_timestamp BIGINT, event_time BIGINT,"
                + " stream_time BIGINT, late_for ARRAY<STRING>, partial BOOLEAN, failed STRING, session_keys ARRAY<STRING>>")
public final class LateSessions extends ProcessTableFunction<Row> {
    private static final long serialVersionUID = 1;
    private static final String[] COLUMNS = {
        "value", "kafka_partition", "offset", "server_timestamp", "event_time", "stream_time"
    };

    public void eval(
            Context context,
            @StateHint(type = @DataTypeHint("MAP<BIGINT NOT NULL, BIGINT NOT NULL>")) MapView<Long, Long> sessions,
            @ArgumentHint(ArgumentTrait.SET_SEMANTIC_TABLE) Row event,
            Long gap,
            Long slack,
            String metric)
            throws Exception {
        String[] lateFor = event.getFieldAs("late_for");
        Boolean partial = event.getFieldAs("partial");
        if (Boolean.TRUE.equals(event.getFieldAs("counts"))) {
            if (counts(context, sessions, event, gap, slack)) {
                partial = true;
            } else {
                int known = lateFor == null ? 0 : lateFor.length;
                lateFor = known == 0 ? new String[1] : Arrays.copyOf(lateFor, known + 1);
                lateFor[known] = metric;
            }
        }
        List<Object> fields = new ArrayList<>();
        for (String name : COLUMNS) {
            fields.add(event.getField(name));
        }
        fields.add(lateFor);
        fields.add(partial);
        fields.add(event.getField("failed"));
        fields.add(event.getField("session_keys"));
        collect(Row.of(fields.toArray()));
    }

    /** Whether a session counts an event. Sessions are a map from their ends to their starts. */
    private static boolean counts(Context context, MapView<Long, Long> sessions, Row event, long gap, long slack)
            throws Exception {
        long start = event.getFieldAs("event_time");
        long end = start + gap;
        long closed = (Long) event.getFieldAs("stream_time") - slack - 1;
        List<Long> ends = new ArrayList<>();
        sessions.keys().forEach(ends::add);
        boolean joins = false;
        for (int at = 0; at < ends.size(); at++) {
            Long other = ends.get(at);
            if (other > closed && other >= start && sessions.get(other) <= end) {
                start = Math.min(start, sessions.get(other));
                end = Math.max(end, other);
                sessions.remove(other);
                ends.remove(at);
                // The session is longer now, so that it may reach one that was passed.
                at = -1;
                joins = true;
            }
        }
        if (!joins && end <= closed) {
            return false;
        }
        sessions.put(end, start);
        context.timeContext(Instant.class).registerOnTime(Windows.timer(end));
        return true;
    }

    public void onTimer(OnTimerContext context, MapView<Long, Long> sessions) throws Exception {
        Instant watermark = context.timeContext(Instant.class).time();
        List<Long> ends = new ArrayList<>();
        sessions.keys().forEach(ends::add);
        for (Long end : ends) {
            if (!Windows.timer(end).isAfter(watermark)) {
                sessions.remove(end);
            }
        }
    }
}
