"""Events per calendar period: `periods.py EVENTS ROWS SIZE ZONE`.

Compares rows of evt-window with two models. By zoneinfo a period begins with the first instant at which the clocks of the zone show
its first day or a later one; it is found by a search in small steps. By DuckDB it is date_trunc in the zone, for zones whose clocks show
each midnight once: of two it takes the second. Prints the events that the models count.
"""

import datetime
import functools
import json
import sys
import zoneinfo

import duckdb

UTC = datetime.timezone.utc
# The database of scripts/python, of the version that evt contains; that of the machine may be older.
zoneinfo.reset_tzpath(to=[])
DUCK = {"1d": "day", "1w": "week", "1mo": "month", "1q": "quarter", "1y": "year"}


def local_date(seconds, zone):
    return datetime.datetime.fromtimestamp(seconds, UTC).astimezone(zone).date()


def first_day(day, size):
    match size:
        case "1d":
            return day
        case "1w":
            return day - datetime.timedelta(days=day.weekday())
        case "1mo":
            return day.replace(day=1)
        case "1q":
            return day.replace(day=1, month=(day.month - 1) // 3 * 3 + 1)
        case "1y":
            return day.replace(day=1, month=1)


@functools.cache
def start(day, zone):
    """The first second at which clocks show this day or a later one."""
    at = int(datetime.datetime.combine(day, datetime.time(), UTC).timestamp()) - 16 * 3600
    for step in (900, 60, 1):
        while local_date(at, zone) < day:
            at += step
        at -= step
    return at + 1


def period(seconds, size, zone):
    # Clocks that were set back may show a day again after the next one has begun.
    later = first_day(local_date(seconds, zone), size)
    for _ in range(2):
        following = first_day(later + datetime.timedelta(days=DAYS[size]), size)
        if start(following, zone) <= seconds:
            later = following
    following = first_day(later + datetime.timedelta(days=DAYS[size]), size)
    return start(later, zone), start(following, zone)


DAYS = {"1d": 1, "1w": 7, "1mo": 31, "1q": 92, "1y": 366}


def by_zoneinfo(events, size, name):
    zone, counts = zoneinfo.ZoneInfo(name), {}
    with open(events, encoding="utf-8") as lines:
        for line in lines:
            key = period(json.loads(line)["t"], size, zone)
            counts[key] = counts.get(key, 0) + 1
    return counts


def by_duckdb(events, size, name):
    local = f"to_timestamp(t) AT TIME ZONE '{name}'"
    rows = duckdb.sql(f"""
        SELECT epoch(date_trunc('{DUCK[size]}', {local}) AT TIME ZONE '{name}')::BIGINT, count(*)
        FROM read_json('{events}', format = 'newline_delimited', columns = {{t: 'BIGINT'}}) GROUP BY ALL""")
    return dict(rows.fetchall())


def main(events, rows, size, name):
    seconds = lambda text: int(datetime.datetime.fromisoformat(text).timestamp())
    with open(rows, encoding="utf-8") as lines:
        found = [json.loads(line) for line in lines]
    got = {(seconds(row["window_start"]), seconds(row["window_end"])): row["rows"] for row in found}
    naive = by_zoneinfo(events, size, name)
    if got != naive:
        sys.exit(f"zoneinfo: {sorted(set(got.items()) ^ set(naive.items()))[:6]}")
    if name in ("America/St_Johns", "Asia/Gaza"):
        print(sum(naive.values()))
        return
    # The database in DuckDB lacks corrections of older years, such as of Sao Paulo in 1966.
    starts = {key[0]: count for key, count in got.items() if key[0] >= 0}
    duck = {start: count for start, count in by_duckdb(events, size, name).items() if start >= 0}
    if starts != duck:
        sys.exit(f"DuckDB: {sorted(set(starts.items()) ^ set(duck.items()))[:6]}")
    print(sum(naive.values()), sum(duck.values()))


main(*sys.argv[1:])
