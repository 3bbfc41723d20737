"""generate DIR SEED: writes the files, rules and runs of a random scenario. check DIR: compares what evt-alert wrote with a model.

The model evaluates every rule at every second from all rows, without slices, views or timers."""

import datetime
import json
import math
import os
import random
import sys
from fractions import Fraction

BASE = datetime.datetime(2026, 1, 5, 10, tzinfo=datetime.timezone.utc)
KNOWN = 10


def text(micros):
    return (BASE + datetime.timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def grid(micros):
    return -(-micros // 1_000_000)


# Rules.

AGGREGATES = ["count(*)", "sum(amount)", "avg(amount)", "max(amount)", "min(amount)", "ratio(event_type = 'error')"]
SIGNS = [">", "<", ">=", "<=", "==", "=", "!="]
FILTERS = [None, "event_type = 'error'", "amount > 5"]


def random_rule(rng, number):
    rule = {
        "name": f"r{number}",
        "aggregate": rng.choice(AGGREGATES),
        "by": rng.choice([[], ["source"], ["source", "country"]]),
        "window_seconds": rng.choice([1, 3, 10, 20, 60]),
        "condition": rng.choice(["gt", "lt", "ge", "le", "eq", "ne", "GREATER_THAN", "LESS_THAN", *SIGNS]),
        "for": rng.choice([0, 0, 2, 7, 35]),
        "keep_firing_for": rng.choice([0, 1, 5, 30]),
        "no_data": rng.random() < 0.3,
        "null_as": rng.choice(["ok", "ok", "keep", "breach"]),
        "enabled": rng.random() < 0.9,
    }
    if rng.random() < 0.3:
        rule["forget_after"] = rule["for"] + 60 + rng.choice([4, 10, 60, 200])
    if rng.random() < 0.3:
        del rule["null_as"]
    where = rng.choice(FILTERS)
    if where:
        rule["where"] = where
    is_ratio = rule["aggregate"].startswith("ratio")
    rule["threshold"] = rng.choice([0.25, 0.5, 0]) if is_ratio else rng.choice([0, 1, 3, 6, 8.5, 20])
    if rng.random() < 0.3:
        rule["resolve_threshold"] = rule["threshold"] + rng.choice([-1, 1, 0.5])
    kind = rng.random()
    if kind < 0.15:
        rule |= {"aggregate": "count(*)", "share_of": "event", "threshold": rng.choice([0.1, 0.5])}
    elif kind < 0.3:
        rule |= {"compare": f"{rng.choice([5, 30, 90])}s", "threshold": rng.choice([0.6, 1, 1.5]), "window_seconds": rng.choice([1, 3, 10])}
    elif kind < 0.4:
        window = rng.choice([1, 3])
        # A rule that is edited may share the earlier values of a group with a rule that knew the group before, so only the
        # first rules have dimensions.
        by = rule["by"] if number < 100 else []
        rule |= {"by": by, "window_seconds": window, "anomaly": {"z": rng.choice([1, 2]), "baseline": window * 20, "min": 5}}
        del rule["threshold"]
        rule.pop("resolve_threshold", None)
        if rng.random() < 0.5:
            del rule["condition"]
        elif rule["condition"] in ("eq", "ne", "==", "=", "!="):
            rule["condition"] = "gt"
    return rule


def edited(rng, rules):
    rules = [dict(rule) for rule in rules]
    for rule in rules:
        change = rng.random()
        if change < 0.1:
            rule["enabled"] = not rule["enabled"]
            if "anomaly" in rule:
                rule["by"] = []
        elif change < 0.2 and "threshold" in rule:
            rule["threshold"] = rule["threshold"] + rng.choice([-1, 1])
        elif change < 0.3:
            rule["for"] = rng.choice([0, 3] if "forget_after" in rule else [0, 3, 35])
        elif change < 0.35:
            rule["null_as"] = rng.choice(["ok", "keep", "breach"])
        elif change < 0.4:
            rule["window_seconds"] = rng.choice([1, 3]) if "anomaly" in rule else rng.choice([1, 3, 10, 20])
            if "anomaly" in rule:
                rule["anomaly"] = {**rule["anomaly"], "baseline": rule["window_seconds"] * 20}
                rule["by"] = []
    if rng.random() < 0.3:
        rules.pop(rng.randrange(len(rules)))
    if rng.random() < 0.5:
        rules.append(random_rule(rng, 100 + rng.randrange(1000)))
    # Without a rule that can be used there is no run (exit status 78).
    if not rules:
        rules.append(random_rule(rng, 100))
    if not any(rule["enabled"] for rule in rules):
        rules[0]["enabled"] = True
    return rules


# Streams.


def random_file(rng, start, length):
    """Lines of one partition: mostly in order, with gaps, bursts, late rows and ties."""
    now, lines = start, []
    # A source that is silent for more than ten windows of many rules, and comes back.
    silent = rng.choice(["ios", "web"])
    since = start + rng.randrange(0, length)
    until = since + rng.choice([rng.randrange(12, 80), rng.randrange(100, 500)]) * 1_000_000
    # Another value is rare: its rows are further apart than the windows of many rules.
    rare, pause = rng.choice(["ios", "web", "bot"]), rng.choice([0, 2, 5, 15])
    last = start
    while now < start + length:
        burst = rng.random()
        if burst < 0.02:
            now += rng.randrange(5, 240) * 1_000_000
        elif burst < 0.6:
            now += rng.randrange(0, 900_000)
        elif burst < 0.9:
            now += rng.randrange(0, 3_000_000)
        time = now
        if rng.random() < 0.1:
            time = max(0, now - rng.randrange(0, 30_000_000))
        if rng.random() < 0.1:
            time = time // 1_000_000 * 1_000_000
        sources = [source for source in ["ios", "web", "bot"] if source != silent or not since <= now < until]
        source = rng.choice([source for source in sources if source != rare or now - last >= pause * 1_000_000])
        last = now if source == rare else last
        event = {
            "source": source,
            "event_type": rng.choice(["view", "view", "error"]),
            "server_timestamp": text(time),
        }
        if rng.random() < 0.9:
            event["amount"] = rng.randrange(0, 1200) / 100
        if rng.random() < 0.8:
            event["country"] = rng.choice(["DE", "FR"])
        lines.append((time, event))
    if rng.random() < 0.9:
        # A group that has rows in the first second only.
        lines[0][1]["source"] = "tv"
    return lines


def generate(path, seed):
    rng = random.Random(seed)
    files, runs = {}, []
    start = rng.randrange(0, 2_000_000)
    for number in range(rng.choice([1, 1, 2, 3])):
        files[f"f{number}.jsonl"] = random_file(rng, start + rng.randrange(0, 3_000_000), rng.choice([60, 200, 400]) * 1_000_000)
    rules = [random_rule(rng, number) for number in range(rng.randrange(1, 8))]
    rules[0]["enabled"] = True
    pieces = rng.choice([1, 2, 3, 5])
    sizes = {name: sorted(rng.randrange(0, len(lines) + 1) for _ in range(pieces - 1)) + [len(lines)] for name, lines in files.items()}
    for piece in range(pieces):
        if piece and rng.random() < 0.7:
            rules = edited(rng, rules)
        if piece and rng.random() < 0.15:
            name = f"g{piece}.jsonl"
            files[name] = random_file(rng, rng.randrange(0, 400) * 1_000_000, 60_000_000)
            sizes[name] = [0] * piece + [len(files[name])] * (pieces - piece)
        runs.append({"files": {name: sizes[name][piece] for name in files if sizes[name][piece]}, "rules": rules})
    for name, lines in files.items():
        with open(f"{path}/{name}.all", "w") as out:
            out.writelines(json.dumps(event) + "\n" for _, event in lines)
    for number, run in enumerate(runs):
        json.dump(run["rules"], open(f"{path}/rules{number}.json", "w"))
    json.dump(runs, open(f"{path}/runs.json", "w"))


# The model.

NAMES = {"GREATER_THAN": "gt", "LESS_THAN": "lt", ">": "gt", "<": "lt", ">=": "ge", "<=": "le", "==": "eq", "=": "eq", "!=": "ne"}


def holds(condition, value, threshold):
    return {
        "gt": value > threshold,
        "lt": value < threshold,
        "ge": value >= threshold,
        "le": value <= threshold,
        "eq": value == threshold,
        "ne": value != threshold,
    }[NAMES.get(condition, condition)]


def passes(event, where):
    if where is None:
        return True
    if where == "amount > 5":
        return event.get("amount") is not None and event["amount"] > 5
    return event["event_type"] == "error"


def aggregate(name, events):
    amounts = [Fraction(str(event["amount"])) for event in events if event.get("amount") is not None]
    if name == "count(*)":
        return float(len(events))
    if name.startswith("ratio"):
        return sum(event["event_type"] == "error" for event in events) / len(events) if events else None
    if not amounts:
        return None
    return float({"sum": sum(amounts), "avg": sum(amounts) / len(amounts), "max": max(amounts), "min": min(amounts)}[name[:3]])


def dimensions(event, by):
    return json.dumps({name: event.get(name) for name in sorted(by)}, separators=(",", ":"))


def seconds(value):
    return int(value[:-1]) if isinstance(value, str) else value


MEASURE = ["aggregate", "where", "by", "window_seconds", "share_of", "compare", "anomaly"]


class Rule:
    def __init__(self, fields, created):
        self.fields, self.created, self.start, self.active = fields, created, created, {}
        self.interrupted = 0
        self.cache = {}

    def measure(self):
        return [self.fields.get(name) for name in MEASURE]

    def same_measure(self, fields):
        mine, other = self.measure(), [fields.get(name) for name in MEASURE]
        return mine == other

    def window(self, rows, g, group, window=None):
        """The events of a group that count at g."""
        window = window or self.fields["window_seconds"]
        return [row for row in rows if row["from"] <= g and g - window < row["slice"] <= g and row["group"] == group]

    def seen(self, row):
        """Whether a row was in a window of the rule: it was not too late for the first instant that it counts for."""
        return row["slice"] > row["from"] - self.fields["window_seconds"]

    def known(self, rows, g, group):
        """Whether the group has a row in the last ten windows, counted by now."""
        if not self.fields["by"]:
            return True
        since = g - KNOWN * self.fields["window_seconds"]
        return any(row["from"] <= g and since < row["slice"] and row["group"] == group and self.seen(row) for row in rows)

    def forgotten(self, rows, g, group):
        """Whether the group has had no row for forget_after; before its first row, since the rule began."""
        if "forget_after" not in self.fields:
            return False
        of_group = [row["slice"] for row in rows if row["from"] <= g and row["group"] == group and self.seen(row)]
        # A rule that was made between two rows has seen no earlier row.
        last = max(of_group, default=self.start)
        return g - (last if self.created is None else max(last, self.start)) >= self.fields["forget_after"]

    def plain(self, rows, g, group):
        key = (g, group)
        if key not in self.cache:
            self.cache[key] = aggregate(self.fields["aggregate"], [row["event"] for row in self.window(rows, g, group)])
        return self.cache[key]

    def before(self, rows, g, back, group):
        then = g - back
        if then < self.start + self.fields["window_seconds"]:
            return None
        # A group that was gone then had no value. It does not matter whether it was gone in between.
        if not self.known(rows, then, group):
            return None
        return self.plain(rows, then, group)

    def value(self, rows, everything, g, group):
        fields = self.fields
        value = self.plain(rows, g, group)
        divide = lambda by: value / by if value is not None and by else None
        if "share_of" in fields:
            return divide(float(len([row for row in everything if row["from"] <= g and g - fields["window_seconds"] < row["slice"] <= g])))
        if "compare" in fields:
            return divide(self.before(rows, g, seconds(fields["compare"]), group))
        if "anomaly" in fields:
            window = fields["window_seconds"]
            found = [self.before(rows, g, i * window, group) for i in range(1, fields["anomaly"]["baseline"] // window + 1)]
            found = [one for one in found if one is not None]
            if value is None or len(found) < max(2, fields["anomaly"]["min"]):
                return None
            total = 0.0
            for one in found:
                total += one
            mean = total / len(found)
            squares = 0.0
            for one in found:
                squares += (one - mean) * (one - mean)
            variance = squares / (len(found) - 1)
            return (value - mean) / math.sqrt(variance) if variance > 0 else None
        return value

    def limit(self):
        if "anomaly" not in self.fields:
            return self.fields["threshold"]
        z = self.fields["anomaly"]["z"]
        condition = self.fields.get("condition")
        return -z if NAMES.get(condition, condition) in ("lt", "le") else z

    def breach(self, value, is_firing):
        if value is None:
            return False
        limit = self.fields.get("resolve_threshold", self.limit()) if is_firing else self.limit()
        if "condition" not in self.fields:
            return abs(value) > limit
        return holds(self.fields["condition"], value, limit)

    def row(self, g, group, state, reason, value, since):
        window = self.fields["window_seconds"]
        at = lambda second: text(second * 1_000_000)
        return {
            "rule": self.fields["name"], "dimensions": json.loads(group), "state": state, "reason": reason, "value": value,
            "since": at(since), "at": at(g), "window_start": at(g - window), "window_end": at(g),
        }

    def evaluate(self, rows, everything, g, out):
        if g < self.start + self.fields["window_seconds"]:
            return
        # A rule that was made between two rows knows the groups of later seconds; the first rules know those of all rows.
        own = lambda row: self.created is None or row["slice"] > self.start
        groups = {row["group"] for row in rows if row["from"] <= g and own(row) and self.seen(row)} if self.fields["by"] else {"{}"}
        for group in sorted(groups | set(self.active)):
            if self.forgotten(rows, g, group):
                since, firing = self.active.pop(group, (None, None))
                if firing:
                    out.append(self.row(g, group, "resolved", "group gone", None, since))
                continue
            is_known = self.known(rows, g, group)
            if not is_known and group not in self.active:
                continue
            value = self.value(rows, everything, g, group)
            has_rows = bool(self.window(rows, g, group))
            since, firing = self.active.get(group, (None, None))
            reason = "condition" if self.breach(value, firing is not None) else None
            if reason is None and self.fields["no_data"] and not has_rows:
                reason = "no_data"
            null_as = self.fields.get("null_as", "ok")
            if reason is None and value is None and null_as == "breach":
                reason = "condition" if has_rows else "no_data"
            if reason is None and value is None and null_as == "keep":
                # The alert stays as it is, but a group that is gone waits for nothing.
                if firing is None and is_known and since is not None:
                    continue
                if firing is not None and firing["clear"] is None:
                    continue
            if firing is None:
                if reason is None:
                    if self.active.pop(group, None) is not None and value is None:
                        self.interrupted += 1
                    continue
                since = g if since is None else since
                self.active[group] = (since, None)
                if g - since >= self.fields["for"]:
                    self.active[group] = (since, {"reason": reason, "clear": None})
                    out.append(self.row(g, group, "firing", reason, value, since))
            elif reason is not None:
                firing["clear"] = None
            else:
                firing["clear"] = g if firing["clear"] is None else firing["clear"]
                if g - firing["clear"] >= self.fields["keep_firing_for"]:
                    out.append(self.row(g, group, "resolved", firing["reason"], value, since))
                    del self.active[group]


def rows_of(rule, events):
    found = [row for row in events if passes(row["event"], rule.fields.get("where"))]
    return [{**row, "group": dimensions(row["event"], rule.fields["by"])} for row in found]


def check(path):
    runs = json.load(open(f"{path}/runs.json"))
    events, seen, streams, rules = [], {}, {}, []
    evaluated = read_to = None
    compared, totals = 0, {"interrupted": 0, "silent": 0}
    for number, run in enumerate(runs):
        out = []
        # Rules are edited before the run reads.
        new = {fields["name"]: fields for fields in run["rules"] if fields["enabled"]}
        names = {fields["name"] for fields in run["rules"]}
        kept = []
        for rule in rules:
            name = rule.fields["name"]
            reason = None
            if name not in names:
                reason = "rule gone"
            elif name not in new:
                reason = "disabled"
            elif not rule.same_measure(new[name]):
                reason = "rule changed"
            if reason is None:
                rule.fields = new.pop(name)
                kept.append(rule)
                continue
            rows = rows_of(rule, events)
            for group, (since, firing) in sorted(rule.active.items()):
                if firing:
                    value = rule.value(rows, events, evaluated, group)
                    out.append(rule.row(evaluated + 1, group, "resolved", reason, value, since))
        created = None if read_to is None else max(grid(read_to), evaluated)
        rules = kept + [Rule(fields, created) for fields in new.values()]
        # Rows behind the clock of the run's start count from the next instant on.
        firsts, clock = [], None
        for name, count in run["files"].items():
            lines = open(f"{path}/{name}.all").read().splitlines()
            for line in lines[seen.get(name, 0) : count]:
                event = json.loads(line)
                time = datetime.datetime.fromisoformat(event["server_timestamp"]) - BASE
                time = time // datetime.timedelta(microseconds=1)
                streams[name] = max(streams.get(name, time), time)
                firsts.append(streams[name])
                clock = max(clock or 0, streams[name])
                since = grid(streams[name]) if evaluated is None else max(grid(streams[name]), evaluated + 1)
                events.append({"event": event, "slice": grid(time), "from": since})
            seen[name] = max(count, seen.get(name, 0))
        if clock is not None:
            read_to = max(clock, read_to or 0)
            if evaluated is None:
                evaluated = grid(min(firsts))
                for rule in rules:
                    rule.start = evaluated
            of_rule = [rows_of(rule, events) for rule in rules]
            for rule in rules:
                rule.cache = {}
            # The run is long after the rows, so the second of the last one is over.
            for g in range(evaluated + 1, grid(read_to) + 1):
                for rule, rows in zip(rules, of_rule):
                    rule.evaluate(rows, events, g, out)
                evaluated = g
            for rule, rows in zip(rules, of_rule):
                totals["silent"] += sum(not rule.known(rows, evaluated, group) for group in rule.active)
        order = lambda row: (row["at"], row["rule"], json.dumps(row["dimensions"]), row["state"])
        expected = sorted(out, key=order)
        found = [json.loads(line) for line in open(f"{path}/out{number}.jsonl")]
        for row in found:
            row["dimensions"] = json.loads(row["dimensions"]) if isinstance(row["dimensions"], str) else row["dimensions"]
        found = sorted(({name: row.get(name) for name in ["rule", "dimensions", "state", "reason", "value", "since", "at", "window_start", "window_end"]} for row in found), key=order)
        for at in range(max(len(expected), len(found))):
            one, other = (rows[at] if at < len(rows) else None for rows in (expected, found))
            assert one == other, f"run {number}, row {at}:\nexpected {one}\nfound    {other}"
        still = any(firing for rule in rules for _, firing in rule.active.values())
        stats = json.load(open(f"{path}/stats{number}.json"))
        interrupted = sum(rule.interrupted for rule in rules)
        assert stats["interruptions"] == interrupted, f"run {number}: expected {interrupted} interruptions, found {stats}"
        for rule in rules:
            rule.interrupted = 0
        totals["interrupted"] += interrupted
        for row in expected:
            totals[row["reason"]] = totals.get(row["reason"], 0) + 1
        status = int(any(row["state"] == "firing" for row in out) or still)
        found_status = int(open(f"{path}/status{number}").read())
        assert status == found_status, f"run {number}: expected status {status}, found {found_status}"
        compared += len(expected)
    print(json.dumps({**totals, "compared": compared}))


if sys.argv[1] == "generate":
    os.makedirs(sys.argv[2], exist_ok=True)
    generate(sys.argv[2], int(sys.argv[3]))
else:
    check(sys.argv[2])
