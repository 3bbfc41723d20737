#!/usr/bin/env python3
"""Writes events as JSON lines, spread evenly over a span of event time. The same arguments give the same bytes.

    benches/events.py EVENTS --span SECONDS [--keys KEYS] [--shuffle SECONDS]

With --keys each event has one of so many keys; with --shuffle an event is at most so many seconds behind one before it.
"""
import argparse
import datetime
import random
import sys

START = datetime.datetime(2026, 1, 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("events", type=int)
    parser.add_argument("--span", type=int, required=True)
    parser.add_argument("--keys", type=int)
    parser.add_argument("--shuffle", type=int)
    args = parser.parse_args()
    draw = random.Random(17)
    instants = (at * args.span * 1000 // args.events for at in range(args.events))
    if args.shuffle:
        instants = sorted(instants, key=lambda at: at + draw.randrange(args.shuffle * 1000))
    lines, known, text = [], None, ""
    for at in instants:
        second, rest = divmod(at, 1000)
        if second != known:
            known, text = second, (START + datetime.timedelta(seconds=second)).isoformat()
        key = '"k":"key-%d",' % draw.randrange(args.keys) if args.keys else ""
        lines.append('{"timestamp":"%s.%03dZ","source":"s","event_type":"t",%s"v":%d.%02d}\n'
                     % (text, rest, key, draw.randrange(1000), draw.randrange(100)))
        if len(lines) == 10_000:
            sys.stdout.write("".join(lines))
            lines.clear()
    sys.stdout.write("".join(lines))


if __name__ == "__main__":
    main()
