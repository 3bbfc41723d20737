"""Reads a lake again and again while its days are replaced, until standard input ends.

    python3 versions.py LAKE ROWS

Each row has a property `version`; version v of a day has ROWS + v rows. A day that is read must be of one version, whole. A
read may fail because a file that was listed is gone. Writes how many reads went well so far to the file `good`, and
prints it at the end.
"""

import json
import pathlib
import select
import sys

import duckdb

lake, rows = sys.argv[1], int(sys.argv[2])
query = f"""
    select date, count(*), count(distinct event_id), min(v), max(v)
    from (select date, event_id, json_extract(properties, '$.version')::int as v
          from read_parquet('{lake}/date=*/*.parquet', hive_partitioning = true))
    group by date
"""
good = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    try:
        days = duckdb.sql(query).fetchall()
    except duckdb.IOException as error:
        assert "No such file" in str(error) or "Cannot open" in str(error), error
        continue
    for date, count, ids, first, last in days:
        assert first == last, f"{date} mixes versions {first} and {last}"
        assert count == ids == rows + first, f"{date} of version {first} has {count} rows of {ids} ids"
    assert len(days) == 3, days
    good += 1
    pathlib.Path("good").write_text(str(good))
print(json.dumps({"good": good}))
