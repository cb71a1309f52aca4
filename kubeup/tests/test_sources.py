"""Where manifests and providers come from: an https address, a plugin that is a file."""

import http.server
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from kubeup_core.plugins import load_file

TUTORIAL = Path(__file__).parents[2] / "docs" / "plugins" / "tutorial"
TOY = """
apiVersion: kubeup.dev/v1alpha1
kind: Provider
metadata: {{name: toys}}
spec: {{type: toy, config: {{url: "{url}"}}}}
---
apiVersion: kubeup.dev/v1alpha1
kind: Cluster
metadata: {{name: nursery}}
spec: {{provider: toys}}
---
apiVersion: kubeup.dev/v1alpha1
kind: NodePool
metadata: {{name: bear}}
spec: {{cluster: nursery, replicas: 2}}
"""


def certificate(folder: Path) -> Path:
    """A self-signed one for 127.0.0.1, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(cert.public_bytes(pem) + secret)
    return file


@pytest.fixture
def https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server with one manifest, and of what leads elsewhere."""
    pem = certificate(tmp_path)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            plain = self.path == "/plain"
            self.send_response(302 if plain else 200 if self.path == "/a.yaml" else 404)
            if plain:
                self.send_header("Location", "http://127.0.0.1:1/a.yaml")
            self.end_headers()
            self.wfile.write(b"kind: [\n")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    yield f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_https_address_is_a_source_and_its_certificate_is_checked(
    kubeup: Any, https: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"error: {https}/a.yaml:2:1: not YAML" in kubeup("up", "-f", f"{https}/a.yaml", code=3).err
    assert "404" in kubeup("up", "-f", f"{https}/b.yaml", code=1).err
    assert "not https" in kubeup("up", "-f", f"{https}/plain", code=None).err
    monkeypatch.delenv("SSL_CERT_FILE")
    done = kubeup("up", "-f", f"{https}/a.yaml", code=1)
    assert len(done.errors) == 1
    assert "CERTIFICATE_VERIFY_FAILED" in done.err
    assert not kubeup.state.exists()


@pytest.fixture
def toys() -> Iterator[Any]:
    """The cloud of the tutorial, served, and its time passing. `.url` is where."""
    cloud = load_file(TUTORIAL / "toy_cloud.py").ToyCloud()
    server, over = cloud.serve(), threading.Event()
    cloud.url = f"http://127.0.0.1:{server.server_address[1]}"

    def time_passes() -> None:
        while not over.wait(0.1):
            cloud.tick()

    thread = threading.Thread(target=time_passes)
    thread.start()
    yield cloud
    over.set()
    thread.join()
    server.shutdown()
    server.server_close()


def test_a_plugin_file_brings_machines_up_and_down_and_is_remembered(kubeup: Any, toys: Any, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(TUTORIAL.joinpath("kubeup_toy.py").read_text())
    file = kubeup.write(TOY.format(url=toys.url))
    assert "pip install kubeup-toy" in kubeup("up", "-f", file, code=3).err
    out = kubeup("up", "-f", file, "--plugin", str(mine)).out
    assert "provider toys: toy:account-1, as account-1" in out
    assert "Ready: 1 provider, 1 cluster, 1 node pool; 2 machines" in out
    assert {m["state"] for m in toys.machines.values()} == {"running"}
    pid = kubeup.server["pid"]
    assert "unchanged" in kubeup("apply", "-f", file).out, "the server's plugins are known without being named again"
    assert kubeup.server["pid"] == pid
    with mine.open("a") as plugin:
        plugin.write("# edited\n")
    assert "have changed: restarting the server" in kubeup("apply", "-f", file).out
    kubeup("stop")
    assert "Complete listings" in kubeup("down", "--yes").out
    assert [m for m in toys.machines.values() if m["state"] in ("starting", "running")] == []


def test_a_provider_of_the_environment_is_declared_by_being_named(kubeup: Any, toys: Any, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    plugin = TUTORIAL.joinpath("kubeup_toy.py").read_text()
    mine.write_text(plugin.replace("http://127.0.0.1:8700", toys.url).replace("build=build)", "build=build, ambient=True)"))
    _, cluster, pool = TOY.format(url="").replace("toys", "toy").split("---")
    file = kubeup.write(cluster, pool)
    lines = kubeup("up", "-f", file, "--plugin", str(mine)).out.splitlines()
    who = lines.index("provider toy: toy:account-1, as account-1")
    assert lines.index("provider/toy created") < who < lines.index("cluster/nursery created")
    assert "created" not in kubeup("apply", "-f", file).out
    assert "Complete listings" in kubeup("down", "--yes").out
