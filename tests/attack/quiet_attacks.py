"""Attacks that want to stay unseen: to write, read, reach or steer what is outside of the sandbox.

None of them would break anything, so that each is tried without a sandbox, too.
"""

from tests.attack.hostile import Hostile

IN_A_CHILD = """
    pid = os.fork()
    if pid == 0:
        try:
            attack()
            os._exit(0)
        except OSError:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "refused"
    tell(NAME, "")
"""
BIND = """
    def attack():
        check(libc.unshare(0x00020000))  # CLONE_NEWNS
        check(libc.mount(None, b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
        here = Path("mounted")
        here.mkdir()
        check(libc.mount(str(OUTSIDE).encode(), b"mounted", None, 4096, None))  # MS_BIND
        (here / VICTIM.name).write_text("harmed")
"""
CHROOT = """
    def attack():
        os.chroot(f"/proc/{WORKER}/root")
        VICTIM.write_text("harmed")
"""
USERNS = """
    def attack():
        check(libc.unshare(0x10000000))  # CLONE_NEWUSER
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {KNOWN['uid']} 1")
        VICTIM.write_text("harmed")
"""

WRITES = (
    Hostile("writes an absolute path", "VICTIM.write_text('harmed')"),
    Hostile("writes a relative path", "Path(os.path.relpath(VICTIM)).write_text('harmed')"),
    Hostile(
        "writes through a symlink",
        "os.symlink(OUTSIDE, 'way')\nPath('way', VICTIM.name).write_text('harmed')",
    ),
    Hostile(
        "writes through a hardlink", "os.link(VICTIM, 'its_inode')\nPath('its_inode').write_text('harmed')"
    ),
    Hostile(
        "races with a link that leads out and in",
        """
        import time
        Path("in").mkdir()
        os.symlink("in", "flip")
        over = time.monotonic() + 2
        if os.fork() == 0:
            while time.monotonic() < over:
                for where in (OUTSIDE, "in"):
                    os.symlink(where, "next")
                    os.rename("next", "flip")
            os._exit(0)
        while time.monotonic() < over:
            place = Path("flip", VICTIM.name)
            for act in (lambda: place.write_text("harmed"), place.unlink):
                try:
                    act()
                except OSError:
                    pass
        os.wait()
        tell(NAME, "")
        """,
    ),
    Hostile("moves it into the tree", "os.rename(VICTIM, 'taken')"),
    Hostile("swaps it for a file", "Path('mine').write_text('harmed')\nos.replace('mine', VICTIM)"),
    Hostile("deletes a file", "VICTIM.unlink()"),
    Hostile("truncates a file", "os.truncate(VICTIM, 0)"),
    Hostile("changes the mode of a file", "os.chmod(VICTIM, 0o777)"),
    Hostile("changes the mode of an open file", "os.fchmod(os.open(VICTIM, os.O_RDONLY), 0o777)"),
    Hostile(
        "changes the mode of an open folder",
        "os.chmod(VICTIM.name, 0o777, dir_fd=os.open(OUTSIDE, os.O_PATH))",
    ),
    Hostile(
        "changes the mode through a link",
        "os.symlink(OUTSIDE, 'to_modes')\nos.chmod(Path('to_modes', VICTIM.name), 0o777)",
    ),
    Hostile(
        "changes the mode through a descriptor",
        "os.chmod(f'/proc/self/fd/{os.open(VICTIM, os.O_PATH)}', 0o777)",
    ),
    Hostile("changes the mode through the worker", "os.chmod(f'/proc/{WORKER}/root{VICTIM}', 0o777)"),
    Hostile(
        "races with a link for a mode",
        """
        import time
        Path("mine_too").write_text("")
        os.symlink("mine_too", "swung")
        over = time.monotonic() + 2
        if os.fork() == 0:
            while time.monotonic() < over:
                for where in (VICTIM, "mine_too"):
                    os.symlink(where, "swing")
                    os.rename("swing", "swung")
            os._exit(0)
        while time.monotonic() < over:
            for act in (lambda: os.chmod("swung", 0o777), lambda: os.utime("swung", (1, 1))):
                try:
                    act()
                except OSError:
                    pass
        os.wait()
        tell(NAME, "")
        """,
    ),
    Hostile("changes the owner of a file", "os.chown(VICTIM, 65534, 65534)", root=True),
    Hostile("changes the times of a file", "os.utime(VICTIM, (1, 1))"),
    Hostile("changes the times of a link", "os.utime(VICTIM, (1, 1), follow_symlinks=False)"),
    Hostile(
        "sets a flag of a file",
        """
        import fcntl
        file, flags = os.open(VICTIM, os.O_RDONLY), bytearray(8)
        fcntl.ioctl(file, 0x80086601, flags)  # FS_IOC_GETFLAGS
        flags[0] |= 0x40  # FS_NODUMP_FL
        fcntl.ioctl(file, 0x40086602, flags)  # FS_IOC_SETFLAGS
        done(NAME)
        """,
    ),
    Hostile("marks a file", "os.setxattr(VICTIM, 'user.harmed', b'yes')"),
    Hostile(
        "changes the mode of the folder",
        "os.chmod(OUTSIDE, os.stat(OUTSIDE).st_mode)\ndone(NAME)",
    ),
    Hostile("writes through its own root", "Path(f'/proc/self/root{VICTIM}').write_text('harmed')"),
    Hostile(
        "writes through the root of the worker", "Path(f'/proc/{WORKER}/root{VICTIM}').write_text('harmed')"
    ),
    Hostile(
        "writes through the folder of the worker",
        "Path(f'/proc/{WORKER}/cwd/outside/{VICTIM.name}').write_text('harmed')",
    ),
    Hostile("writes through the parent", "Path(f'/proc/{os.getppid()}/root{VICTIM}').write_text('harmed')"),
    Hostile("binds the folder into the tree", BIND + IN_A_CHILD, root=True),
    Hostile("takes the root of the worker for its own", CHROOT + IN_A_CHILD, root=True),
    Hostile("becomes root of a user namespace", USERNS + IN_A_CHILD, control=False),
    Hostile(
        "makes a device of the disk",
        """
        device = os.stat(KNOWN["home"]).st_dev
        os.mknod("disk", 0o060600, device)
        with open("disk", "rb") as disk:
            disk.read(512)
        done(NAME)
        """,
        root=True,
        control=False,
    ),
    Hostile(
        "becomes another user by a setuid file",
        """
        shutil.copy(shutil.which("id"), "id")
        os.chown("id", 65534, -1)
        os.chmod("id", 0o4755)
        said = subprocess.run(["./id", "-u"], capture_output=True, text=True, check=True).stdout
        done(NAME) if said.strip() == "65534" and os.getuid() != 65534 else tell(NAME, "")
        """,
        control=False,
    ),
    Hostile(
        "dumps its core",
        """
        import resource
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        finally:
            pid = os.fork()
            if pid == 0:
                os.abort()
            if os.WCOREDUMP(os.waitpid(pid, 0)[1]):
                done(NAME)
        tell(NAME, "")
        """,
        control=False,  # it depends on the machine where a core goes, if anywhere
    ),
    Hostile(
        "writes a setting of the kernel",
        """
        place = Path("/proc/sys/kernel/core_pattern")
        place.write_text(place.read_text())
        done(NAME)
        """,
        root=True,
    ),
    Hostile(
        "names the host", "socket.sethostname(socket.gethostname())\ndone(NAME)", root=True, control=False
    ),
    Hostile(
        "sets the clock",
        """
        import time
        time.clock_settime(time.CLOCK_REALTIME, time.time())
        done(NAME)
        """,
        root=True,
        control=False,
    ),
    Hostile(
        "loads a module of the kernel",
        """
        libc.syscall(NUMBERS["init_module"], None, 0, b"")
        done(NAME) if ctypes.get_errno() not in (1, 38) else tell(NAME, "")
        """,
        root=True,
        control=False,
    ),
    Hostile(
        "leaves shared memory behind",
        """
        assert not KNOWN["none"]
        check(libc.shmget(KNOWN["leftover"], 1 << 20, 0o1600))  # IPC_CREAT
        tell(NAME, "")
        """,
        control=False,
    ),
    Hostile(
        "opens a file by its handle",
        """
        handle = ctypes.create_string_buffer(8 + 128)
        ctypes.memmove(handle, (128).to_bytes(4, "little"), 4)
        number = ctypes.c_int()
        check(libc.name_to_handle_at(-100, str(VICTIM).encode(), handle, ctypes.byref(number), 0))
        place = os.open(OUTSIDE, os.O_RDONLY)
        os.write(check(libc.open_by_handle_at(place, handle, os.O_WRONLY)), b"harmed")
        """,
        root=True,
    ),
    Hostile(
        "makes the worker the first that the kernel kills",
        """
        place = Path(f"/proc/{WORKER}/oom_score_adj")
        place.write_text(place.read_text())
        done(NAME)
        """,
    ),
    Hostile("writes into shared memory", "Path('/dev/shm', KNOWN['shm']).write_text('')\ntell(NAME, '')"),
    Hostile(
        "attaches shared memory of System V",
        """
        libc.shmat.restype = ctypes.c_void_p
        place = libc.shmat(check(libc.shmget(KNOWN["segment"], 0, 0)), None, 0)
        assert place != ctypes.c_void_p(-1).value
        tell(NAME, ctypes.string_at(place, 64).decode(errors="replace"))
        """,
    ),
)

READS = (
    Hostile("reads the environment of the worker", "tell(NAME, Path(f'/proc/{WORKER}/environ').read_text())"),
    Hostile("reads its own environment", "tell(NAME, str(os.environ))", control=False),
    Hostile(
        "reads every environment",
        """
        text = ""
        for place in Path("/proc").glob("[0-9]*/environ"):
            try:
                text += place.read_text(errors="replace")
            except OSError:
                pass
        tell(NAME, text)
        """,
    ),
    Hostile(
        "reads the environments above it",
        """
        text, pid = "", os.getppid()
        for _ in range(20):
            try:
                text += Path(f"/proc/{pid}/environ").read_text(errors="replace")
                pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                break
        tell(NAME, text)
        """,
    ),
    Hostile(
        "reads the memory of the worker",
        """
        maps = Path(f"/proc/{WORKER}/maps").read_text()
        begin, end = (int(part, 16) for part in re.search(r"(\\w+)-(\\w+) .*\\[stack\\]", maps).groups())
        with open(f"/proc/{WORKER}/mem", "rb") as memory:
            memory.seek(begin)
            tell(NAME, memory.read(end - begin).decode(errors="replace"))
        """,
    ),
    Hostile(
        "asks the kernel for the memory of the worker",
        """
        class Piece(ctypes.Structure):
            _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
        maps = Path(f"/proc/{KNOWN['worker']}/maps").read_text() if KNOWN["none"] else "1000-2000 [stack]"
        begin, end = (int(part, 16) for part in re.search(r"(\\w+)-(\\w+) .*\\[stack\\]", maps).groups())
        kept = ctypes.create_string_buffer(end - begin)
        mine = Piece(ctypes.addressof(kept), end - begin)
        theirs = Piece(begin, end - begin)
        check(libc.process_vm_readv(WORKER, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0))
        tell(NAME, kept.raw.decode(errors="replace"))
        """,
    ),
    Hostile(
        "traces the worker", "check(libc.ptrace(0x4206, WORKER, None, None))  # PTRACE_SEIZE\ndone(NAME)"
    ),
    Hostile(
        "takes a descriptor of the worker",
        """
        pidfd = check(libc.syscall(434, WORKER, 0))  # pidfd_open
        check(libc.syscall(438, pidfd, 1, 0))  # pidfd_getfd
        done(NAME)
        """,
    ),
    Hostile("writes into the log of the worker", "open(f'/proc/{WORKER}/fd/1', 'w').write('')\ndone(NAME)"),
    Hostile("reads the home", "tell(NAME, Path(KNOWN['home'], '.ssh', 'id_ed25519').read_text())"),
    Hostile("reads the worktree of another attempt", "tell(NAME, Path(KNOWN['other']).read_text())"),
    Hostile("lists the worktree of another attempt", "os.listdir(Path(KNOWN['other']).parent)\ndone(NAME)"),
    Hostile(
        "watches the worktree of another attempt",
        """
        watches = check(libc.inotify_init1(0))
        check(libc.inotify_add_watch(watches, str(Path(KNOWN["other"]).parent).encode(), 0xFFF))
        done(NAME)
        """,
    ),
    Hostile(
        "watches a whole file system",
        """
        watches = check(libc.fanotify_init(0x200, 0))  # FAN_REPORT_FID, which needs no right
        check(libc.fanotify_mark(watches, 1, ctypes.c_uint64(0x102), -100, str(OUTSIDE).encode()))
        done(NAME)
        """,
    ),
    Hostile("reads the clone", "next(Path(KNOWN['data'], 'repositories').iterdir())\ndone(NAME)"),
    Hostile(
        "reads the repository of the user", "Path(KNOWN['project'], '.git', 'HEAD').read_text()\ndone(NAME)"
    ),
    Hostile(
        "reads a key of the kernel",
        """
        keyctl, found = NUMBERS["keyctl"], ctypes.create_string_buffer(200)
        key = check(libc.syscall(keyctl, 10, -5, b"user", KNOWN["key"].encode(), 0))  # KEYCTL_SEARCH
        check(libc.syscall(keyctl, 11, key, found, 200, 0))  # KEYCTL_READ
        tell(NAME, found.value.decode())
        """,
    ),
    Hostile("reads a file outside", "tell(NAME, VICTIM.read_text())"),
)

REACHES = (
    Hostile(
        "signals everybody",
        """
        assert not KNOWN["none"]
        os.kill(-1, signal.SIGURG)  # who does not wait for it ignores it
        tell(NAME, "")
        """,
        control=False,
    ),
    Hostile(
        "signals all above it",
        """
        pid = os.getppid()
        while pid > 1:
            status = Path(f"/proc/{pid}/status").read_text()  # not there, or refused, above the sandbox
            os.kill(pid, signal.SIGWINCH)  # who does not wait for it ignores it
            if pid == KNOWN["tester"]:
                break
            pid = int(re.search(r"PPid:\\s+(\\d+)", status)[1])
        tell(NAME, "")
        """,
    ),
    Hostile(
        "signals the group of the worker",
        "os.killpg(os.getpgid(WORKER), signal.SIGCONT)  # who does not wait for it ignores it\ndone(NAME)",
    ),
    Hostile("signals the worker", "os.kill(WORKER, signal.SIGURG)  # which it ignores\ndone(NAME)"),
    Hostile(
        "bounds the worker",
        """
        import resource
        now = resource.prlimit(WORKER, resource.RLIMIT_NOFILE)
        resource.prlimit(WORKER, resource.RLIMIT_NOFILE, now)
        done(NAME)
        """,
    ),
    Hostile(
        "slows the worker",
        """
        os.setpriority(os.PRIO_PROCESS, WORKER, os.getpriority(os.PRIO_PROCESS, WORKER))
        done(NAME)
        """,
    ),
    Hostile(
        "binds the worker to a processor",
        "os.sched_setaffinity(WORKER, os.sched_getaffinity(WORKER))\ndone(NAME)",
    ),
    Hostile(
        "connects to a socket of the worker",
        """
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(KNOWN["socket"])
            one.sendall(NAME.encode())
        tell(NAME, "")
        """,
    ),
    Hostile(
        "connects to an abstract socket",
        """
        with socket.socket(socket.AF_UNIX) as one:
            one.connect("\\0" + KNOWN["abstract"])
            one.sendall(NAME.encode())
        tell(NAME, "")
        """,
    ),
    Hostile(
        "asks the agent of ssh",
        """
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(os.environ.get("SSH_AUTH_SOCK", KNOWN["agent"]))
            one.sendall(NAME.encode())
        tell(NAME, "")
        """,
    ),
    Hostile(
        "connects to the loopback",
        """
        with socket.create_connection(("127.0.0.1", KNOWN["port"]), 2) as one:
            one.sendall(NAME.encode())
        tell(NAME, "")
        """,
    ),
    Hostile(
        "connects to the loopback by MPTCP",
        """
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as one:
            one.settimeout(2)
            one.connect(("127.0.0.1", KNOWN["port"]))
            one.sendall(NAME.encode())
        tell(NAME, "")
        """,
    ),
    Hostile(
        "connects to the loopback by fast open",
        """
        with socket.socket() as one:
            one.sendto(NAME.encode(), socket.MSG_FASTOPEN, ("127.0.0.1", KNOWN["port"]))
        tell(NAME, "")
        """,
    ),
    Hostile(
        "sends a datagram",
        """
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(NAME.encode(), ("127.0.0.1", KNOWN["udp"]))
        tell(NAME, "")
        """,
    ),
    Hostile("opens a raw socket", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)\ndone(NAME)", root=True),
    Hostile(
        "opens a packet socket", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\ndone(NAME)", root=True
    ),
    Hostile(
        "connects to the world",
        """
        assert not KNOWN["none"]
        with socket.socket() as one:
            one.settimeout(5)
            try:
                one.connect(("192.0.2.1", 80))  # reserved for documentation
            except TimeoutError:
                done(NAME)  # it was sent
        done(NAME)
        """,
        control=False,
    ),
    Hostile(
        "asks the names of the world",
        """
        assert not KNOWN["none"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.sendto(b"?", ("192.0.2.1", 53))
        done(NAME)
        """,
        control=False,
    ),
)

QUIET = (*WRITES, *READS, *REACHES)
