"""Files of few bytes that stand for very many: `large.py` writes them here, `large.py packed` only those whose bytes
are packed; `large.py run COMMAND…` runs a command and prints its exit status, peak memory in KiB and seconds of CPU."""

import datetime
import os
import resource
import subprocess
import sys

import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

TIME = pa.timestamp("us", "UTC")
INSTANT = datetime.datetime(2024, 1, 1)


def table(rows, **columns):
    return pa.table({"t": pa.array([INSTANT] * rows, TIME), **columns})


def repeated(value, rows):
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([value]))


def listed(values):
    """One list of all values."""
    return pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)


def stream(name, rows, compression="zstd"):
    with ipc.new_stream(name, rows.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(rows)


def write_packed():
    """Packed bytes that are very many once they are unpacked."""
    zeros = pa.array([bytes(100_000_000)], pa.large_binary())
    stream("packed.arrows", table(1, **{f"b{n}": zeros for n in range(8)}))
    del zeros
    # Longer than the memory that evt-ingest may take. Statistics would copy the text several times.
    rows = table(1, x=pa.array(["a" * 400_000_000]))
    pq.write_table(rows, "packed.parquet", compression="zstd", use_dictionary=False, write_statistics=False)


def write():
    # A dictionary of one value: what it stands for is never in memory at once.
    stream("dictionary.arrows", table(3_000, x=repeated("a" * 100_000, 3_000)))
    with ipc.new_file("dictionary.arrow", table(1, x=repeated("a", 1)).schema) as writer:
        writer.write_table(table(2_000, x=repeated("a" * 100_000, 2_000)))
    text = pa.array(["a" * 100_000] * 2_000)
    pq.write_table(table(2_000, x=text), "dictionary.parquet", compression="zstd")
    write_packed()
    # Lists of very many values that take no bytes.
    many = pa.nulls(20_000_000, pa.int8())
    empty = pa.ListArray.from_arrays(pa.array([0] * 10_000_001, pa.int32()), many[:0])
    keys = pa.Array.from_buffers(pa.int8(), 10_000_000, [None, pa.py_buffer(bytes(10_000_000))])
    ends = pa.array([0, 10_000_000], pa.int32())
    for name, values in [
        ("list", listed(many)),
        ("nested", listed(empty)),
        ("struct", pa.StructArray.from_arrays([listed(many)], ["x"])),
        ("map", pa.MapArray.from_arrays(ends, keys, many[:10_000_000])),
        ("wide", listed(pa.nulls(500_000, pa.binary(1_000)))),
    ]:
        pq.write_table(table(1, x=values), f"{name}.parquet", compression="zstd")
    # One row longer than any record may be.
    stream("row.arrows", table(1, x=pa.array([[7] * 20_000_000], pa.list_(pa.int8()))), None)
    # Few bytes, many rows, all of them small.
    constant = table(2_000_000, x=pa.array([1] * 2_000_000, pa.int64()), y=repeated("a", 2_000_000))
    pq.write_table(constant, "constant.parquet", compression="zstd", row_group_size=2_000_000)
    ends = pa.array(range(20_001), pa.int32())
    lists = pa.ListArray.from_arrays(ends, pa.array([1] * 20_000, pa.int64()))
    pq.write_table(table(20_000, x=lists), "lists.parquet", compression="zstd")


def run(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(done.returncode, used.ru_maxrss, round(used.ru_utime + used.ru_stime, 2))


if sys.argv[1:2] == ["run"]:
    run(sys.argv[2:])
elif sys.argv[1:] == ["packed"]:
    write_packed()
else:
    write()
