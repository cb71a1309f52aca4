"""The Kubernetes of the tests: Debian's source package, built once into the binaries of a node and of a control plane.

No Debian suite has kubeadm, kubelet or kube-apiserver as a package, but bookworm has the whole source of 1.20.2. It is built with
Debian's Go, twice: the second time under another version number, for tests of upgrades (the code is the same). Only the
binaries are kept. Making images, packages and bundles out of them is `images.py`, `repository.py` and `bundle_inputs.py`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .build import SUITE, CannotBuild, artifact, cache
from .progress import Step, step
from .system import advice, find, missing

VERSIONS = ("v1.20.2", "v1.20.3")
"""The first is what the source is; the second is the same code with another version number in it."""

SOURCE = "kubernetes"
UPSTREAM = "1.20.5+really1.20.2"
COMMIT = "faecb196815e248d3ecfb03c680a4507229c2a56"
COMMANDS = ("kubeadm", "kubelet", "kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy")

REFLECT2 = "github.com/modern-go/reflect2"
"""Vendored as 1.0.1, which panics with Go 1.18 and newer as soon as kubeadm writes a configuration; Debian has 1.0.2."""

DEBIAN_GO_SOURCES = Path("/usr/share/gocode/src")
TOOLS = ("golang-go", "gcc", "libc6-dev", "dpkg-dev", "golang-github-modern-go-reflect2-dev")
FLAGS = ("-trimpath", "-tags", "providerless,notest")
BUILD_SECONDS = 400.0
RECIPE = 1
"""Raise it when the steps below change in a way that changes what they make."""


def binaries(version: str = VERSIONS[0]) -> Path:
    """A folder with the files COMMANDS, and `pause`, which say that they are `version`. Raises CannotBuild."""
    if version not in VERSIONS:
        raise CannotBuild(f"Kubernetes {version} is not built for tests; there are {', '.join(VERSIONS)}")
    return built() / version


def built() -> Path:
    """The folder with one folder for each of VERSIONS. Without the tools that build it, the one that was built before."""
    if lacking := [package for package in missing() if package in TOOLS]:
        if found := kept():
            return found
        raise CannotBuild(advice(lacking))
    compiler = run([go(), "version"]).strip()
    recipe = [RECIPE, SUITE, SOURCE, UPSTREAM, COMMIT, *VERSIONS, *COMMANDS, *FLAGS, *variables("x"), REFLECT2]
    return artifact("kubernetes", {"recipe": recipe, "compiler": compiler}, build, suffix="")


def kept() -> Path | None:
    """The newest that lies whole in the cache, by whatever compiler."""
    wanted = [Path(version, name) for version in VERSIONS for name in (*COMMANDS, "pause")]
    whole = [folder for folder in cache().glob(f"kubernetes-{'?' * 12}") if all((folder / path).exists() for path in wanted)]
    return max(whole, key=lambda folder: folder.stat().st_mtime, default=None)


def build(path: Path) -> None:
    """Everything in a temporary folder next to `path`, Go's own cache (1.7 GB) too; then `path` with the binaries."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="work-") as work:
        tree = Path(work, "go", "src", "k8s.io", "kubernetes")
        environment = go_environment(Path(work))
        with step("Kubernetes 1/4: source package", about=20):
            source(tree, Path(work, "package"))
            replace_reflect2(tree)
        with step("Kubernetes 2/4: generated code", about=25):
            generate(tree, environment)
        for version in VERSIONS:
            first = version == VERSIONS[0]
            title = f"Kubernetes {3 if first else 4}/4: {len(COMMANDS)} binaries {version}"
            with step(title, about=BUILD_SECONDS if first else 60) as progress:
                compile_all(tree, environment, version, Path(work, "bin", version), progress)
        check(Path(work, "bin"))
        Path(work, "bin").rename(path)


def source(tree: Path, folder: Path) -> None:
    """Fetch and unpack the source package, with Debian's patches, from the machine's own mirror of SUITE."""
    lists = folder / "lists" / "partial"
    lists.mkdir(parents=True)
    (folder / "sources.list").write_text(source_lines())
    apt = [
        "apt-get", "-q", "-o", f"Dir::Etc::sourcelist={folder / 'sources.list'}", "-o", "Dir::Etc::sourceparts=/dev/null",
        "-o", f"Dir::State::lists={lists.parent}", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
        "-o", "APT::Sandbox::User=",
    ]  # fmt: skip
    run([*apt, "update"])
    run([*apt, "source", "--only-source", "--download-only", SOURCE], cwd=folder)
    found = sorted(folder.glob("*.dsc"))
    if len(found) != 1 or UPSTREAM not in found[0].name:
        raise CannotBuild(f"{SUITE} has the source {[f.name for f in found]}, and these tests know how to build {UPSTREAM}")
    tree.parent.mkdir(parents=True)
    run(["dpkg-source", "--no-check", "-x", str(found[0]), str(tree)])


def source_lines() -> str:
    """A sources list for the source packages of SUITE, of the mirror that this machine has for it."""
    shown = "$(REPO_URI) $(RELEASE) $(ORIGIN) $(COMPONENT)"
    targets = run(["apt-get", "indextargets", "--format", shown, "Created-By: Packages"])
    for line in targets.splitlines():
        match line.split():
            case [uri, release, "Debian", "main"] if release == SUITE:
                return f"deb-src {uri} {SUITE} main\n"
    raise CannotBuild(f"apt has no Debian {SUITE} (main) on this machine, whose source package {SOURCE} is what tests build")


def replace_reflect2(tree: Path) -> None:
    vendored = tree / "vendor" / REFLECT2
    shutil.rmtree(vendored)
    shutil.copytree(DEBIAN_GO_SOURCES / REFLECT2, vendored)


def generate(tree: Path, environment: dict[str, str]) -> None:
    """Write the one generated file that the source package lacks: the OpenAPI definitions that the API server serves."""
    tool = tree.parents[3] / "openapi-gen"
    run([go(), "build", "-o", str(tool), "./vendor/k8s.io/kube-openapi/cmd/openapi-gen"], tree, environment)
    wanted = {
        str(file.parent.relative_to(tree))
        for top in ("pkg", "cmd", "plugin", "staging/src/k8s.io")
        for file in (tree / top).rglob("*.go")
        if b"\n// +k8s:openapi-gen=true" in file.read_bytes()
    }
    packages = [f"k8s.io/kubernetes/{name.replace('staging/src/', 'vendor/')}" for name in sorted(wanted)]
    run(
        [
            str(tool), "--output-file-base", "zz_generated.openapi", "--report-filename", os.devnull,
            "--go-header-file", "hack/boilerplate/boilerplate.generatego.txt",
            "--output-package", "k8s.io/kubernetes/pkg/generated/openapi", "--input-dirs", ",".join(packages),
        ],
        tree, environment,
    )  # fmt: skip


def compile_all(tree: Path, environment: dict[str, str], version: str, target: Path, progress: Step) -> None:
    """One `go build` of all COMMANDS, and the pause of the same source. Go's cache turns a second version into linking alone."""
    target.mkdir(parents=True)
    commands = [f"./cmd/{name}" for name in COMMANDS]
    sizes = package_sizes(commands, tree, environment)
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in variables(version).items())])
    command = [go(), "build", "-v", *FLAGS, "-ldflags", flags, "-o", f"{target}/", *commands]
    tail: list[str] = []
    with subprocess.Popen(command, cwd=tree, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        done = 0
        for count, line in enumerate(process.stderr, 1):
            tail = [*tail[-30:], line]
            done += sizes.get(line.strip(), 0)
            progress.note = f"{count} of {len(sizes)} packages"
            progress.share = 0.95 * done / sum(sizes.values())  # the rest is linking
    if process.returncode != 0:
        raise CannotBuild(f"go build failed ({process.returncode}): {''.join(tail)}")
    run(["gcc", "-Os", "-static", "-s", "-DVERSION=v3.2", "-o", str(target / "pause"), "build/pause/linux/pause.c"], tree)


def package_sizes(commands: list[str], tree: Path, environment: dict[str, str]) -> dict[str, int]:
    """Import path -> bytes of Go source, of all packages in these commands: what the time to compile each depends on."""
    shape = "{{.ImportPath}} {{.Dir}}{{range .GoFiles}} {{.}}{{end}}"
    listed = run([go(), "list", "-deps", "-f", shape, *FLAGS, *commands], tree, environment)
    packages = (line.split() for line in listed.splitlines())
    return {path: sum(Path(folder, file).stat().st_size for file in files) for path, folder, *files in packages}


def variables(version: str) -> dict[str, str]:
    """What the linker writes into the binaries, as Kubernetes' own build does."""
    major, minor, _ = version.removeprefix("v").split(".") if version.startswith("v") else ("", "", "")
    values = {
        "gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitCommit": COMMIT, "gitTreeState": "clean",
        "buildDate": "2021-01-13T00:00:00Z",
    }  # fmt: skip
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return {
        f"{prefix}{package}.{name}": value
        for prefix in ("k8s.io/kubernetes/vendor/", "")
        for package in packages
        for name, value in values.items()
    }


def check(folder: Path) -> None:
    """Run them. `kubeadm version` works with the reflect2 that panics too; printing a configuration does not."""
    for version in VERSIONS:
        kubeadm = str(folder / version / "kubeadm")
        said = run([kubeadm, "version", "-o", "short"]).strip()
        defaults = run([kubeadm, "config", "print", "init-defaults"])
        if said != version or "kind: InitConfiguration" not in defaults:
            raise CannotBuild(f"the kubeadm that was built says {said} and prints {defaults[:200]!r}")
        for name in COMMANDS:
            run([str(folder / version / name), "--help"])


def go() -> str:
    return find("go") or "go"


def go_environment(work: Path) -> dict[str, str]:
    return os.environ | {
        "GOPATH": str(work / "go"), "GOCACHE": str(work / "cache"), "GO111MODULE": "off", "GOPROXY": "off", "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }  # fmt: skip


def run(command: list[str], cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """What the command prints. Raises CannotBuild with the end of what it complained about."""
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        raise CannotBuild(f"{' '.join(command)[:200]} failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
    return done.stdout
