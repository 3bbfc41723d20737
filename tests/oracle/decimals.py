"""Files with the numbers 0.10 and 0.20 in each type that has a point, with a time t. Prints their names, one a line."""

import decimal

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq

VALUES = [decimal.Decimal("0.10"), decimal.Decimal("0.20")]
TIMES = ["2026-05-01T00:00:00Z", "2026-05-01T00:00:01Z"]


def column(kind):
    return pa.array(VALUES if pa.types.is_decimal(kind) else [float(value) for value in VALUES], kind)


names = []
for kind in (pa.float32(), pa.float64(), pa.decimal128(9, 2)):
    table = pa.table({"t": TIMES, "v": column(kind)})
    name = str(kind).split("(")[0]
    pq.write_table(table, f"{name}.parquet")
    with pa.ipc.new_file(f"{name}.arrow", table.schema) as file:
        file.write_table(table)
    names += [f"{name}.parquet", f"{name}.arrow"]
for kind in ("float", "double", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}):
    name = kind if isinstance(kind, str) else "decimal"
    schema = {"type": "record", "name": "r", "fields": [{"name": "t", "type": "string"}, {"name": "v", "type": kind}]}
    typed = [value if name == "decimal" else float(value) for value in VALUES]
    with open(f"{name}.avro", "wb") as file:
        fastavro.writer(file, schema, [{"t": time, "v": value} for time, value in zip(TIMES, typed)])
    names.append(f"{name}.avro")
with open("numbers.csv", "w") as file:
    file.writelines(f"{line}\n" for line in ["t,v", *(f"{time},{value}" for time, value in zip(TIMES, VALUES))])
names.append("numbers.csv")
print("\n".join(names))
