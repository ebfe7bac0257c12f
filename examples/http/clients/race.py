"""Sends one request fifty times at once with one key, through an SDK that retries, and says which
ids came back.

Usage: race.py SDK ADDRESS KEY, where SDK is stripe or stainless. Prints one line of JSON: the ids
with how often each came, the errors, and how many answers were replays, as far as the SDK tells.
"""

import collections
import concurrent.futures
import json
import sys

CLIENTS = 50


def stripe_charge(address, key):
    import stripe

    stripe.api_key = "sk_test_x"
    stripe.api_base = address
    stripe.max_network_retries = 12
    charge = stripe.Charge.create(
        amount=100, currency="usd", source="tok_visa", idempotency_key=key
    )
    headers = charge.last_response.headers
    return charge.id, headers.get("Idempotency-Replayed") == "true"


def stainless_counterparty(address, key):
    from modern_treasury import ModernTreasury

    client = ModernTreasury(
        api_key="x", organization_id="o", base_url=address, max_retries=12
    )
    made = client.counterparties.with_raw_response.create(
        name="a", idempotency_key=key
    )
    return made.parse().id, made.headers.get("idempotency-replayed") == "true"


def main():
    sdk, address, key = sys.argv[1:]
    ask = {"stripe": stripe_charge, "stainless": stainless_counterparty}[sdk]
    ids, errors, replays = collections.Counter(), collections.Counter(), 0
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        for future in [pool.submit(ask, address, key) for _ in range(CLIENTS)]:
            try:
                name, replayed = future.result()
                ids[name] += 1
                replays += replayed
            except Exception as error:
                errors[f"{type(error).__name__}: {error}"[:120]] += 1
    print(json.dumps({"ids": ids, "errors": errors, "replays": replays}))
    sys.exit(0 if len(ids) == 1 and not errors else 1)


main()
