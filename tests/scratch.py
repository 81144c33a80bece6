"""Shared by tests/faults and tests/attack: empty directories in a mount namespace, and jobns there."""
import os
import subprocess

DIST = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "target/dist")
JOBNS = "/run/jobns"
REMOVER = "/run/jobns-remover"
BASE = "/var/lib/jobns"
SPOOL = "/run/spool"
NODE = os.uname().nodename.split(".")[0]


def make(*more):
    """A tmpfs on the base path, on these directories and on those that jobs use. The programs are copied: their own
    directory may be below /tmp."""
    programs = {}
    for path in (JOBNS, REMOVER):
        with open(os.path.join(DIST, os.path.basename(path)), "rb") as file:
            programs[path] = file.read()
    for directory in (BASE, *more, "/tmp", "/run", "/var/tmp"):
        os.makedirs(directory, exist_ok=True)
        mode = 1777 if "tmp" in directory else 755
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode={mode},nr_inodes=0,size=80%", "tmpfs", directory], check=True)
    for path, program in programs.items():
        with open(path, "wb") as file:
            file.write(program)
        os.chmod(path, 0o755)
    # What slurmd's plugin leaves for `jobns clean`.
    os.makedirs(SPOOL)
    with open(f"{SPOOL}/namespace_linux.jobns", "w", encoding="utf-8") as file:
        file.write(f"slurm-jobns-node 1\nnode {NODE}\nhostname {NODE}\nslurm_conf /run/slurm.conf\nbase {BASE}\n")
