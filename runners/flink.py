"""Preset: the Flink cluster, through Beam's job server; streaming, exactly once inside the graph.

Each flag with what it is for; docs/facts.md has what was measured without it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runners.stack import Endpoints
from runners.stack.flink import flink_uri

_STAGES: Final = 4  # of the main job that Flink runs in Python; a test counts them


@dataclass(frozen=True, kw_only=True)
class FlinkRun:
    """One job on a Flink cluster. Times in milliseconds."""

    job_endpoint: str
    artifact_endpoint: str
    worker_pool: str
    tiny_jar: Path
    flink_conf_dir: Path
    checkpoints: Path
    job_name: str
    parallelism: int = 1
    checkpoint_ms: int = 5_000
    bundle_ms: int = 100
    bundle_size: int = 10_000
    savepoint: Path | None = None  # its source has no successor in this job
    bounded: bool = False  # the job ends with its input

    @staticmethod
    def on(places: Endpoints, job_name: str, **run: Any) -> "FlinkRun":
        """A run on the cluster of a local stack; `run` names what differs from the defaults."""
        return FlinkRun(
            job_endpoint=places.job_endpoint,
            artifact_endpoint=places.artifact_endpoint,
            worker_pool=places.worker_pool,
            tiny_jar=places.tiny_jar,
            flink_conf_dir=places.flink_conf_dir,
            checkpoints=places.state_dir / "flink" / "checkpoints",
            job_name=job_name,
            **run,
        )

    @property
    def workers(self) -> int:
        """Python processes of a TaskManager: one for each of the four stages of a slot.

        Beam deals stages out by turns, in the order in which they start: with fewer processes two that are busy may
        share one, and wait for its lock.
        """
        return _STAGES * self.parallelism

    def flags(self) -> list[str]:
        """The pipeline options of this run."""
        flags = [
            "--runner=PortableRunner",
            "--streaming",
            f"--job_name={self.job_name}",
            f"--job_endpoint={self.job_endpoint}",
            f"--artifact_endpoint={self.artifact_endpoint}",
            "--environment_type=EXTERNAL",
            f"--environment_config={self.worker_pool}",
            f"--files_to_stage={self.tiny_jar}",  # the cluster has the jars itself: nothing to upload
            f"--flink_conf_dir={self.flink_conf_dir}",
            f"--parallelism={self.parallelism}",
            f"--sdk_worker_parallelism={self.workers}",
            "--auto_watermark_interval=20",  # ms, of the source; 200 by default, and half of it waits in every bar
            f"--checkpointing_interval={self.checkpoint_ms}",
            "--externalized_checkpoints_enabled",
            "--retain_externalized_checkpoints_on_cancellation",
            # else a bundle's outputs wait behind the checkpoint while the watermark passes: they come too late
            "--finish_bundle_before_checkpointing",
            "--state_backend=filesystem",  # the default holds 5 MB a state
            f"--state_backend_storage_path={flink_uri(self.checkpoints)}",
            f"--max_bundle_size={self.bundle_size}",
            f"--max_bundle_time_mills={self.bundle_ms}",
            "--max_cache_memory_usage_mb=500",  # 0 asks Flink for each state read
            "--object_reuse",
            "--faster_copy",
            "--beam_plugins=transforms.kafka_chunks",  # workers must know coder and input before they build a bundle
            "--beam_plugins=transforms.beam_worker",  # what the worker does for each bundle must be cheap
            "--experiments=beam_fn_api",
        ]
        if self.savepoint:
            flags += [f"--savepoint_path={flink_uri(self.savepoint)}", "--allow_non_restored_state"]
        if self.bounded:
            return [*flags, "--shutdown_sources_after_idle_ms=0"]  # else a source read to its end idles for ever
        # else every record that KafkaIO reads updates every metric; a job that ends fails without them (docs/facts.md)
        return [*flags, "--disable_metrics", "--beam_plugins=transforms.silent_bundles"]
