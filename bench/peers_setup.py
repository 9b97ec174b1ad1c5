"""Brings what plm is compared with: llama.cpp, PyTorch with PEFT, the models. What is there is kept."""

import os, pathlib, re, subprocess, sys, venv

from common import MODELS, ROOT, Skip, read, said_by

LLAMA = "llama-cpp-python==0.3.36"
AVX2_ONLY = (
    "-DGGML_NATIVE=OFF -DGGML_SSE42=ON -DGGML_AVX=ON -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON "
    "-DGGML_BMI2=ON"
)
PEFT = ["transformers==5.24.0", "peft==0.21.2", "accelerate==1.15.0", "gguf==0.19.0"]
UNDER_PEFT = """numpy sympy networkx jinja2 fsspec filelock typing_extensions safetensors tokenizers pyyaml
huggingface_hub packaging regex requests tqdm psutil""".split()
# Names as plm model fetch knows them, where it does.
FETCHED = {
    "SmolLM2-135M-Instruct.Q4_1.gguf": "smollm2-135m",
    "gemma-3-270m.Q4_K_M.gguf": "gemma-3-270m",
    "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf": "qwen2.5-coder-0.5b",
    "Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf": "qwen2.5-coder-1.5b",
}


def say(*words):
    print("#", *words, file=sys.stderr, flush=True)


def run(*words, **env):
    words = [str(w) for w in words]
    done = subprocess.run(
        words,
        env=os.environ | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        last = (done.stdout.strip().splitlines() or ["no word of why"])[-1]
        raise Skip(f"{pathlib.Path(words[0]).name} {' '.join(words[1:4])}: {last[-200:]}")
    return done.stdout


def environment(home):
    python = home / "bin/python"
    if not python.exists():
        venv.create(home, with_pip=True)
    return python


def pip(python, *words, **env):
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *words, **env)


def site_of(python):
    return pathlib.Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('platlib'))").strip())


def flags_of_cpu():
    return re.search(r"^flags\s*:(.*)", read("/proc/cpuinfo"), re.M)[1].split()


def llama_program(work, home, avx2=False):
    """bench/llama.c against the library of llama-cpp-python, compiled for this CPU or for any with AVX2."""
    program = work / ("llama-avx2" if avx2 else "llama")
    if avx2:
        home = work / "venv-avx2"
    python = environment(home)
    site = site_of(python)
    if not (site / "include/llama.h").exists():
        say(f"{LLAMA} into {home}: compiles llama.cpp, a quarter of an hour on two cores")
        pip(
            python,
            "--no-binary",
            "llama-cpp-python",
            LLAMA,
            CMAKE_ARGS="-DLLAVA_BUILD=OFF " + (AVX2_ONLY if avx2 else ""),
        )
    source = ROOT / "bench/llama.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        run(
            "cc",
            "-O2",
            "-o",
            program,
            source,
            f"-I{site}/include",
            f"-L{site}/lib",
            "-lllama",
            "-lggml",
            "-lggml-base",
            f"-Wl,-rpath,{site}/lib",
        )
    return program


def stand_in_for_cuda(torch):
    """PyPI's torch for Linux is linked with CUDA, some gigabytes that training on the CPU never calls. Empty
    libraries of the same names let it load; the count of devices fails as on a machine that has none."""
    text = lambda *words: run(*words).splitlines()
    files, loose = {}, set()  # library -> version -> symbols; those without a version
    for lib in sorted(torch.glob("*.so*")):
        needed = re.findall(r"NEEDED.*?\[(lib(?:cu|nv|nccl)[^]]*)\]", "\n".join(text("readelf", "-d", lib)))
        files.update({name: {} for name in needed if name not in files and not (torch / name).exists()})
        owner, at = {}, None
        for row in text("readelf", "-V", "-W", lib):
            if found := re.search(r"File: (\S+)", row):
                at = found[1]
            elif (found := re.search(r"Name: (\S+)", row)) and at in files:
                owner[found[1]] = at
                files[at].setdefault(found[1], set())
        for row in text("nm", "-D", "--undefined-only", lib):
            name, _, version = row.split()[-1].partition("@")
            if version in owner:
                files[owner[version]][version].add(name)
            elif not version and re.fullmatch(r"(__cuda|cu[a-zA-Z]|nv|nccl)\w*", name):
                loose.add(name)
    for file, versions in files.items():
        source, script = torch / "stand_in.c", torch / "stand_in.map"
        names = sorted(loose.union(*versions.values()))
        says = {n: '(long)"no device"' for n in names if re.search("Error(String|Name)", n)}
        says["cudaGetDeviceCount"] = "100"  # cudaErrorNoDevice
        source.write_text("".join(f"long {n}(void) {{ return {says.get(n, '0')}; }}\n" for n in names))
        script.write_text(
            "".join(
                f"{v} {{ global: {' '.join(n + ';' for n in sorted(symbols))} }};\n"
                for v, symbols in versions.items()
                if symbols
            )
        )
        versioned = [f"-Wl,--version-script={script}"] if script.stat().st_size else []
        run(
            "cc",
            "-shared",
            "-fPIC",
            "-w",
            "-fno-builtin",
            "-o",
            torch / file,
            f"-Wl,-soname,{file}",
            *versioned,
            source,
        )


def peft_python(home):
    python = environment(home)
    works = lambda: not subprocess.run(
        [python, "-c", "import torch, transformers, peft, gguf"], capture_output=True
    ).returncode
    if works():
        return python
    say(f"PyTorch and PEFT into {home}: 600 MB")
    pip(python, "--no-deps", "torch==2.15.0", *PEFT)
    pip(python, *UNDER_PEFT)
    if not works():
        stand_in_for_cuda(site_of(python) / "torch/lib")
    if not works():
        raise Skip(f"torch was installed in {home}, but can't be imported")
    return python


def plain_floats(python, work, model):
    """The model as transformers keeps it, dequantised to f32: PEFT's side of the training rows."""
    folder = work / "hf" / model.stem
    if not (folder / "model.safetensors").exists():
        say(f"dequantising {model.name} for PEFT")
        run(python, ROOT / "bench/peft_peer.py", "convert", model, folder, TQDM_DISABLE="1")
    return folder


def fetch(plm, name):
    path = MODELS / name
    if not path.exists() and name in FETCHED:
        say(f"plm model fetch {FETCHED[name]}")
        run(plm, "model", "fetch", FETCHED[name])
    return path


def q4_0_of(plm, work, model):
    out = work / model.name.replace("Q4_1", "Q4_0")
    if not out.exists():
        run(plm, "model", "quantize", model, out, "--type", "Q4_0")
    if not out.exists():
        raise Skip("plm model quantize left no file")
    return out


def has(program):
    return bool(said_by("sh", "-c", f"command -v {program}"))
