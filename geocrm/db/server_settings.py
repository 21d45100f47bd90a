"""Settings of the private PostgreSQL: what keeps data in a power cut, and how much memory is whose."""

from __future__ import annotations

import os
from pathlib import Path

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
THROW_AWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def server_settings(memory_bytes: int, *, durable: bool) -> dict[str, str]:
    """Settings for a machine with that much memory, which the API and the worker share."""
    mib = memory_bytes // 2**20
    settings = {
        "listen_addresses": "''",
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
        "jit": "off",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "100",
        "client_connection_check_interval": "2s",  # the statement of a client that was killed ends
        "checkpoint_timeout": "15min",
        "checkpoint_completion_target": "0.9",
        "wal_compression": "on",  # lz4 where it was built in: building indexes spends a fifth less
        "log_line_prefix": "'%m [%p] '",
        "log_autovacuum_min_duration": "-1",
        "log_checkpoints": "off",
    }
    if durable:
        settings |= DURABLE | {
            "shared_buffers": f"{_clamp(mib // 6, 64, 8192)}MB",
            "effective_cache_size": f"{max(mib * 6 // 10, 128)}MB",
            "work_mem": f"{_clamp(mib // 256, 4, 128)}MB",
            "maintenance_work_mem": f"{_clamp(mib // 16, 64, 2048)}MB",
            "max_wal_size": "4GB" if mib >= 4096 else "1GB",
        }
    else:
        settings |= THROW_AWAY | {
            "shared_buffers": f"{_clamp(mib // 24, 64, 512)}MB",
            "work_mem": "16MB",
            "maintenance_work_mem": f"{_clamp(mib // 32, 64, 256)}MB",
            "max_wal_size": "2GB",
            "wal_level": "minimal",
            "max_wal_senders": "0",
        }
    if not _has_shared_memory(256 * 2**20):
        settings["dynamic_shared_memory_type"] = "mmap"
    return settings


def memory_bytes() -> int:
    """The memory of this machine, or of the container where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        try:
            total = min(total, int(limit.read_text()))
        except (OSError, ValueError):
            continue
    return total


def _has_shared_memory(needed_bytes: int) -> bool:
    try:
        space = os.statvfs("/dev/shm")
    except OSError:
        return False
    return space.f_blocks * space.f_frsize >= needed_bytes


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
