"""Polls a job from eight clients at once: `python benchmarks/poll.py --url http://127.0.0.1:8321 JOB`.

Starts nothing. Prints how many requests failed, requests per second, and the median and the 99th percentile
of their times.
"""

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import httpx

CLIENTS = 8
REQUESTS = 10_000


def poll(url: str, job: str, count: int) -> tuple[list[float], int]:
    """Asks `count` times over one connection. Returns each answer's seconds, and how many were none."""
    times, failures = list[float](), 0
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        for _ in range(count):
            begun = time.perf_counter()
            try:
                sound = client.get(f"/v1/jobs/{job}").status_code == HTTPStatus.OK
            except httpx.HTTPError:
                sound = False
            times.append(time.perf_counter() - begun)
            failures += not sound
    return times, failures


def main() -> int:
    """Returns 1 where a request failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--url", default="http://127.0.0.1:8321")
    parser.add_argument("job")
    arguments = parser.parse_args()
    status = httpx.get(f"{arguments.url}/v1/jobs/{arguments.job}", trust_env=False).json().get("status")
    begun = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        asked = [pool.submit(poll, arguments.url, arguments.job, REQUESTS // CLIENTS) for _ in range(CLIENTS)]
        answers = [future.result() for future in asked]
    seconds = time.perf_counter() - begun
    times = [one for own, _ in answers for one in own]
    failures = sum(failed for _, failed in answers)
    print(f"the job was {status}; {len(times):,} requests of {CLIENTS} clients in {seconds:.1f} s")
    print(f"failures  {failures}")
    print(f"per second  {len(times) / seconds:.0f}")
    print(f"median  {statistics.median(times) * 1000:.1f} ms")
    print(f"99th percentile  {statistics.quantiles(times, n=100)[98] * 1000:.1f} ms")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
