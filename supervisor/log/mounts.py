"""On what file system a path lies. Linux."""

from pathlib import Path

NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs")


def mounts() -> str:
    """Return what /proc/self/mounts says, "" where there is none."""
    try:
        return Path("/proc/self/mounts").read_text()
    except OSError:
        return ""


def network_warning(path: str, mounts: str) -> list[str]:
    """Return a warning when `path` lies on a network file system, where SQLite's locks and WAL do not hold.

    `mounts`: as in /proc/self/mounts. Of two mounts on one folder the later hides the earlier.
    """
    folder = Path(path).resolve()
    best = ("", "")
    for line in mounts.splitlines():
        _, mount, kind, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        if folder.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, kind)
    if best[1] not in NETWORK_FILE_SYSTEMS:
        return []
    return [f"the log {path} lies on a network file system ({best[1]} at {best[0]}): choose a local --state-dir"]
