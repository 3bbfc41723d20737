package evt;

import java.time.DayOfWeek;
import java.time.Instant;
import java.time.LocalDate;
import java.time.temporal.TemporalAdjusters;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Instants in microseconds since 1970, within the years 1 to 9999 UTC. */
final class Instants {
    static final long SECOND = 1_000_000;
    static final long DAY = 86_400 * SECOND;
    /** 0001-01-01T00:00:00Z. */
    private static final long EARLIEST = -719_162 * DAY;
    /** The last microsecond of 9999. */
    private static final long LATEST = 2_932_897 * DAY - 1;

    private static final Pattern ISO =
            Pattern.compile(
                    "(\\d{4})-(\\d{2})-(\\d{2})"
                            + "(?:[Tt ](\\d{2}):(\\d{2})(?::(\\d{2})(?:[.,](\\d+))?)?"
                            + "( ?(?:[Zz]|UTC|[+-]\\d{2}(?::?\\d{2})?))?)?");

    private Instants() {}

    /** Reads ISO 8601 as evt-metrics(5) says; null if it is no instant. */
    static Long parse(String text) {
        Matcher found = ISO.matcher(text);
        if (!found.matches()) {
            return null;
        }
        int year = number(found, 1);
        int month = number(found, 2);
        int day = number(found, 3);
        if (month < 1 || month > 12 || day < 1 || day > LocalDate.of(year, month, 1).lengthOfMonth()) {
            return null;
        }
        int hour = number(found, 4);
        int minute = number(found, 5);
        int second = number(found, 6);
        if (hour > 23 || minute > 59 || second > 60) {
            return null;
        }
        String digits = found.group(7) == null ? "" : found.group(7);
        long fraction = Long.parseLong((digits + "000000").substring(0, 6));
        // A leap second is the last microsecond before it.
        long within = second == 60 ? 60 * SECOND - 1 : second * SECOND + fraction;
        Long east = offset(found.group(8));
        if (east == null) {
            return null;
        }
        long days = LocalDate.of(year, month, day).toEpochDay();
        long micros = days * DAY + (hour * 60L + minute) * 60 * SECOND + within - east;
        return isInCalendar(micros) ? micros : null;
    }

    private static int number(Matcher found, int group) {
        return found.group(group) == null ? 0 : Integer.parseInt(found.group(group));
    }

    /** Returns the microseconds east of UTC; null if the offset does not exist. */
    private static Long offset(String text) {
        String offset = text == null ? "" : text.strip();
        if (offset.isEmpty() || offset.equalsIgnoreCase("z") || offset.equals("UTC")) {
            return 0L;
        }
        int hours = Integer.parseInt(offset.substring(1, 3));
        String rest = offset.substring(3).replace(":", "");
        int minutes = rest.isEmpty() ? 0 : Integer.parseInt(rest);
        long east = (hours * 60L + minutes) * 60 * SECOND;
        return hours > 23 || minutes > 59 ? null : offset.charAt(0) == '-' ? -east : east;
    }

    static boolean isInCalendar(long micros) {
        return EARLIEST <= micros && micros <= LATEST;
    }

    /** Formats an instant with six digits of the second. */
    static String format(long micros) {
        Instant instant = instant(micros);
        return String.format("%s.%06dZ", instant.toString().substring(0, 19), Math.floorMod(micros, SECOND));
    }

    static Instant instant(long micros) {
        return Instant.ofEpochSecond(Math.floorDiv(micros, SECOND), Math.floorMod(micros, SECOND) * 1000);
    }

    static long micros(Instant instant) {
        return instant.getEpochSecond() * SECOND + instant.getNano() / 1000;
    }

    /** Returns the start of the unit of an instant, in UTC. */
    static long truncate(String unit, long micros) {
        LocalDate date = LocalDate.ofEpochDay(Math.floorDiv(micros, DAY));
        return switch (unit) {
            case "second" -> Math.floorDiv(micros, SECOND) * SECOND;
            case "minute" -> Math.floorDiv(micros, 60 * SECOND) * 60 * SECOND;
            case "hour" -> Math.floorDiv(micros, 3600 * SECOND) * 3600 * SECOND;
            case "day" -> date.toEpochDay() * DAY;
            case "week" -> date.with(TemporalAdjusters.previousOrSame(DayOfWeek.MONDAY)).toEpochDay() * DAY;
            case "month" -> date.withDayOfMonth(1).toEpochDay() * DAY;
            case "quarter" -> date.withDayOfMonth(1).withMonth((date.getMonthValue() - 1) / 3 * 3 + 1).toEpochDay() * DAY;
            case "year" -> date.withDayOfYear(1).toEpochDay() * DAY;
            default -> throw new IllegalArgumentException("date_trunc to a " + unit);
        };
    }
}
