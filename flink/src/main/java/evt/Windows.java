package evt;

import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import org.apache.flink.table.api.dataview.MapView;
import org.apache.flink.types.Row;

/** What the functions of windows share: open windows of a key are a map from their ends (µs) to their saved forms. */
final class Windows {
    private Windows() {}

    /** Returns start and end of each window of an instant, in ascending order. */
    static List<long[]> of(Layout layout, long time) {
        List<long[]> windows = new ArrayList<>();
        layout.visit(time, (start, end) -> windows.add(0, new long[] {start, end}));
        return windows;
    }

    /** Returns the first instant of a watermark, in milliseconds, that is not before the end of a window. */
    static Instant timer(long end) {
        return Instant.ofEpochMilli(-Math.floorDiv(-end, 1000L));
    }

    /** Passes on and removes the windows that a watermark has passed. */
    static void fire(Instant watermark, MapView<Long, byte[]> windows, Consumer<Row> rows) throws Exception {
        List<Long> ends = new ArrayList<>();
        windows.keys().forEach(ends::add);
        for (Long end : ends) {
            if (timer(end).isAfter(watermark)) {
                continue;
            }
            WindowState window = WindowState.load(windows.get(end));
            rows.accept(Row.of(window.start, window.end, window.result(), window.rows));
            windows.remove(end);
        }
    }
}
