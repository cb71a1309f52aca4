"""What a balancer does with connections, members and machines: real HAProxy, real servers, real sockets."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kubeup_core import InvalidSpec, Listener, NotFound, NotReady, Phase, Ref, Scope, Taken

OURS = Scope(installation="inst")


def healthy(supplier: Any, want: Any) -> bool:
    state = supplier.ensure(want)
    return bool(state.members) and set(state.members.values()) == {"healthy"}


# -- connections -----------------------------------------------------------------------------------------------------------


def test_a_reload_under_load_drops_no_connection(boxes, servers, supplier, wish, ask, settled) -> None:
    box, one, two = boxes(), servers("one"), servers("two")
    balancers = supplier(box)
    settled(lambda: healthy(balancers, wish(box, one)))
    over, answers = threading.Event(), []

    def load() -> None:
        while not over.is_set():
            answers.append(ask(box.address))

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(load) for _ in range(4)]
        for n in range(6):
            balancers.ensure(wish(box, one, two) if n % 2 == 0 else wish(box, one))
        balancers.ensure(wish(box, one, two))
        settled(lambda: "two" in answers)
        over.set()
        for one_load in running:
            one_load.result()
    assert len(answers) > 100
    assert answers.count("") == 0, f"{answers.count('')} of {len(answers)} connections were dropped"


def test_a_member_that_drains_finishes_what_it_has_and_gets_nothing_new(boxes, servers, supplier, wish, ask, settled) -> None:
    box, one, two = boxes(), servers("one"), servers("two")
    balancers = supplier(box)
    settled(lambda: healthy(balancers, wish(box, one, two)))
    with ThreadPoolExecutor(2) as pool:
        long = [pool.submit(ask, box.address, 80, "/slow")]
        settled(lambda: one.begun.is_set() or two.begun.is_set())
        long.append(pool.submit(ask, box.address, 80, "/slow"))  # leastconn: the other one gets it
        settled(lambda: one.begun.is_set() and two.begun.is_set())
        state = balancers.ensure(wish(box, one, two, draining=("two",)))
        assert state.members == {"one": "healthy", "two": "draining"}
        assert {ask(box.address) for _ in range(10)} == {"one"}
        one.slow.set()
        two.slow.set()
        assert {done.result() for done in long} == {"one", "two"}
    settled(lambda: balancers.observe(OURS).items[0].members["two"] == "unused")


def test_a_connection_from_before_a_reload_still_counts_as_draining(boxes, servers, supplier, wish, ask, settled) -> None:
    """It is in a process that a reload replaced, and the machine must not go before it ends."""
    box, one, two, three = boxes(), servers("one"), servers("two"), servers("three")
    balancers = supplier(box)
    settled(lambda: healthy(balancers, wish(box, two)))
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(ask, box.address, 80, "/slow")
        assert two.begun.wait(10)
        balancers.ensure(wish(box, one, two, three))
        state = balancers.ensure(wish(box, one, two, three, draining=("two",)))
        assert state.members["two"] == "draining"
        two.slow.set()
        assert long.result() == "two"
    settled(lambda: balancers.observe(OURS).items[0].members["two"] == "unused")


def test_draining_is_a_word_to_the_running_process_and_no_reload(boxes, servers, supplier, wish, settled) -> None:
    box, one, two = boxes(), servers("one"), servers("two")
    balancers = supplier(box)
    balancers.ensure(wish(box, one, two))
    before = box.processes()
    balancers.ensure(wish(box, one, two, draining=("two",)))
    assert box.processes() == before


def test_a_member_comes_back_from_draining(boxes, servers, supplier, wish, ask, settled) -> None:
    box, one, two = boxes(), servers("one"), servers("two")
    balancers = supplier(box)
    balancers.ensure(wish(box, one, two, draining=("two",)))
    settled(lambda: {ask(box.address) for _ in range(4)} == {"one"})
    settled(lambda: healthy(balancers, wish(box, one, two)))
    settled(lambda: {ask(box.address) for _ in range(6)} == {"one", "two"})


def test_an_equal_wish_changes_nothing(boxes, servers, supplier, wish) -> None:
    box, one = boxes(), servers("one")
    balancers = supplier(box)
    balancers.ensure(wish(box, one))
    before = box.processes()
    balancers.ensure(wish(box, one))
    supplier(box).ensure(wish(box, one))
    assert box.processes() == before


def test_only_networks_that_are_allowed_get_through(boxes, servers, supplier, wish, ask, settled) -> None:
    box, one = boxes(), servers("one")
    balancers = supplier(box)
    want = wish(box, one, allow_from=("127.0.7.0/24", "10.0.0.0/8"))
    settled(lambda: healthy(balancers, want))
    assert ask(box.address, source="127.0.7.1") == "one"
    assert ask(box.address, source="127.0.8.1") == ""


def test_each_listener_has_its_port_and_its_targets(boxes, servers, supplier, wish, ask, settled) -> None:
    box, web = boxes(), servers("web")
    other = servers("other", 9090, address=web.address)
    balancers = supplier(box)
    health = {"protocol": "TCP", "interval": "0.2"}
    want = wish(
        box, web, listeners=(Listener(port=80, target=8080, health=health), Listener(port=81, target=9090, health=health))
    )
    settled(lambda: healthy(balancers, want))
    assert (ask(box.address, 80), ask(box.address, 81)) == ("web", "other")
    other.close()
    settled(lambda: balancers.ensure(want).members == {"web": "unhealthy"})  # as bad as its worst place


# -- health ----------------------------------------------------------------------------------------------------------------


def test_a_member_goes_unhealthy_and_comes_back(boxes, servers, supplier, wish, ask, settled) -> None:
    box, one, two = boxes(), servers("one"), servers("two")
    balancers, want = supplier(box), wish(box, one, two)
    settled(lambda: healthy(balancers, want))
    two.healthy = False
    settled(lambda: balancers.observe(OURS).items[0].members == {"one": "healthy", "two": "unhealthy"})
    assert {ask(box.address) for _ in range(6)} == {"one"}
    two.healthy = True
    settled(lambda: balancers.observe(OURS).items[0].members == {"one": "healthy", "two": "healthy"})
    settled(lambda: {ask(box.address) for _ in range(6)} == {"one", "two"})


def test_what_is_known_of_health_outlives_a_reload(boxes, servers, supplier, wish, ask, settled) -> None:
    """Nothing goes to a member that is known to be down, only because another one came."""
    box, one, two, three = boxes(), servers("one"), servers("two"), servers("three")
    balancers = supplier(box)
    two.healthy = False
    settled(lambda: balancers.ensure(wish(box, one, two)).members == {"one": "healthy", "two": "unhealthy"})
    state = balancers.ensure(wish(box, one, two, three))
    assert state.members["one"] == "healthy"
    assert state.members["two"] == "unhealthy"
    assert "two" not in {ask(box.address) for _ in range(12)}


def certificate(folder: Path, name: str, address: str) -> tuple[str, ssl.SSLContext]:
    """An authority's PEM, and the server side of a certificate that it signed for this address."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.now(UTC)

    def make(subject: str, issuer: str, key: Any, signer: Any, authority: bool) -> x509.Certificate:
        builder = x509.CertificateBuilder(
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]),
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)]),
            key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(days=1),
        )  # fmt: skip
        builder = builder.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        return builder.add_extension(names, critical=False).sign(signer, hashes.SHA256())

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = make(name, name, ca_key, ca_key, True)
    own = make(f"{name} server", name, key, ca_key, False)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / f"{name}.pem").write_bytes(own.public_bytes(pem) + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem")
    return ca.public_bytes(pem).decode(), context


def test_https_checks_accept_any_certificate_unless_an_authority_is_named(
    boxes, servers, supplier, wish, settled, tmp_path
) -> None:
    box, address = boxes(), "127.0.0.1"
    right, tls = certificate(tmp_path, "right", address)
    wrong, _ = certificate(tmp_path, "wrong", address)
    one = servers("one", tls=tls)
    balancers, want = supplier(box), wish(box, one, health={"protocol": "HTTPS"})
    settled(lambda: healthy(balancers, want))
    settled(lambda: healthy(balancers, replace(want, overrides={"healthCA": right})))
    settled(lambda: balancers.ensure(replace(want, overrides={"healthCA": wrong})).members == {"one": "unhealthy"})
    one.healthy = False
    settled(lambda: balancers.ensure(want).members == {"one": "unhealthy"})


# -- whose machine it is ---------------------------------------------------------------------------------------------------


def test_a_machine_with_another_balancer_is_not_touched(boxes, servers, supplier, wish, ask, settled) -> None:
    box, one, two = boxes(), servers("one"), servers("two")
    balancers = supplier(box)
    first = wish(box, one)
    settled(lambda: healthy(balancers, first))
    with pytest.raises(Taken, match=r"not this one") as caught:
        balancers.ensure(replace(wish(box, two), mark=replace(first.mark, maker="another")))
    assert first.mark.maker in caught.value.by
    with pytest.raises(NotFound):
        balancers.delete(Ref(id=f"haproxy-{first.mark.maker}", mark=replace(first.mark, maker="another")))
    assert ask(box.address) == "one"


def test_delete_leaves_nothing(boxes, servers, supplier, wish) -> None:
    box, one = boxes(), servers("one")
    balancers, want = supplier(box), wish(box, one)
    ref = balancers.ensure(want).ref
    balancers.delete(ref)
    assert box.left() == set()
    assert balancers.observe(OURS).items == ()
    balancers.delete(ref)


def test_one_machine_that_does_not_answer_hides_no_other(boxes, servers, supplier, wish) -> None:
    """Whose it is lent to is known, so nothing is concluded of that one only."""
    box, other, one = boxes(), boxes(), servers("one")
    want, theirs = wish(box, one), wish(other, one)
    from kubeup_core import Context
    from kubeup_haproxy import HaproxyConfig, build

    context = Context(installation="inst", hosts=lambda: (box.host(want.mark), other.host(theirs.mark)))
    suppliers = build(HaproxyConfig(), context)
    balancers = suppliers.load_balancers
    assert balancers is not None
    balancers.ensure(want)
    balancers.ensure(theirs)

    def gone(verb: str) -> None:
        raise NotReady("no answer")

    other.before = gone
    seen = balancers.observe(OURS)
    assert {s.ref.mark.maker: s.phase for s in seen.items} == {want.mark.maker: Phase.RUNNING, theirs.mark.maker: Phase.UNKNOWN}
    assert not seen.unreachable
    balancers.delete(Ref(id=f"haproxy-{want.mark.maker}", mark=want.mark))
    suppliers.close()


def test_a_process_that_died_is_seen_and_started_again(boxes, servers, supplier, wish, ask, settled) -> None:
    box, one = boxes(), servers("one")
    balancers, want = supplier(box), wish(box, one)
    settled(lambda: healthy(balancers, want))
    box.kill()
    settled(lambda: not box.processes())
    assert balancers.observe(OURS).items[0].phase is Phase.STOPPED
    settled(lambda: healthy(balancers, want))
    assert ask(box.address) == "one"


# -- what cannot be ----------------------------------------------------------------------------------------------------------


def test_udp_is_refused_before_anything_is_done(boxes, servers, supplier, wish) -> None:
    box = boxes()
    with pytest.raises(InvalidSpec, match=r"UDP, and HAProxy forwards TCP only") as caught:
        supplier(box).ensure(wish(box, listeners=(Listener(port=53, target=53, protocol="UDP"),)))
    assert caught.value.path == "spec.listeners[0].protocol"
    assert box.calls == []


def test_without_a_machine_it_waits(boxes, supplier, wish) -> None:
    with pytest.raises(NotReady, match=r"no machine is lent"):
        supplier().ensure(replace(wish(boxes()), hosts=()))


def test_an_override_that_nobody_knows_is_refused_with_its_path(boxes, supplier, wish) -> None:
    box = boxes()
    with pytest.raises(InvalidSpec) as caught:
        supplier(box).ensure(wish(box, overrides={"balence": "source"}))
    assert caught.value.path == "spec.overrides.haproxy.balence"
    assert "balance" in caught.value.remedy


def test_what_haproxy_refuses_changes_nothing(boxes, servers, supplier, wish, ask, settled) -> None:
    box, one = boxes(), servers("one")
    balancers, want = supplier(box), wish(box, one, health={"protocol": "HTTPS"}, overrides={"listen": "address"})
    balancers.ensure(wish(box, one))
    broken = {"healthCA": "-----BEGIN CERTIFICATE-----\nnot one\n-----END CERTIFICATE-----"}
    with pytest.raises(InvalidSpec, match=r"HAProxy refuses the configuration"):
        balancers.ensure(replace(want, overrides=broken))
    settled(lambda: ask(box.address) == "one")
    assert balancers.observe(OURS).items[0].phase is Phase.RUNNING


def test_a_port_that_is_in_use_is_named_and_the_former_listeners_go_on(boxes, servers, supplier, wish, ask, settled) -> None:
    box, one = boxes(), servers("one")
    balancers, want = supplier(box), wish(box, one)
    settled(lambda: healthy(balancers, want))
    with socket.create_server((box.address, 81)):
        with pytest.raises(InvalidSpec, match=r"port is in use") as caught:
            balancers.ensure(replace(want, listeners=(*want.listeners, Listener(port=81, target=8080))))
        assert caught.value.path == "spec.listeners"
        settled(lambda: ask(box.address) == "one")
    settled(lambda: healthy(balancers, want))


# -- installing ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(boxes, tmp_path, haproxy) -> Callable[..., Any]:
    """bare(apt): a machine whose PATH has what Debian's has, but neither HAProxy nor socat; apt is the text of its apt-get."""

    def make(apt: str) -> Any:
        folder = tmp_path / "bin"
        folder.mkdir()
        for command in ("sh", "cat", "sed", "awk", "grep", "mkdir", "rm", "rmdir", "mv", "cp", "tar", "flock", "sleep", "tail",
                        "timeout",
                        "find", "setsid", "perl", "ls", "ln", "dirname"):  # fmt: skip
            (folder / command).symlink_to(shutil.which(command) or f"/usr/bin/{command}")
        (folder / "apt-get").write_text(f"#!/bin/sh\n{apt}\n")
        (folder / "apt-get").chmod(0o755)
        return boxes(path=str(folder))

    return make


@pytest.fixture(autouse=True)
def _nothing_from_sbin(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """For a bare machine, the folders that guest.sh adds to its PATH hold nothing."""
    if "bare" in request.fixturenames:
        from kubeup_haproxy import hosts

        monkeypatch.setattr(hosts, "SCRIPT", hosts.SCRIPT.replace("$PATH:/usr/local/sbin:/usr/sbin:/sbin", "$PATH"))


def test_haproxy_is_installed_where_it_is_missing_while_nobody_waits(
    bare, servers, supplier, wish, ask, settled, haproxy
) -> None:
    box, one = bare(f'[ "$2" = update ] || ln -sf {haproxy} "${{0%/*}}/haproxy"'), servers("one")
    balancers, want = supplier(box), wish(box, one)
    state = balancers.ensure(want)
    assert (state.phase, state.addresses) == (Phase.PENDING, (box.address,))
    settled(lambda: healthy(balancers, want))  # and without socat, through perl
    assert ask(box.address) == "one"


def test_an_installation_waits_for_whoever_holds_a_lock_of_apt(bare, servers, supplier, wish, settled, haproxy) -> None:
    """Of either of its locks: that of the lists, and that of the packages."""
    locked = "echo E: Could not get lock. It is held by process 7; echo E: Unable to lock; exit 100"
    box = bare(
        f'tried="${{0%/*}}/tried-$2"; [ -e "$tried" ] || {{ : >"$tried"; {locked}; }}\n'
        f'[ "$2" = update ] || ln -sf {haproxy} "${{0%/*}}/haproxy"'
    )
    balancers, want = supplier(box), wish(box, servers("one"))
    settled(lambda: healthy(balancers, want))


def test_an_installation_that_fails_is_told_with_its_last_words(bare, supplier, wish, settled) -> None:
    box = bare("echo E: Unable to locate package haproxy; exit 100")
    balancers, want = supplier(box), wish(box)

    balancers.ensure(want)
    settled((box.folder / "run/kubeup-haproxy/install.code").exists)
    with pytest.raises(NotReady, match=r"Unable to locate package haproxy") as caught:
        balancers.ensure(want)
    assert caught.value.code == "NotInstalled"


def test_a_machine_that_should_have_it_and_does_not_is_named(bare, supplier, wish) -> None:
    box = bare("exit 1")
    with pytest.raises(NotReady, match=r"HAProxy is not on this machine"):
        supplier(box).ensure(wish(box, overrides={"source": "preinstalled"}))


def test_packages_are_brought_along(bare, servers, supplier, wish, settled, haproxy, tmp_path) -> None:
    box = bare("exit 1")
    dpkg = Path(box.path) / "dpkg"
    dpkg.write_text(f'#!/bin/sh\n[ "$(cat "$2")" = "a package" ] && ln -sf {haproxy} "${{0%/*}}/haproxy"\n')
    dpkg.chmod(0o755)
    (tmp_path / "haproxy.deb").write_text("a package")
    balancers = supplier(box)
    want = wish(box, servers("one"), overrides={"source": "packages", "packages": [str(tmp_path / "haproxy.deb")]})
    settled(lambda: healthy(balancers, want))
    missing = replace(want, overrides={"source": "packages", "packages": [str(tmp_path / "none.deb")]})
    os.unlink(Path(box.path) / "haproxy")
    with pytest.raises(InvalidSpec, match=r"none.deb cannot be read"):
        balancers.ensure(missing)
