"""The events of the benchmark: those of the peers' workload in form, size and faults, drawn from a fixed seed."""
import datetime
import json
import random

SOURCES = ["web", "ios", "android", "server", "partner"]
TYPES = ["page_view", "click", "scroll", "search", "add_to_cart", "purchase", "signup", "error"]
COUNTRIES = (
    "US IN BR DE GB FR JP CA AU MX ES IT NL SE PL TR ID KR AR ZA NG EG SA AE CH BE AT DK NO FI PT GR CZ RO HU IL SG TH VN NZ"
).split()
DEVICES = ["mobile", "mobile", "mobile", "desktop", "tablet"]
START = datetime.datetime(2026, 3, 1, 12)
# Four million events an hour.
STEP_MS = 0.9


class Draw:
    """Draws by `random()` alone, whose values are the same in every version of Python."""

    def __init__(self, seed):
        self.random = random.Random(seed).random

    def below(self, count):
        return int(self.random() * count)

    def one(self, values):
        return values[self.below(len(values))]

    def skewed(self, values):
        """One of the values; the first ones are more frequent."""
        return values[int(len(values) * self.random() ** 3)]

    def uuid(self):
        digits = "".join("%08x" % self.below(1 << 32) for _ in range(4))
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def records(count, seed=7):
    """Yields lines without their ends. One in twenty is up to 30 s late, one in 200 up to two hours, one in 1,000 is faulty."""
    draw = Draw(seed)
    users = [draw.uuid() for _ in range(20_000)]
    pages = [f"/shop/{draw.one(['home', 'item', 'list', 'cart', 'help'])}/{at:04d}" for at in range(500)]
    agents = [
        f"Mozilla/5.0 (X11; Linux x86_64; rv:{80 + at}.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{80 + at}.0.{1000 + at}.{10 + at}".ljust(120, "x")
        for at in range(64)
    ]
    for at in range(count):
        delay = draw.random()
        back = draw.random() * (30_000 if delay < 0.05 else 7_200_000 if delay < 0.055 else 0)
        time = START + datetime.timedelta(milliseconds=int(at * STEP_MS) - int(back))
        kind = draw.skewed(TYPES)
        properties = {
            "page": draw.skewed(pages),
            "country": draw.skewed(COUNTRIES),
            "device": draw.one(DEVICES),
            "latency_ms": round(10 + 400 * draw.random() ** 4, 3),
            **({"amount": round(5 + 200 * draw.random() ** 2, 2)} if kind == "purchase" else {}),
            "referrer": f"https://ref{draw.below(50):02d}.example.com/landing?c={draw.below(1000):03d}",
            "session_id": draw.uuid(),
            "ua": draw.one(agents),
        }
        event = {
            "event_id": draw.uuid(),
            "source": draw.one(SOURCES),
            "event_type": kind,
            "user_id": None if draw.random() < 0.1 else draw.one(users),
            "properties": properties,
            "client_timestamp": time.isoformat(timespec="milliseconds") + "Z",
        }
        is_faulty, fault = draw.random() < 0.001, draw.below(4)
        if is_faulty and fault < 3:
            event[["event_id", "event_type", "client_timestamp"][fault]] = [None, 7, "yesterday"][fault]
        line = json.dumps(event, separators=(",", ":"))
        yield line[:200] if is_faulty and fault == 3 else line
