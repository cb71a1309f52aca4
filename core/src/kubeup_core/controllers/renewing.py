"""The certificates that control planes made for themselves: read on the machines, and renewed there before they end.

A part of the Cluster controller. They are read over `Reach` when a machine has joined, was upgraded or renewed, and once a day. After
two thirds of their life, or when a person asks for it by an annotation, the bootstrapper's RENEW runs on one control plane after
another, each only when everything works. Whose turn it is is stored before anything is done to it, so a crash goes on where it was.
What is said about ends is `certificates.py`'s.
"""

from __future__ import annotations

from ..bootstrapper import Task
from ..errors import SupplierError, Unknown
from ..kinds import Cluster, Machine
from ..kinds.cluster import Certificate, ControlPlaneStatus, MachineCertificates, Renewal
from ..objects import parse_timestamp, timestamp
from ..pki import BadPair, span
from ..plugins import PluginError
from ..runtime.calls import InProgress
from ..runtime.controller import Env, Key
from .access import Reach, not_reached
from .bootstraps import Bootstraps, bootstrapper_of
from .certificates import RENEW
from .guest import Guest, Progress, paused
from .nodes import Nodes
from .plans import cluster_plan, control_planes, node_plan
from .troubles import LATER, RARELY, SOON, Trouble

REQUEST = "kubeup.dev/renew-certificates"
"""Annotation of a Cluster: a token. Another token asks for new certificates on every control plane, now."""

DAY = 86400.0
"""Seconds between two looks at the certificates of a machine; and between two renewals of one that are not asked for."""

HEAD = "certificate "
KINDS = {"renewed": True, "rotated": False}


class Renewing:
    def __init__(self, env: Env, controller: str) -> None:
        self.env = env
        self.reach = Reach(env, controller)
        self.guest = Guest(env, self.reach)
        self.nodes = env.shared(Nodes)
        self._again: dict[str, float] = {}

    def look(self, cluster: Cluster, state: ControlPlaneStatus) -> None:
        """Read what is not known, or not any more. Never waits; a machine that does not answer is asked again later."""
        planes = self._planes(cluster)
        state.certificates = [r for r in state.certificates if any(m.uid == r.uid for m in planes)]
        for machine in planes:
            if not machine.status.is_true("Ready") or not self._stale(machine, _record(state, machine)):
                continue
            if self._again.get(machine.uid, 0.0) > self.env.clock.awake():
                continue
            try:
                found = self._read(cluster, machine)
            except InProgress:
                continue
            except (SupplierError, PluginError):
                self._again[machine.uid] = self.env.clock.awake() + RARELY
                continue
            self._again.pop(machine.uid, None)
            if found is not None:
                self._keep(state, machine, found)

    def under_way(self, cluster: Cluster, state: ControlPlaneStatus) -> Trouble | None:
        """Go on with the machine whose turn it is. None: there is none."""
        renewal = state.renewal
        if renewal is None or not renewal.machine:
            return None
        machine = self.env.cache.uid(Machine, renewal.machine)
        if machine is None or machine.deleting:
            renewal.machine = ""
            return None
        try:
            progress = self._run(cluster, machine, renewal.at)
        except PluginError as error:
            return Trouble(reason="BootstrapperMissing", message=f"{error.message}; {error.remedy}", after=LATER, stalled=True)
        except SupplierError as error:
            return not_reached(error, machine)
        if progress.error is not None:
            return not_reached(progress.error, machine)
        if progress.state == "held":
            return paused(progress)
        if progress.state == "done":
            self._done(cluster, state, renewal, machine)
            return Trouble(reason="Renewing", message=f"{machine.name} has new certificates", after=0.1)
        message = f"the certificates of {machine.name} are being renewed: {progress.words}"
        failed = progress.state == "failed"
        reason = "RenewalFailed" if failed else "Renewing"
        return Trouble(reason=reason, message=message, after=progress.after or (LATER if failed else SOON), stalled=failed)

    def step(self, cluster: Cluster, state: ControlPlaneStatus) -> Trouble | None:
        """Begin with the next machine; called when everything works. None: nothing is to be renewed."""
        asked = cluster.annotations.get(REQUEST, "")
        renewal = state.renewal = state.renewal or Renewal()
        now = self.env.clock.wall()
        wanted = bool(asked) and asked != renewal.request
        behind = [
            machine
            for machine in self._planes(cluster)
            if machine.uid not in renewal.done and (wanted or _due(_record(state, machine), now))
        ]
        if not behind:
            if renewal.done:
                count = len(renewal.done)
                message = f"{count} control plane{'s have' if count > 1 else ' has'} new certificates"
                self.env.events.event(cluster, "Normal", "CertificatesRenewed", message)
            state.renewal = Renewal(request=asked if wanted else renewal.request)
            return None
        if not renewal.at:
            renewal.at = timestamp(now)
        chosen = behind[0]
        renewal.machine = chosen.uid
        why = "as it was asked for" if wanted else "as two thirds of their life are over"
        self.env.events.event(cluster, "Normal", "RenewingCertificates", f"those of {chosen.name}, {why}")
        return Trouble(reason="Renewing", message=f"the certificates of {chosen.name} are renewed next", after=0.1)

    # -- below -----------------------------------------------------------------------------------------------------------

    def _planes(self, cluster: Cluster) -> list[Machine]:
        joined = self.env.shared(Bootstraps).joined
        return [m for m in control_planes(self.env, cluster) if not m.deleting and joined(m)]

    def _stale(self, machine: Machine, record: MachineCertificates | None) -> bool:
        if record is None or not record.read:
            return True
        version = self._version(machine)
        upgraded = bool(version) and version != record.version
        return upgraded or self.env.clock.wall() - parse_timestamp(record.read) >= DAY

    def _read(self, cluster: Cluster, machine: Machine) -> list[Certificate] | None:
        """None: this bootstrapper cannot tell. Raises InProgress, SupplierError, PluginError."""
        script = bootstrapper_of(self.env, cluster).certificates(cluster_plan(self.env, cluster))
        if not script:
            return None
        key = Key(cluster.namespace, cluster.name)
        said = self.reach.run(machine, script, key=key, verb="certificates")
        if said.code != 0:
            raise Unknown(f"the certificates of {machine.name} cannot be read: exit code {said.code}")
        return read(said.output)

    def _keep(self, state: ControlPlaneStatus, machine: Machine, found: list[Certificate]) -> None:
        before = _record(state, machine)
        record = MachineCertificates(
            machine=machine.name,
            uid=machine.uid,
            read=timestamp(self.env.clock.wall()),
            version=self._version(machine),
            renewed=before.renewed if before is not None else "",
            certificates=found,
        )
        others = [r for r in state.certificates if r.uid != machine.uid]
        state.certificates = sorted([*others, record], key=lambda r: r.machine)

    def _run(self, cluster: Cluster, machine: Machine, round_: str) -> Progress:
        plan, node = cluster_plan(self.env, cluster), node_plan(self.env, cluster, machine, first=False)
        bootstrapper = bootstrapper_of(self.env, cluster)
        return self.guest.step(
            machine,
            Task.RENEW.value,
            lambda: bootstrapper.steps(Task.RENEW, plan, node),
            key=Key(cluster.namespace, cluster.name),
            salt=round_,
            wish=str(cluster.metadata.generation),
        )

    def _done(self, cluster: Cluster, state: ControlPlaneStatus, renewal: Renewal, machine: Machine) -> None:
        renewal.done = [*renewal.done, machine.uid]
        renewal.machine = ""
        record = _record(state, machine)
        if record is None:
            record = MachineCertificates(machine=machine.name, uid=machine.uid)
            state.certificates = sorted([*state.certificates, record], key=lambda r: r.machine)
        record.read, record.renewed = "", timestamp(self.env.clock.wall())

    def _version(self, machine: Machine) -> str:
        node = self.nodes.of(machine)
        return node.kubelet_version if node is not None else ""


def read(output: bytes) -> list[Certificate]:
    """What `Bootstrapper.certificates` printed. Raises Unknown."""
    found: list[Certificate] = []
    for part in f"\n{output.decode('utf-8', 'replace')}".split(f"\n{HEAD}")[1:]:
        head, _, text = part.partition("\n")
        name, _, kind = head.strip().rpartition(" ")
        if kind not in KINDS or not name:
            raise Unknown(f"{head[:100]!r} names no certificate")
        try:
            begins, ends = span(text)
        except BadPair as error:
            raise Unknown(f"the certificate {name} cannot be read: {error}") from error
        found.append(Certificate(name=name, begins=timestamp(begins), ends=timestamp(ends), renewed=KINDS[kind]))
    if not found:
        raise Unknown("no certificate was found")
    return found


def _record(state: ControlPlaneStatus, machine: Machine) -> MachineCertificates | None:
    return next((r for r in state.certificates if r.uid == machine.uid), None)


def _due(record: MachineCertificates | None, now: float) -> bool:
    """Of one that was read after its last renewal."""
    if record is None or not record.read or (record.renewed and now - parse_timestamp(record.renewed) < DAY):
        return False
    for certificate in record.certificates:
        begins, ends = parse_timestamp(certificate.begins), parse_timestamp(certificate.ends)
        if certificate.renewed and now >= begins + (ends - begins) * RENEW:
            return True
    return False
