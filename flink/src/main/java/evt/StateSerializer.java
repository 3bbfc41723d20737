package evt;

import java.io.IOException;
import java.nio.ByteBuffer;
import org.apache.flink.api.common.typeutils.SimpleTypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.TypeSerializerSnapshot;
import org.apache.flink.api.common.typeutils.base.TypeSerializerSingleton;
import org.apache.flink.core.memory.DataInputView;
import org.apache.flink.core.memory.DataOutputView;

/** Serializes states of aggregates in their saved form, preceded by its length. */
public abstract class StateSerializer<T extends State> extends TypeSerializerSingleton<T> {
    private static final long serialVersionUID = 1;

    private StateSerializer() {}

    /** Returns the state with a saved form. */
    abstract T load(ByteBuffer saved);

    /** For {@link SumState}. */
    public static final class OfSum extends StateSerializer<SumState> {
        private static final long serialVersionUID = 1;

        @Override
        public SumState createInstance() {
            return new SumState();
        }

        @Override
        SumState load(ByteBuffer saved) {
            return SumState.load(saved);
        }

        @Override
        public TypeSerializerSnapshot<SumState> snapshotConfiguration() {
            return new Snapshot();
        }

        /** Its snapshot. */
        public static final class Snapshot extends SimpleTypeSerializerSnapshot<SumState> {
            public Snapshot() {
                super(OfSum::new);
            }
        }
    }

    /** For {@link StddevState}. */
    public static final class OfStddev extends StateSerializer<StddevState> {
        private static final long serialVersionUID = 1;

        @Override
        public StddevState createInstance() {
            return new StddevState();
        }

        @Override
        StddevState load(ByteBuffer saved) {
            return StddevState.load(saved);
        }

        @Override
        public TypeSerializerSnapshot<StddevState> snapshotConfiguration() {
            return new Snapshot();
        }

        /** Its snapshot. */
        public static final class Snapshot extends SimpleTypeSerializerSnapshot<StddevState> {
            public Snapshot() {
                super(OfStddev::new);
            }
        }
    }

    /** For {@link DistinctState}. */
    public static final class OfDistinct extends StateSerializer<DistinctState> {
        private static final long serialVersionUID = 1;

        @Override
        public DistinctState createInstance() {
            return new DistinctState();
        }

        @Override
        DistinctState load(ByteBuffer saved) {
            return DistinctState.load(saved);
        }

        @Override
        public TypeSerializerSnapshot<DistinctState> snapshotConfiguration() {
            return new Snapshot();
        }

        /** Its snapshot. */
        public static final class Snapshot extends SimpleTypeSerializerSnapshot<DistinctState> {
            public Snapshot() {
                super(OfDistinct::new);
            }
        }
    }

    /** For {@link PercentileState}. */
    public static final class OfPercentile extends StateSerializer<PercentileState> {
        private static final long serialVersionUID = 1;

        @Override
        public PercentileState createInstance() {
            return new PercentileState();
        }

        @Override
        PercentileState load(ByteBuffer saved) {
            return PercentileState.load(saved);
        }

        @Override
        public PercentileState copy(PercentileState from) {
            PercentileState copy = super.copy(from);
            copy.select(from.selected());
            return copy;
        }

        @Override
        public void serialize(PercentileState state, DataOutputView target) throws IOException {
            super.serialize(state, target);
            target.writeUTF(state.selected());
        }

        @Override
        public PercentileState deserialize(DataInputView source) throws IOException {
            PercentileState state = super.deserialize(source);
            state.select(source.readUTF());
            return state;
        }

        @Override
        public void copy(DataInputView source, DataOutputView target) throws IOException {
            super.copy(source, target);
            target.writeUTF(source.readUTF());
        }

        @Override
        public TypeSerializerSnapshot<PercentileState> snapshotConfiguration() {
            return new Snapshot();
        }

        /** Its snapshot. */
        public static final class Snapshot extends SimpleTypeSerializerSnapshot<PercentileState> {
            public Snapshot() {
                super(OfPercentile::new);
            }
        }
    }

    @Override
    public boolean isImmutableType() {
        return false;
    }

    @Override
    public T copy(T from) {
        return load(State.reader(from.saved()));
    }

    @Override
    public T copy(T from, T reuse) {
        return copy(from);
    }

    @Override
    public int getLength() {
        return -1;
    }

    @Override
    public void serialize(T state, DataOutputView target) throws IOException {
        byte[] saved = state.saved();
        target.writeInt(saved.length);
        target.write(saved);
    }

    @Override
    public T deserialize(DataInputView source) throws IOException {
        byte[] saved = new byte[source.readInt()];
        source.readFully(saved);
        return load(State.reader(saved));
    }

    @Override
    public T deserialize(T reuse, DataInputView source) throws IOException {
        return deserialize(source);
    }

    @Override
    public void copy(DataInputView source, DataOutputView target) throws IOException {
        byte[] saved = new byte[source.readInt()];
        source.readFully(saved);
        target.writeInt(saved.length);
        target.write(saved);
    }
}
