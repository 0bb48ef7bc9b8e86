"""The flags of a job on Flink that one would not miss by looking at its output."""

from pathlib import Path

from runners.flink import FlinkRun


def run(parallelism: int = 1, bounded: bool = False) -> list[str]:
    """The flags of a run at places that are not asked."""
    return FlinkRun(
        job_endpoint="127.0.0.1:1",
        artifact_endpoint="127.0.0.1:2",
        worker_pool="127.0.0.1:3",
        tiny_jar=Path("/nowhere/tiny.jar"),
        flink_conf_dir=Path("/nowhere/conf"),
        checkpoints=Path("/nowhere/checkpoints"),
        job_name="job",
        parallelism=parallelism,
        bounded=bounded,
    ).flags()


def test_each_stage_of_a_slot_has_a_python_process() -> None:
    assert "--sdk_worker_parallelism=4" in run()
    assert "--sdk_worker_parallelism=12" in run(parallelism=3)


def test_only_a_job_without_end_runs_without_metrics() -> None:
    silent = {"--disable_metrics", "--beam_plugins=transforms.silent_bundles"}
    assert silent <= set(run())
    assert not silent & set(run(bounded=True))
