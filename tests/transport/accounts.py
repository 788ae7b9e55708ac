"""What must be true of a home's books, letters and servers, and at the end of a home."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from typing import Any

from llm_metering.transport.status import home_status

from .on_disk import contents
from .processes import Known, Process
from .servers import Server
from .world import World

_END_ROUNDS = 100


class Auditor:
    """Compares what the home says of itself with what the world knows."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._highest: Counter[str] = Counter()

    def look(self) -> dict[str, Any]:
        """Check what holds at any moment, between any two calls of anybody; returns the status."""
        world = self._world
        status = home_status(world.home)
        known = world.known.values()
        seen = [each for each in known if each.event_seen]
        assert world.wrongs == [], world.wrongs
        assert len(seen) <= status["recorded"] <= len(known), "recorded"
        sums = {f"dropped {reason}": count for reason, count in status["dropped"].items()}
        sums |= {"recorded": status["recorded"], "failures": status["failures"]}
        for name, count in sums.items():
            assert count >= self._highest[name], f"{name} went down"
            self._highest[name] = count
        rows = {(row["url"], row["account"]): row for row in status["sinks"]}
        for source, servers in world.servers.items():
            for server in servers:
                row = rows.pop((server.url, server.account), None)
                owed = [each for each in seen if each.process.source == source]
                if row is None:
                    assert owed == []
                else:
                    self._look_at_row(server, row, owed)
        assert rows == {}
        return status

    def _look_at_row(self, server: Server, row: dict[str, Any], owed: list[Known]) -> None:
        counts = [row[key] for key in ("acked", "pending", "dead", "dropped")]
        assert min(counts) >= 0, row
        assert row["recorded"] == sum(counts) >= len(owed), row
        letters = self._world.letters(server)
        assert row["acked"] <= len(server.taken), row
        assert row["dead"] <= len(letters), row
        missing = [e for e in owed if e.id not in server.taken and e.id not in letters]
        assert len(missing) <= row["pending"] + row["dropped"], ("lost", server.name, missing)
        if not row["dropped"]:
            on_disk = b"".join(contents(self._world.spool))
            assert all(each.event in on_disk for each in missing if each.event), "lost"
        assert not row["dropped"] or server.debt.key in self._world.may_drop, row

    def settle_up(self) -> None:
        """Let everything come to its end with nobody dying any more, and check what it is."""
        world = self._world
        self._finish()
        status = self.look()
        known = world.known.values()
        # An event that was dropped may leave its call interrupted, if the process is killed.
        left_open = {e.id for e in known if e.is_interrupted and not e.was_dropped}
        must = {e.id for e in known if e.event_seen or e.is_counted} | left_open
        # What was shipped from memory by a process that was killed may be in no book.
        may = {e.id for e in known if e.payloads and (e.is_interrupted or not e.was_dropped)}
        assert must <= may
        assert len(must) <= status["recorded"] <= len(may), (len(must), status, len(may))
        dropped = status["dropped"]["disk_full"]
        assert sum(e.drop_noted for e in known) <= dropped <= sum(e.was_dropped for e in known)
        failures = status["failures"]
        assert world.counts["sure"] <= failures <= world.counts.total()
        given_up = sum(status["dropped"].values()) - dropped
        if not world.reasons & {"kill", "full", "spoiled"}:
            assert given_up == sum(row["dropped"] for row in status["sinks"])
        assert status["open_calls"] == 0
        rows = {(row["url"], row["account"]): row for row in status["sinks"]}
        shares: defaultdict[str, set[int]] = defaultdict(set)
        for source, servers in world.servers.items():
            for server in servers:
                row = rows.get((server.url, server.account))
                if row is not None:
                    shares[source].add(row["recorded"])
                    mine = {i for i in must if world.known[i].process.source == source}
                    self._settle_server(server, row, mine, may)
        assert all(len(share) == 1 for share in shares.values()), shares
        assert sum(map(sum, shares.values())) == status["recorded"]
        left = {path.name for path in world.spool.folder.glob("*") if path.suffix != ".sink"}
        assert left <= {"counters.json", "counters.lock", "dead", "kept"}, left

    def _finish(self) -> None:
        world = self._world
        world.kernel.room = None
        for number, process in enumerate(list(world.processes)):
            process.running.plan = None
            if number % 2 == 0:
                world.sync(process, process.journal.close, None)
            world.kill(process)
        for path in world.spool.folder.rglob("*"):
            os.utime(path, (0, 0))
        # The second time finds what the first left because another sink had it in hand.
        for _ in range(2):
            heirs = [world.start(source) for source in world.servers]
            # A batch each: with segments of one event, as many as there are events.
            for _ in range(_END_ROUNDS + len(world.known)):
                world.clock.now += 61
                goes_on = [self._pump_all(heir) for heir in heirs]
                if not any(goes_on):
                    break
            else:
                raise AssertionError("no end")
            for heir in heirs:
                world.sync(heir, heir.journal.close, None)
                for shipper in heir.shippers:
                    shipper.begin_close(deadline=world.clock.now)
                    world.run(heir, shipper.finish_close)
                world.kill(heir)

    def _pump_all(self, process: Process) -> bool:
        """Whether there was, or is, anything to do."""
        waits: list[float | None] = []

        def pump() -> None:
            for shipper in process.shippers:
                shipper._pump.next_adoption = 0.0
                waits.append(shipper._pump.once(urgent=True, adopt=True))

        self._world.run(process, pump)
        return any(wait is not None for wait in waits)

    def _settle_server(
        self, server: Server, row: dict[str, Any], must: set[str], may: set[str]
    ) -> None:
        world = self._world
        taken, letters = set(server.taken), self._world.letters(server)
        assert row["pending"] == 0, row
        assert taken | set(letters) <= may, "an event of a call that has none"
        assert len(must - taken - set(letters)) <= row["dropped"], "lost"
        assert len((set(letters) - taken) & must) <= row["dead"] + row["dropped"], row
        assert len((taken - set(letters)) & must) <= row["acked"] + row["dropped"], row
        for event_id in taken | set(letters):
            known = world.known[event_id]
            payloads = set(server.taken.get(event_id, ()))
            assert payloads <= known.payloads, f"{event_id} was sent as something else"
            shown = [p for p in known.payloads if p.decode() in letters.get(event_id, "")]
            assert event_id not in letters or shown, f"{event_id} is in a letter as something else"
        unsure, again = world.unsure[server.debt.key], world.again[server.debt.key]
        sent_twice = {each for each, payloads in server.taken.items() if len(payloads) > 1}
        assert sent_twice <= unsure | again, f"sent twice for no reason: {sent_twice}"
        counted_twice = {each for each, times in server.counted.items() if times > 1}
        assert not server.dedupes or counted_twice <= unsure, f"counted twice: {counted_twice}"
