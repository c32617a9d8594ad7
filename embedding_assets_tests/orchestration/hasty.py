"""The code location with a sign of life every second, so that nobody waits for half a minute to miss one."""

from embedding_assets.orchestration import heartbeat

heartbeat.BEAT_SECONDS = 1.0  # before the sensor, which waits for a little longer than that, is imported

from embedding_assets.definitions import defs  # noqa: E402

__all__ = ["defs"]
