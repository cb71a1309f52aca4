"""The XML of what is made: virtual machines, their disks, volumes, networks. Pure; used by the suppliers."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from xml.sax.saxutils import escape, quoteattr

MACHINE = {"amd64": ("x86_64", "q35"), "arm64": ("aarch64", "virt")}


@dataclass(frozen=True, kw_only=True)
class Guest:
    """A virtual machine. element: of its mark. disk, seed, console: paths. memory: bytes. cpu_mode: a mode or a model's name."""

    uuid: str
    name: str
    element: str
    kvm: bool
    arch: str
    cpus: int
    memory: int
    cpu_mode: str
    firmware: str
    disk: str
    seed: str
    console: str
    network: str
    mac: str
    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""


def domain(guest: Guest) -> str:
    arch, machine = MACHINE[guest.arch]
    boot = "".join(f"<{k}>{escape(v)}</{k}>" for k in ("kernel", "initrd", "cmdline") if (v := getattr(guest, k)))
    firmware = " firmware='efi'" if guest.firmware == "efi" else ""
    modes = ("host-passthrough", "host-model", "maximum")
    cpu = (
        f"<cpu mode='{guest.cpu_mode}'/>" if guest.cpu_mode in modes else f"<cpu><model>{escape(guest.cpu_mode)}</model></cpu>"
    )
    card = (
        f"<interface type='network'><mac address='{guest.mac}'/><source network={quoteattr(guest.network)}/>"
        "<model type='virtio'/></interface>"
        if guest.network
        else ""
    )
    return f"""<domain type='{"kvm" if guest.kvm else "qemu"}'>
  <name>{escape(guest.name)}</name><uuid>{guest.uuid}</uuid><metadata>{guest.element}</metadata>
  <memory unit='b'>{guest.memory}</memory><vcpu>{guest.cpus}</vcpu>
  <os{firmware}><type arch='{arch}' machine='{machine}'>hvm</type>{boot}<boot dev='hd'/></os>
  <features><acpi/></features>{cpu}<clock offset='utc'/><on_reboot>restart</on_reboot><on_crash>restart</on_crash>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/><source file={quoteattr(guest.disk)}/>
      <target dev='vda' bus='virtio'/></disk>
    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file={quoteattr(guest.seed)}/>
      <target dev='vdb' bus='virtio'/><readonly/></disk>
    <controller type='scsi' index='0' model='virtio-scsi'/>
    {card}
    <serial type='file'><source path={quoteattr(guest.console)} append='on'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <memballoon model='virtio'/>
  </devices>
</domain>"""


def data_disk(path: str, target: str, serial: str) -> str:
    """A volume at a machine: virtio-scsi, where disks come, grow and go without a free PCI slot."""
    return (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2' discard='unmap'/><source file={quoteattr(path)}/>"
        f"<target dev='{target}' bus='scsi'/><serial>{serial}</serial></disk>"
    )


def volume(name: str, size: int, format: str = "qcow2", backing: tuple[str, str] | None = None) -> str:
    """size: bytes; nothing of it is allocated yet. backing: path and format of the image under it."""
    under = f"<backingStore><path>{escape(backing[0])}</path><format type='{backing[1]}'/></backingStore>" if backing else ""
    return (
        f"<volume><name>{escape(name)}</name><capacity unit='bytes'>{size}</capacity><allocation>0</allocation>"
        f"<target><format type='{format}'/></target>{under}</volume>"
    )


def network(uuid: str, name: str, element: str, cidr: IPv4Network) -> str:
    """NAT to the outside. Its lower half is kubeup's to give, the upper half for leases."""
    first, half = cidr.network_address, cidr.num_addresses // 2
    return f"""<network><name>{escape(name)}</name><uuid>{uuid}</uuid><metadata>{element}</metadata>
  <forward mode='nat'/><bridge stp='on' delay='0'/>
  <ip address='{first + 1}' prefix='{cidr.prefixlen}'>
    <dhcp><range start='{first + half}' end='{cidr.broadcast_address - 1}'/></dhcp></ip></network>"""


STARTED = "<started/>"
"""libvirt puts the namespace into it."""
