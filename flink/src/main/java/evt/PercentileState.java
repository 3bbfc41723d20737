package evt;

import java.math.BigDecimal;
import java.math.RoundingMode;
import java.nio.ByteBuffer;
import java.util.Arrays;

/**
 * The state of approx_percentile: DDSketch with 64 bins per power of two, as {@code
 * crates/core/src/op/aggregate/percentile.rs}. Bins are in ascending order.
 */
public final class PercentileState implements State {
    private static final int VERSION = 1;
    private static final int CUT_BITS = 46;
    private static final int SUBNORMAL_BINS = 54 << 6;
    private static final int OFFSET = SUBNORMAL_BINS + 1;
    private static final int INFINITE = Integer.MAX_VALUE - 1;
    private static final int NAN = Integer.MAX_VALUE;
    private static final double SCALE = 0x1p54;

    private int[] keys = new int[8];
    private long[] counts = new long[8];
    private int bins;
    private int near;
    private String q = "";

    /** Selects the quantile of {@link #percentile}; it is no part of the saved form. */
    void select(String q) {
        this.q = q;
    }

    String selected() {
        return q;
    }

    void add(double value) {
        add(keyOf(value), 1);
    }

    private void add(int key, long count) {
        if (near < bins && keys[near] == key) {
            counts[near] += count;
            return;
        }
        int at = Arrays.binarySearch(keys, 0, bins, key);
        if (at < 0) {
            at = -at - 1;
            if (bins == keys.length) {
                keys = Arrays.copyOf(keys, 2 * bins);
                counts = Arrays.copyOf(counts, 2 * bins);
            }
            System.arraycopy(keys, at, keys, at + 1, bins - at);
            System.arraycopy(counts, at, counts, at + 1, bins - at);
            keys[at] = key;
            counts[at] = 0;
            bins++;
        }
        counts[at] += count;
        near = at;
    }

    void merge(PercentileState other) {
        for (int at = 0; at < other.bins; at++) {
            add(other.keys[at], other.counts[at]);
        }
        q = q.isEmpty() ? other.q : q;
    }

    /** Returns the value of rank max(1, ⌈q·n⌉) of n; null without a value. */
    Double percentile() {
        if (bins == 0) {
            return null;
        }
        long all = 0;
        for (int at = 0; at < bins; at++) {
            all += counts[at];
        }
        BigDecimal share = new BigDecimal(q).multiply(BigDecimal.valueOf(all)).setScale(0, RoundingMode.CEILING);
        long rank = share.max(BigDecimal.ONE).longValueExact();
        int at = 0;
        for (long passed = counts[0]; passed < rank; passed += counts[at]) {
            at++;
        }
        return valueOf(keys[at]);
    }

    private static int keyOf(double value) {
        double magnitude = Math.abs(value);
        int key;
        if (Double.isNaN(magnitude)) {
            return NAN;
        } else if (Double.isInfinite(magnitude)) {
            key = INFINITE;
        } else if (magnitude == 0) {
            return 0;
        } else if (magnitude >= Double.MIN_NORMAL) {
            key = (int) (Double.doubleToRawLongBits(magnitude) >>> CUT_BITS) + OFFSET;
        } else {
            key = (int) (Double.doubleToRawLongBits(magnitude * SCALE) >>> CUT_BITS) + OFFSET - SUBNORMAL_BINS;
        }
        return value < 0 ? -key : key;
    }

    private static double valueOf(int key) {
        if (key == NAN) {
            return Double.NaN;
        } else if (key == INFINITE) {
            return Double.POSITIVE_INFINITY;
        } else if (key == 0) {
            return 0;
        } else if (key < 0) {
            return -valueOf(-key);
        }
        boolean isScaled = key < OFFSET + 64;
        long low = ((long) (key - OFFSET + (isScaled ? SUBNORMAL_BINS : 0))) << CUT_BITS;
        double a = Double.longBitsToDouble(low);
        double b = Double.longBitsToDouble(low + (1L << CUT_BITS));
        double shown = Double.isFinite(b) ? a * (b / (a / 2 + b / 2)) : a * (129.0 / 128.0);
        return shown / (isScaled ? SCALE : 1);
    }

    @Override
    public void save(SavedForm out) {
        out.writeByte(VERSION);
        out.writeLong(bins);
        for (int at = 0; at < bins; at++) {
            out.writeInt(keys[at]);
            out.writeLong(counts[at]);
        }
    }

    static PercentileState load(ByteBuffer in) {
        State.expect(in, VERSION);
        PercentileState state = new PercentileState();
        state.bins = (int) in.getLong();
        state.keys = new int[Math.max(8, state.bins)];
        state.counts = new long[state.keys.length];
        for (int at = 0; at < state.bins; at++) {
            state.keys[at] = in.getInt();
            state.counts[at] = in.getLong();
        }
        return state;
    }
}
