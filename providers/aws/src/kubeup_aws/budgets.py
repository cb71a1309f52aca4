"""How often AWS lets an account ask, as token buckets, and which of them a request takes from. Pure; called by `client.py`.

Sizes and refill rates are those that AWS publishes for EC2 ("Request throttling for the Amazon EC2 API"); for the other services, which
publish none, cautious ones. Launches and terminations take from two: one token per request, one per machine.
"""

from __future__ import annotations

BUDGETS: dict[str, tuple[float, float]] = {
    "ec2-read": (100.0, 20.0),
    "ec2-write": (50.0, 5.0),
    "ec2-run": (5.0, 2.0),
    "ec2-run-machines": (1000.0, 2.0),
    "ec2-terminate": (100.0, 5.0),
    "ec2-terminate-machines": (1000.0, 20.0),
    "elb-read": (40.0, 10.0),
    "elb-write": (20.0, 3.0),
    "other": (40.0, 10.0),
}
"""bucket -> (size, refill per second)."""

READS = ("describe_", "get_")
PER_MACHINE = {"run_instances": "ec2-run", "terminate_instances": "ec2-terminate"}


def bucket(service: str, action: str, members: int) -> list[tuple[str, float]]:
    """What a request takes: (bucket, tokens)."""
    if action in PER_MACHINE:
        name = PER_MACHINE[action]
        return [(name, 1.0), (f"{name}-machines", float(members))]
    if service not in ("ec2", "elbv2"):
        return [("other", 1.0)]
    return [(f"{'ec2' if service == 'ec2' else 'elb'}-{'read' if action.startswith(READS) else 'write'}", 1.0)]
