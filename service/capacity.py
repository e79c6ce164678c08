"""How many nodes, workers, devices, gigabytes and disk operations a load needs: a small model, simulated.

A study's way is two queues in a row: processors (read, prepare, build, keep), then devices for the network.
Studies come by chance (Poisson) at the rate of the busiest hour; the time of each varies (lognormal).
The smallest number of places is taken at which they are busy at most `UTILISATION` of the time and 95 of 100
studies wait no longer than asked. Everything else is multiplication. All that was measured is an input.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UTILISATION = (
    0.75  # of processors and devices in the busiest hour: the rest is for replays and a dead machine
)
NODE_UTILISATION = 0.5  # of a node's processors: senders must never wait for it
NODE_CORES = 2
CORES_PER_WORKER = 4  # beside the one that feeds the network, as the profile of a study says
JOBS_PER_WORKER = 3  # studies in hand at a time, by the default of VIGIL_INFER_JOBS
SPREAD = 0.5  # standard deviation of a study's time over its mean
SIMULATED = 4000  # studies of one simulation
SEED = 8
MB = 1e6
GB = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What one study and one instance cost, as measured.

    Attributes
    ----------
    receive_ms, register_ms : float
        Processor time of one instance: taking it, and its rows.
    work_s : float
        Processor time of one study in a worker, without the network.
    samples : float
        Slices or pictures of one study that the network runs on.
    device_samples_s : float
        What one device runs a second.
    results_mb : float
        Objects that are built, and the map.
    database_kb, database_instance_kb : float
        Rows of one study, and of each of its instances, with their indexes.
    operations : float
        Disk operations of one instance on the node: the write that is waited for, the file, and its reading.
    commits : float
        Transactions of one study, each of which the database's disk confirms.
    worker_gb, node_gb : float
        Memory of one process at its limit.
    """

    receive_ms: float = 0.36
    register_ms: float = 1.0
    work_s: float = 3.47
    samples: float = 66.0
    device_samples_s: float = 119.5
    results_mb: float = 31.6
    database_kb: float = 40.0
    database_instance_kb: float = 2.0
    operations: float = 3.0
    commits: float = 20.0
    worker_gb: float = 4.0
    node_gb: float = 1.0


# Where each input comes from, printed beside it.
SOURCES: dict[str, str] = {
    "receive_ms": "tests.benchmarks.ingest, MR, 8 associations (docs/architecture.md)",
    "register_ms": "tests.benchmarks.capacity",
    "work_s": "tests.benchmarks.capacity, less the network",
    "samples": "tests.benchmarks.capacity: slices that hold a brain",
    "device_samples_s": "tests.benchmarks.worker, one processor; no GPU was measured: --device-samples-s",
    "results_mb": "tests.benchmarks.capacity",
    "database_kb": "allowed for; tests.benchmarks.capacity counts 3 without scores, results and audit",
    "database_instance_kb": "tests.benchmarks.capacity",
    "operations": "tests.benchmarks.ingest --syncs: one write; the file and its reading counted",
    "commits": "counted: rows, revision, job, attempt, scores, deliveries and the engine's own",
    "worker_gb": "VIGIL_MEMORY_MB of 2 GB, and as much for network and results",
    "node_gb": "tests.benchmarks.ingest: 107 MB at its peak, and page cache for bursts",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What comes.

    Attributes
    ----------
    name : str
    studies_hour : float
        In the busiest hour.
    hours_day, days_year : float
        For storage: hours a day at half that rate, and days on which anything comes.
    instances : int
        Of one study.
    study_mb : float
    scale : float
        Work of one study as a multiple of the measured one, where it is of another size: not measured.
    samples : float, optional
        In place of the measured study's.
    """

    name: str
    studies_hour: float
    hours_day: float = 12.0
    days_year: float = 365.0
    instances: int = 160
    study_mb: float = 21.0
    scale: float = 1.0
    samples: float | None = None


# Four views of 3328 x 4084 pixels of two bytes, and the work of the measured study by the megabyte.
SCREENING = Load(
    name="screening programme: 2,000,000 people a year, mammography",
    studies_hour=2_000_000 / 250 / 10 * 1.5,  # on 250 days of 10 hours; the busiest half as much again
    hours_day=13.3,
    days_year=250.0,
    instances=4,
    study_mb=109.0,
    scale=109 / 21,
    samples=4.0,
)
LOADS = (
    *(Load(name=f"{rate:,} studies an hour", studies_hour=rate) for rate in (50, 500, 5000)),
    SCREENING,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a load needs.

    Attributes
    ----------
    nodes, workers, cores, devices : int
        Receiving machines of `NODE_CORES` processors; worker processes; their processors and devices.
    wait_s : float
        95 of 100 studies wait no longer, of the simulation.
    study_s : float
        From job to results, 95 of 100.
    memory_gb : float
        Of nodes and workers.
    received_gb_day, results_gb_day, database_gb_year : float
    node_iops, database_iops : float
        In the busiest hour, all nodes together.
    network_mbit_s : float
        In and out of Vigil in the busiest hour.
    """

    nodes: int
    workers: int
    cores: int
    devices: int
    wait_s: float
    study_s: float
    memory_gb: float
    received_gb_day: float
    results_gb_day: float
    database_gb_year: float
    node_iops: float
    database_iops: float
    network_mbit_s: float


def plan(load: Load, costs: Costs, *, wait_s: float) -> Need:
    """What a load needs, so that 95 of 100 studies wait at most `wait_s` seconds.

    Parameters
    ----------
    load : Load
    costs : Costs
    wait_s : float
        In seconds, in both queues together.
    """
    rate = load.studies_hour / 3600
    network_s = (costs.samples if load.samples is None else load.samples) / costs.device_samples_s
    work_s = costs.work_s * load.scale
    cores = least_places(rate, work_s)
    devices = least_places(rate, network_s)
    while True:
        waits, whole = simulate(rate, (work_s, network_s), (cores, devices))
        waited = float(np.percentile(waits, 95))
        if waited <= wait_s:
            break
        # The queue whose places are busier is the one that holds up.
        if rate * work_s / cores >= rate * network_s / devices:
            cores += 1
        else:
            devices += 1
    in_hand = least_places(rate, work_s + network_s)  # a study waits until a worker takes one more
    workers = max(devices, math.ceil(cores / CORES_PER_WORKER), math.ceil(in_hand / JOBS_PER_WORKER))
    node_busy = rate * load.instances * (costs.receive_ms + costs.register_ms) / 1000
    nodes = math.ceil(node_busy / (NODE_CORES * NODE_UTILISATION))
    studies_day = load.studies_hour / 2 * load.hours_day
    study_db_kb = costs.database_kb + load.instances * costs.database_instance_kb
    results_mb = costs.results_mb * load.study_mb / 21.0
    return Need(
        nodes=nodes,
        workers=workers,
        cores=cores,
        devices=devices,
        wait_s=waited,
        study_s=float(np.percentile(whole, 95)),
        memory_gb=nodes * costs.node_gb + workers * costs.worker_gb,
        received_gb_day=studies_day * load.study_mb * MB / GB,
        results_gb_day=studies_day * results_mb * MB / GB,
        database_gb_year=studies_day * load.days_year * study_db_kb * 1000 / GB,
        node_iops=rate * load.instances * costs.operations,
        database_iops=rate * costs.commits,
        network_mbit_s=rate * (load.study_mb + results_mb) * 8,
    )


def least_places(rate: float, seconds: float) -> int:
    """Places that are busy at most `UTILISATION` of the time."""
    return max(math.ceil(rate * seconds / UTILISATION), 1)


def simulate(
    rate: float, seconds: Sequence[float], places: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Waits and whole times of studies through queues in a row, first come first served.

    Parameters
    ----------
    rate : float
        Studies a second, by chance.
    seconds : sequence of float
        Mean time of a study at each station.
    places : sequence of int
        Of each station.

    Returns
    -------
    waits, whole : float64, shape (studies,)
        In seconds, of all stations together. The same every time: the seed is fixed.
    """
    chance = np.random.default_rng(SEED)
    arrivals = np.cumsum(chance.exponential(1 / rate, SIMULATED))
    waits = np.zeros(SIMULATED)
    ready = arrivals.copy()
    sigma = math.sqrt(math.log(1 + SPREAD**2))
    for mean_s, count in zip(seconds, places, strict=True):
        times = mean_s * chance.lognormal(-(sigma**2) / 2, sigma, SIMULATED)
        free = [0.0] * count
        for study in np.argsort(ready, kind="stable"):
            begun = max(float(ready[study]), heapq.heappop(free))
            waits[study] += begun - ready[study]
            ready[study] = begun + times[study]
            heapq.heappush(free, float(ready[study]))
    return waits, ready - arrivals
