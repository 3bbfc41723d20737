package evt;

import java.time.DayOfWeek;
import java.time.Instant;
import java.time.LocalDate;
import java.time.ZoneId;
import java.time.temporal.ChronoUnit;
import java.time.temporal.TemporalAdjusters;

/** The windows of a metric on the time line, all in microseconds; sessions have none. */
interface Layout {
    /** What is called for each window of an instant, the last one first. */
    interface Visitor {
        void window(long start, long end);
    }

    /** Visits the windows that contain an instant. */
    void visit(long time, Visitor visitor);

    /** Windows of a size that begin at each multiple of a slide plus a shift. */
    record Even(long size, long slide, long align) implements Layout {
        @Override
        public void visit(long time, Visitor visitor) {
            long start = Math.floorDiv(time - align, slide) * slide + align;
            for (; start > time - size; start -= slide) {
                visitor.window(start, start + size);
            }
        }
    }

    /** Periods of the calendar of a time zone. */
    record Periods(String unit, ZoneId zone) implements Layout {
        @Override
        public void visit(long time, Visitor visitor) {
            Instant instant = Instants.instant(time);
            LocalDate day = instant.atZone(zone).toLocalDate();
            // If the clocks are put back across midnight, the repeated hour belongs to the later day.
            if (!start(day.plusDays(1)).isAfter(instant)) {
                day = day.plusDays(1);
            }
            LocalDate first =
                    switch (unit) {
                        case "1d" -> day;
                        case "1w" -> day.with(TemporalAdjusters.previousOrSame(DayOfWeek.MONDAY));
                        case "1mo" -> day.withDayOfMonth(1);
                        case "1q" -> day.withDayOfMonth(1).withMonth((day.getMonthValue() - 1) / 3 * 3 + 1);
                        case "1y" -> day.withDayOfYear(1);
                        default -> throw new IllegalArgumentException("no unit of the calendar: " + unit);
                    };
            LocalDate next =
                    switch (unit) {
                        case "1d" -> first.plusDays(1);
                        case "1w" -> first.plusWeeks(1);
                        case "1mo" -> first.plusMonths(1);
                        case "1q" -> first.plusMonths(3);
                        default -> first.plusYears(1);
                    };
            visitor.window(micros(start(first)), micros(start(next)));
        }

        private Instant start(LocalDate day) {
            return day.atStartOfDay(zone).toInstant();
        }

        private static long micros(Instant instant) {
            return ChronoUnit.MICROS.between(Instant.EPOCH, instant);
        }
    }

    /** Returns periods of the calendar if a unit is given, else even windows. */
    static Layout of(String unit, String zone, long size, long slide, long align) {
        return unit.isEmpty() ? new Even(size, slide, align) : new Periods(unit, ZoneId.of(zone));
    }
}
