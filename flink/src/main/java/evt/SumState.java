package evt;

import java.math.BigInteger;
import java.nio.ByteBuffer;

/** The state of sum and avg: an exact sum, the number of its values, and which infinities and NaN it has. */
public final class SumState implements State, Decimals.Sink {
    static final int VERSION = 2;
    private static final int POSITIVE = 1;
    private static final int NEGATIVE = 2;
    private static final int NAN = 4;

    private ExactSum sum = new ExactSum();
    private long count;
    private int specials;

    static int special(double value, int specials) {
        int kind = Double.isNaN(value) ? NAN : value > 0 ? POSITIVE : NEGATIVE;
        return specials | kind;
    }

    @Override
    public void shortDecimal(long mantissa, int exponent) {
        count++;
        sum.add(mantissa, exponent);
    }

    @Override
    public void longDecimal(BigInteger mantissa, int exponent) {
        count++;
        sum.add(mantissa, exponent);
    }

    @Override
    public void special(double value) {
        count++;
        specials = special(value, specials);
    }

    void merge(SumState other) {
        sum.merge(other.sum);
        count += other.count;
        specials |= other.specials;
    }

    /** Returns the sum; null without a value. */
    Double sum() {
        return result(1);
    }

    /** Returns the mean; null without a value. */
    Double mean() {
        return result(count);
    }

    private Double result(long divisor) {
        if (count == 0) {
            return null;
        }
        return switch (specials) {
            case 0 -> sum.divided(divisor);
            case POSITIVE -> Double.POSITIVE_INFINITY;
            case NEGATIVE -> Double.NEGATIVE_INFINITY;
            default -> Double.NaN;
        };
    }

    @Override
    public void save(SavedForm out) {
        out.writeByte(VERSION);
        out.writeLong(count);
        out.writeByte(specials);
        sum.save(out);
    }

    static SumState load(ByteBuffer in) {
        State.expect(in, VERSION);
        SumState state = new SumState();
        state.count = in.getLong();
        state.specials = in.get();
        state.sum = ExactSum.load(in);
        return state;
    }
}
