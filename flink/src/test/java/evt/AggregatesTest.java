package evt;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.junit.jupiter.api.Test;

/** Compares the aggregates with those of evt: vectors have the values, evt's saved state and evt's result. */
final class AggregatesTest {
    @Test
    void statesAndResultsAreThoseOfEvt() throws IOException {
        int sums = 0;
        for (JsonNode vector : Vectors.read("aggregates.jsonl")) {
            switch (vector.get("aggregate").textValue()) {
                case "sum" -> check(vector, new Kind<>(new StateSerializer.OfSum(), SumState::merge, SumState::sum));
                case "avg" -> check(vector, new Kind<>(new StateSerializer.OfSum(), SumState::merge, SumState::mean));
                case "stddev" ->
                        check(vector, new Kind<>(new StateSerializer.OfStddev(), StddevState::merge, StddevState::stddev));
                case "approx_distinct" ->
                        check(
                                vector,
                                new Kind<>(
                                        new StateSerializer.OfDistinct(),
                                        DistinctState::merge,
                                        DistinctState::estimate));
                case "approx_percentile" ->
                        check(
                                vector,
                                new Kind<>(
                                        new StateSerializer.OfPercentile(),
                                        PercentileState::merge,
                                        PercentileState::percentile));
                default -> throw new AssertionError(vector);
            }
            sums++;
        }
        assertTrue(sums > 400, sums + " vectors");
    }

    private record Kind<T extends State>(
            StateSerializer<T> serializer, java.util.function.BiConsumer<T, T> merge, java.util.function.Function<T, Double> result) {}

    private static <T extends State> void check(JsonNode vector, Kind<T> kind) throws IOException {
        List<Object> values = new ArrayList<>();
        vector.path("texts").forEach(text -> values.add(text.textValue()));
        vector.path("doubles").forEach(bits -> values.add(Vectors.number(bits)));
        Random random = new Random(values.size());
        for (int round = 0; round < 3; round++) {
            T whole = empty(kind, vector);
            T part = empty(kind, vector);
            for (Object value : values) {
                add(part, value);
                if (random.nextInt(3) == 0) {
                    kind.merge.accept(whole, roundTrip(kind.serializer, part));
                    part = empty(kind, vector);
                }
            }
            kind.merge.accept(whole, part);
            same(vector, kind, whole);
            same(vector, kind, kind.serializer.copy(whole));
            Collections.shuffle(values, random);
        }
        T loaded = kind.serializer.load(State.reader(HexFormat.of().parseHex(vector.get("state").textValue())));
        select(loaded, vector);
        same(vector, kind, loaded);
    }

    private static <T extends State> T empty(Kind<T> kind, JsonNode vector) {
        T state = kind.serializer.createInstance();
        select(state, vector);
        return state;
    }

    private static void select(State state, JsonNode vector) {
        if (state instanceof PercentileState percentile) {
            percentile.select(vector.get("q").textValue());
        }
    }

    private static void add(State state, Object value) {
        if (state instanceof PercentileState percentile) {
            new ApproxPercentile().accumulate(percentile, (Double) value, percentile.selected());
        } else if (state instanceof DistinctState distinct) {
            new ApproxDistinct().accumulate(distinct, (String) value);
        } else if (state instanceof StddevState stddev) {
            if (value instanceof String text) {
                new Stddev().accumulate(stddev, text);
            } else {
                new Stddev().accumulate(stddev, (Double) value);
            }
        } else if (value instanceof String text) {
            new Sum().accumulate((SumState) state, text);
        } else {
            new Avg().accumulate((SumState) state, (Double) value);
        }
    }

    private static <T extends State> void same(JsonNode vector, Kind<T> kind, T state) {
        byte[] saved = HexFormat.of().parseHex(vector.get("state").textValue());
        assertArrayEquals(saved, state.saved(), vector::toString);
        assertEquals(Vectors.number(vector.get("result")), kind.result.apply(state), vector::toString);
    }

    private static <T> T roundTrip(TypeSerializer<T> serializer, T state) throws IOException {
        DataOutputSerializer out = new DataOutputSerializer(64);
        serializer.serialize(state, out);
        DataOutputSerializer copied = new DataOutputSerializer(64);
        serializer.copy(new DataInputDeserializer(out.getCopyOfBuffer()), copied);
        return serializer.deserialize(new DataInputDeserializer(copied.getCopyOfBuffer()));
    }
}
