package evt;

import com.dynatrace.hash4j.hashing.Hashing;
import java.nio.ByteBuffer;
import java.util.Arrays;

/**
 * The state of approx_distinct: HyperLogLog with 4096 registers, xxh3 and Ertl's estimator, as {@code
 * crates/core/src/op/aggregate/distinct.rs}. Few registers are a sorted list, many one byte each.
 */
public final class DistinctState implements State {
    private static final int VERSION = 1;
    private static final int INDEX_BITS = 12;
    private static final int REGISTERS = 1 << INDEX_BITS;
    private static final int RANK_MAX = 64 - INDEX_BITS + 1;
    private static final int SPARSE_MAX = REGISTERS / 4 - 1;

    /** {@code register << 8 | rank}, in the order of registers; null if all registers are held. */
    private int[] sparse = new int[4];

    private int count;
    private byte[] ranks;

    void add(byte[] text) {
        long hash = Hashing.xxh3_64().hashBytesToLong(text);
        int rank = Long.numberOfLeadingZeros(hash << INDEX_BITS | 1L << (INDEX_BITS - 1)) + 1;
        raise((int) (hash >>> (64 - INDEX_BITS)), rank);
    }

    private void raise(int register, int rank) {
        if (ranks != null) {
            ranks[register] = (byte) Math.max(ranks[register], rank);
            return;
        }
        int low = 0;
        for (int high = count; low < high; ) {
            int middle = (low + high) >>> 1;
            if (sparse[middle] >>> 8 < register) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        int entry = register << 8 | rank;
        if (low < count && sparse[low] >>> 8 == register) {
            sparse[low] = Math.max(sparse[low], entry);
            return;
        }
        if (count == sparse.length) {
            sparse = Arrays.copyOf(sparse, 2 * count);
        }
        System.arraycopy(sparse, low, sparse, low + 1, count - low);
        sparse[low] = entry;
        count++;
        if (count > SPARSE_MAX) {
            byte[] all = new byte[REGISTERS];
            for (int at = 0; at < count; at++) {
                all[sparse[at] >>> 8] = (byte) sparse[at];
            }
            ranks = all;
            sparse = null;
        }
    }

    void merge(DistinctState other) {
        for (int at = 0; other.ranks == null && at < other.count; at++) {
            raise(other.sparse[at] >>> 8, other.sparse[at] & 0xff);
        }
        for (int register = 0; other.ranks != null && register < REGISTERS; register++) {
            if (other.ranks[register] > 0) {
                raise(register, other.ranks[register]);
            }
        }
    }

    double estimate() {
        int[] counts = new int[RANK_MAX + 1];
        for (int at = 0; ranks == null && at < count; at++) {
            counts[sparse[at] & 0xff]++;
        }
        if (ranks == null) {
            counts[0] = REGISTERS - count;
        } else {
            for (byte rank : ranks) {
                counts[rank]++;
            }
        }
        double registers = REGISTERS;
        double z = registers * tau(1 - counts[RANK_MAX] / registers);
        for (int rank = RANK_MAX - 1; rank >= 1; rank--) {
            z = 0.5 * (z + counts[rank]);
        }
        z += registers * sigma(counts[0] / registers);
        double estimate = registers * registers / (2 * 0.693147180559945309417232121458) / z;
        // Halves are rounded away from zero.
        return Math.floor(estimate) + (estimate - Math.floor(estimate) >= 0.5 ? 1 : 0);
    }

    private static double sigma(double x) {
        if (x == 1) {
            return Double.POSITIVE_INFINITY;
        }
        double y = 1;
        double z = x;
        while (true) {
            x *= x;
            double before = z;
            z += x * y;
            y += y;
            if (z == before) {
                return z;
            }
        }
    }

    private static double tau(double x) {
        if (x == 0 || x == 1) {
            return 0;
        }
        double y = 1;
        double z = 1 - x;
        while (true) {
            x = Math.sqrt(x);
            double before = z;
            y *= 0.5;
            z -= (1 - x) * (1 - x) * y;
            if (z == before) {
                return z / 3;
            }
        }
    }

    @Override
    public void save(SavedForm out) {
        out.writeByte(VERSION);
        if (ranks != null) {
            out.writeBytes(ranks);
        }
        for (int at = 0; ranks == null && at < count; at++) {
            out.writeInt(sparse[at]);
        }
    }

    static DistinctState load(ByteBuffer in) {
        State.expect(in, VERSION);
        DistinctState state = new DistinctState();
        if (in.remaining() == REGISTERS) {
            state.sparse = null;
            state.ranks = new byte[REGISTERS];
            in.get(state.ranks);
            return state;
        }
        state.count = in.remaining() / 4;
        state.sparse = new int[Math.max(4, state.count)];
        for (int at = 0; at < state.count; at++) {
            state.sparse[at] = in.getInt();
        }
        return state;
    }
}
