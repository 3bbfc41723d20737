"""FRAMES: the metrics that pyarrow finds in a stream of frames, as JSON lines of window_end, dimensions and value."""

import json
import sys

import pyarrow.ipc

with open(sys.argv[1], "rb") as file:
    rows = pyarrow.ipc.open_stream(file).read_all()
for row in rows.select(["window_end", "dimensions", "value"]).to_pylist():
    end = row["window_end"].isoformat(timespec="microseconds").replace("+00:00", "Z")
    print(json.dumps({"window_end": end, "dimensions": json.loads(row["dimensions"]), "value": row["value"]}))
