"""Which events clients lose, and which come twice, when something goes wrong.

Each cell of the table is one client in one scenario: an application in a process of its own
records numbered events and notes each one whose call returned; a fake server in another process
notes each one that reached it; the scenario breaks something in between. Lost is what was noted
here and not there. Then the application is started once more, records nothing, lives a while and
ends: what that still delivers is not lost.

    python -m benchmarks.losses [--python PEERS] [--only CLIENT] [--scenario NAME]
"""
