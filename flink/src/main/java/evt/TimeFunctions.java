package evt;

import org.apache.flink.table.annotation.DataTypeHint;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.functions.ScalarFunction;

/** Functions of instants, which are microseconds since 1970. */
public final class TimeFunctions {
    private TimeFunctions() {}

    /** The instant that a text is; NULL if it is none. */
    public static final class Parse extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public Long eval(String text) {
            return text == null ? null : Instants.parse(text);
        }
    }

    /** The text of an instant, in UTC. */
    public static final class Format extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public String eval(Long micros) {
            return micros == null ? null : Instants.format(micros);
        }
    }

    /** The instant so many seconds after 1970; NULL outside of the years 1 to 9999. */
    public static final class OfSeconds extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public Long eval(Double seconds) {
            if (seconds == null) {
                return null;
            }
            double micros = seconds * Instants.SECOND;
            double size = Math.abs(micros);
            double rounded = size - Math.floor(size) >= 0.5 ? Math.floor(size) + 1 : Math.floor(size);
            long instant = (long) (micros < 0 ? -rounded : rounded);
            return Double.isNaN(micros) || !Instants.isInCalendar(instant) ? null : (Long) instant;
        }
    }

    /** The start of the second, minute, hour, day, week, month, quarter or year of an instant, in UTC. */
    public static final class Truncate extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public Long eval(String unit, Long micros) {
            return micros == null ? null : (Long) Instants.truncate(unit, micros);
        }
    }

    /** The instant of the start or the end of a window. */
    public static final class Micros extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public Long eval(@DataTypeHint(value = "TIMESTAMP(3)", bridgedTo = TimestampData.class) TimestampData time) {
            return time == null ? null : (Long) (time.getMillisecond() * 1000);
        }
    }

    /** An instant as a timestamp of Flink. */
    public static final class Timestamp extends ScalarFunction {
        private static final long serialVersionUID = 1;

        public @DataTypeHint(value = "TIMESTAMP_LTZ(6)", bridgedTo = TimestampData.class) TimestampData eval(Long micros) {
            if (micros == null) {
                return null;
            }
            long millis = Math.floorDiv(micros, 1000L);
            return TimestampData.fromEpochMillis(millis, (int) (micros - millis * 1000) * 1000);
        }
    }
}
