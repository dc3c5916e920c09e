"""Made-up statistics of a model, as Triton's ``/v2/models/M/stats`` has them."""


def statistics(batches: dict[int, tuple[int, float]], queue_ms: float) -> dict:
    """Return statistics of a model in Triton's form.

    Args:
        batches: for each size the number of runs, and the milliseconds that each took.
        queue_ms: what all requests together waited.
    """
    rows = sum(size * runs for size, (runs, _ms) in batches.items())

    def summed(milliseconds: float) -> dict:
        return {"count": rows, "ns": round(1e6 * milliseconds)}

    def of_runs(runs: int, milliseconds: float) -> dict:
        return {"count": runs, "ns": round(1e6 * runs * milliseconds)}

    per_request = sum(size * runs * ms for size, (runs, ms) in batches.items())
    return {
        "name": "painter",
        "version": "1",
        "last_inference": 1700000000000,
        "inference_count": rows,
        "execution_count": sum(runs for runs, _ms in batches.values()),
        "inference_stats": {
            "success": summed(queue_ms + per_request),
            "fail": {"count": 0, "ns": 0},
            "queue": summed(queue_ms),
            "compute_input": summed(0),
            "compute_infer": summed(per_request),
            "compute_output": summed(0),
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": of_runs(runs, 0),
                "compute_infer": of_runs(runs, ms),
                "compute_output": of_runs(runs, 0),
            }
            for size, (runs, ms) in batches.items()
        ],
    }
