"""Compare what the ledger has of a period with what a meter of Stripe's has.

    python reconcile_with_stripe.py METER_ID CUSTOMERS.toml START END

METER_ID is the meter's `mtr_…`, CUSTOMERS.toml the file that the sink has, START and END are days
or moments in UTC, END not included: 2026-11-01 2026-12-01. The key is that of STRIPE_API_KEY, the
ledger that of LLM_METERING_HOME. The meter must be fed from `total_tokens`.
"""

import os
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import httpx

import llm_metering

API = os.environ.get("STRIPE_API_BASE", "https://api.stripe.com")


def moment(text: str) -> datetime:
    """A moment in UTC; Stripe sums up whole minutes."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC, second=0, microsecond=0)


def main() -> int:
    """Print a line for each customer; 1 if one of them differs."""
    meter_id, customers_file, start, end = sys.argv[1:]
    customers = tomllib.loads(Path(customers_file).read_text("utf-8"))["stripe_customers"]
    report = llm_metering.usage(
        meter="tokens_total", start=moment(start), end=moment(end), group_by=["subject"]
    )
    ours: dict[str, int] = {}
    for row in report:
        # A subject that is in no line of the file is a customer itself.
        customer = customers.get(row.subject, row.subject)
        ours[customer] = ours.get(customer, 0) + int(row.value or 0)
    differing = 0
    with httpx.Client(
        headers={"Authorization": f"Bearer {os.environ['STRIPE_API_KEY']}"}
    ) as client:
        for customer, tokens in sorted(ours.items()):
            if not customer.startswith("cus_"):
                print(f"{customer}: {tokens} tokens, and no customer of Stripe's")
                differing += 1
                continue
            answer = client.get(
                f"{API}/v1/billing/meters/{meter_id}/event_summaries",
                params={
                    "customer": customer,
                    "start_time": int(moment(start).timestamp()),
                    "end_time": int(moment(end).timestamp()),
                },
            )
            answer.raise_for_status()
            theirs = sum(int(each["aggregated_value"]) for each in answer.json()["data"])
            differing += theirs != tokens
            print(f"{customer}: {tokens} tokens here, {theirs} at Stripe")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
