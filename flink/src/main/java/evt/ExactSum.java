package evt;

import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.util.Arrays;

/**
 * An exact sum of decimals. Limb k has the weight of 10^(9k − 2151). Its saved form is that of {@code
 * crates/core/src/op/aggregate/exact.rs}: sign, limb of the lowest digit, number of digits, digits in base 10⁹.
 */
final class ExactSum {
    private static final int LOWEST = -2151;
    private static final int LIMB_DIGITS = 9;
    private static final long BASE = 1_000_000_000;
    private static final BigInteger BIG_BASE = BigInteger.valueOf(BASE);
    private static final BigInteger PART = BigInteger.TEN.pow(18);
    private static final long[] TENS = {1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000};
    /** Each addition adds less than 2³¹ to a limb. */
    private static final long ADDITIONS_MAX = 1L << 31;

    private int first;
    private long[] limbs = {};
    private int count;
    private long additions;

    /** Adds {@code mantissa · 10^exponent}; the mantissa has at most 18 digits. */
    void add(long mantissa, int exponent) {
        if (mantissa == 0) {
            return;
        }
        int place = exponent - LOWEST;
        long ten = TENS[place % LIMB_DIGITS];
        long low = mantissa % BASE * ten;
        long high = mantissa / BASE * ten;
        int limb = place / LIMB_DIGITS;
        put(limb, low % BASE);
        put(limb + 1, low / BASE + high % BASE);
        put(limb + 2, high / BASE);
        if (++additions >= ADDITIONS_MAX) {
            carry();
        }
    }

    /** Adds {@code mantissa · 10^exponent}. */
    void add(BigInteger mantissa, int exponent) {
        for (int power = exponent; mantissa.signum() != 0; power += 2 * LIMB_DIGITS) {
            BigInteger[] parts = mantissa.divideAndRemainder(PART);
            add(parts[1].longValueExact(), power);
            mantissa = parts[0];
        }
    }

    private void put(int limb, long part) {
        if (part == 0) {
            return;
        }
        int at = limb - first;
        if (at < 0 || at >= count) {
            at = grow(limb);
        }
        limbs[at] += part;
    }

    /** Makes room for a limb; returns its index. */
    private int grow(int limb) {
        if (count == 0) {
            first = limb;
        }
        int least = Math.min(first, limb);
        int length = Math.max(first + count, limb + 1) - least;
        if (least == first && length <= limbs.length) {
            Arrays.fill(limbs, count, length, 0);
        } else {
            long[] grown = new long[length];
            System.arraycopy(limbs, 0, grown, first - least, count);
            limbs = grown;
        }
        first = least;
        count = length;
        return limb - first;
    }

    /** Carries every limb into the next, so that each is below 10⁹. The highest is −1 if the sum is negative. */
    private void carry() {
        long carried = 0;
        for (int at = 0; at < count; at++) {
            long sum = limbs[at] + carried;
            limbs[at] = Math.floorMod(sum, BASE);
            carried = Math.floorDiv(sum, BASE);
        }
        while (carried != 0 && carried != -1) {
            int next = grow(first + count);
            limbs[next] = Math.floorMod(carried, BASE);
            carried = Math.floorDiv(carried, BASE);
        }
        if (carried == -1) {
            int next = grow(first + count);
            limbs[next] = -1;
        }
        additions = 1;
    }

    /** Adds another sum. */
    void merge(ExactSum other) {
        if (additions + other.additions >= ADDITIONS_MAX) {
            carry();
            other.carry();
        }
        for (int at = 0; at < other.count; at++) {
            put(other.first + at, other.limbs[at]);
        }
        additions += other.additions;
    }

    /** Returns the sum in units of {@code 10^exponent()}. */
    BigInteger mantissa() {
        BigInteger sum = BigInteger.ZERO;
        for (int at = count - 1; at >= 0; at--) {
            sum = sum.multiply(BIG_BASE).add(BigInteger.valueOf(limbs[at]));
        }
        return sum;
    }

    int exponent() {
        return LIMB_DIGITS * first + LOWEST;
    }

    /** Returns the sum divided by a number, rounded once to the nearest double, ties to even. */
    double divided(long divisor) {
        return Rounding.quotient(mantissa(), BigInteger.valueOf(divisor), exponent());
    }

    void save(SavedForm out) {
        ExactSum sum = copy();
        sum.carry();
        boolean negative = sum.count > 0 && sum.limbs[sum.count - 1] < 0;
        if (negative) {
            for (int at = 0; at < sum.count; at++) {
                sum.limbs[at] = -sum.limbs[at];
            }
            sum.carry();
        }
        int end = sum.count;
        while (end > 0 && sum.limbs[end - 1] == 0) {
            end--;
        }
        int start = 0;
        while (start < end && sum.limbs[start] == 0) {
            start++;
        }
        out.writeByte(negative ? 1 : 0);
        out.writeLong(end == 0 ? 0 : sum.first + start);
        out.writeLong(end - start);
        for (int at = start; at < end; at++) {
            out.writeInt((int) sum.limbs[at]);
        }
    }

    static ExactSum load(ByteBuffer in) {
        ExactSum sum = new ExactSum();
        int sign = in.get() == 1 ? -1 : 1;
        sum.first = (int) in.getLong();
        sum.count = (int) in.getLong();
        sum.limbs = new long[sum.count];
        for (int at = 0; at < sum.count; at++) {
            sum.limbs[at] = sign * (long) in.getInt();
        }
        sum.additions = 1;
        return sum;
    }

    private ExactSum copy() {
        ExactSum copy = new ExactSum();
        copy.first = first;
        copy.limbs = Arrays.copyOf(limbs, count);
        copy.count = count;
        copy.additions = additions;
        return copy;
    }
}
