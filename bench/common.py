"""What the measuring scripts share: a warm process that takes orders, the machine's facts, medians, SVG."""

import datetime, html, json, os, pathlib, resource, shutil, statistics, subprocess, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
MODELS = pathlib.Path(os.environ.get("PLM_MODELS") or CACHE / "plm/models")
SMOL, QWEN = "SmolLM2-135M-Instruct.Q4_1.gguf", "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf"
GEMMA, QWEN_BIG = "gemma-3-270m.Q4_K_M.gguf", "Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf"


class Skip(Exception):
    """Why a row can't be measured here."""


def read(path, default=""):
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return default


def pin(threads):
    """This process and its children onto as many physical cores; ours is not the place for siblings."""
    allowed, chosen, taken = sorted(os.sched_getaffinity(0)), [], set()
    for cpu in allowed:
        siblings = read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", str(cpu)).strip()
        if siblings not in taken:
            taken.add(siblings)
            chosen.append(cpu)
    chosen = (chosen + [c for c in allowed if c not in chosen])[:threads]
    os.sched_setaffinity(0, chosen)
    return chosen


def settle():
    """Threads that spun for the last answer go to sleep, so that they don't take a core from the next."""
    time.sleep(0.15)


class Worker:
    """A process that answers each line with one line of JSON."""

    living = []

    def __init__(self, *words, **env):
        self.words = [str(w) for w in words]
        self.process = subprocess.Popen(
            self.words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=os.environ | env,
        )
        Worker.living.append(self)
        self.facts = self.answer("start")

    def answer(self, order):
        line = self.process.stdout.readline()
        if not line:
            why = self.process.communicate()[1].strip().splitlines()[-1:] or ["no answer"]
            raise Skip(f"{pathlib.Path(self.words[0]).name}: {order}: {why[0][-200:]}")
        return json.loads(line)

    def ask(self, order):
        settle()
        try:
            self.process.stdin.write(order + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        return self.answer(order)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        if self in Worker.living:
            Worker.living.remove(self)

    def seconds(self):
        """Processor time so far."""
        fields = read(f"/proc/{self.process.pid}/stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0


def others():
    """Processor seconds that others took so far on the cores we use, a hypervisor's neighbours included."""
    cores, busy = os.sched_getaffinity(0), 0
    for row in read("/proc/stat").splitlines():
        name, *ticks = row.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            busy += sum(int(ticks[i]) for i in (0, 1, 2, 5, 6, 7)) / os.sysconf("SC_CLK_TCK")
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        busy -= used.ru_utime + used.ru_stime
    return busy - sum(w.seconds() for w in Worker.living)


def turns(reps, turn):
    """What turn() returned, as often as asked. A turn in which others took more than a tenth of our cores is
    taken again; where they never let go, disturbed ones count. Returns the turns and how many were disturbed.
    """
    calm, disturbed = [], []
    while len(calm) < reps and len(disturbed) < 2 * reps:
        start, before = time.monotonic(), others()
        got = turn()
        share = (others() - before) / (time.monotonic() - start) / len(os.sched_getaffinity(0))
        (disturbed if share > 0.1 else calm).append(got)
    missing = reps - len(calm)
    return calm + disturbed[len(disturbed) - missing :], missing


def engine(program, model, threads, *kernels):
    path = program.parent / "bench/plm-engine"
    if not path.exists():
        raise Skip(f"{path} is not built: cmake --build --preset release")
    return Worker(path, model_file(model), threads, *kernels)


def model_file(name):
    path = pathlib.Path(name) if "/" in str(name) else MODELS / name
    if not path.exists():
        raise Skip(f"{path.name} is not in {MODELS}: plm model fetch brings it")
    return path


def median(values):
    return statistics.median(values)


def spread(values):
    """Half the distance between the quartiles, as a share of the median."""
    if len(values) < 2:
        return 0.0
    q = statistics.quantiles(values, n=4, method="inclusive")
    return (q[2] - q[0]) / 2 / statistics.median(values)


def said_by(*words):
    try:
        return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine(threads, cores):
    """Where and of what a measurement was made."""
    info = dict(l.split(":", 1) for l in read("/proc/cpuinfo").split("\n\n")[0].splitlines() if ":" in l)
    info = {k.strip(): v.strip() for k, v in info.items()}
    compiler = ""
    for line in read(ROOT / "build/release/CMakeCache.txt").splitlines():
        if line.startswith("CMAKE_C_COMPILER:"):
            compiler = said_by(line.split("=", 1)[1], "--version").splitlines()[0]
    sets = [
        f for f in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16") if f in info.get("flags", "").split()
    ]
    return {
        "cpu": info.get("model name", os.uname().machine),
        "sets": " ".join(sets),
        "cores": cores,
        "threads": threads,
        "date": datetime.date.today().isoformat(),
        "compiler": compiler,
        "commit": said_by("git", "describe", "--always", "--dirty") or "unknown",
    }


def machine_line(m):
    where = f"{m['cpu']} ({m['sets']}), {m['threads']} threads on cores {m['cores']}"
    return f"{where}; {m['date']}, commit {m['commit']}, {m['compiler']}"


def ceiling_line(c):
    parts = [f"reads {c['read'] / 1e9:.1f} GB/s", f"f32 {c['f32'] / 1e9:.0f}"]
    parts += [f"{k} {c[k] / 1e9:.0f}" for k in ("bf16", "int8") if c[k]]
    return ", ".join(parts) + " Gop/s"


def save(path, data):
    """Whole or not at all: a script may be stopped anywhere."""
    new = path.with_suffix(path.suffix + ".new")
    new.write_text(data if isinstance(data, str) else json.dumps(data, indent=1))
    new.replace(path)


def png_of(svg):
    """Beside an SVG, where a converter is at hand, a PNG to look at."""
    if shutil.which("rsvg-convert"):
        subprocess.run(["rsvg-convert", "-z", "1.5", "-o", svg.with_suffix(".png"), svg], check=False)


# ---- SVG by hand ----

INK, PALE, GOOD, BAD = "#222", "#ddd", "#2b7a4b", "#b3452c"
COLOURS = ["#1f5fa8", "#c2571a", "#2b7a4b", "#7a3e9d", "#8a6d00", "#a02c5d", "#3a7f8c", "#555555"]


def svg(width, height, parts):
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="DejaVu Sans, Verdana, sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def text(x, y, words, anchor="start", size=12, colour=INK, weight="normal"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}" '
        f'font-weight="{weight}">{html.escape(str(words))}</text>'
    )


def line(x1, y1, x2, y2, colour=PALE, width=1, dash=""):
    dash = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
        f'stroke-width="{width}"{dash}/>'
    )


def box(x, y, w, h, colour):
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(w, 0):.1f}" height="{h:.1f}" fill="{colour}"/>'
