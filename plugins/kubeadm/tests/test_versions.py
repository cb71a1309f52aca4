"""The table of versions, and the way from one to another."""

import pytest
from kubeup_core import InvalidSpec
from kubeup_kubeadm import versions


@pytest.mark.parametrize(
    ("have", "want", "way"),
    [
        ("v1.34.1", "v1.34.1", ()),
        ("v1.20.2", "v1.20.3", ("v1.20.3",)),
        ("v1.33.4", "v1.34.1", ("v1.34.1",)),
        ("v1.29.0", "v1.32.1", ("v1.30.14", "v1.31.14", "v1.32.1")),
        ("v1.35.0", "v1.36.0", ("v1.36.0",)),
    ],
)
def test_an_upgrade_goes_one_minor_at_a_time(have, want, way):
    assert versions.hops(have, want) == way


def test_every_known_minor_is_reached_from_the_oldest():
    first, last = min(versions.RELEASES), max(versions.RELEASES)
    way = versions.hops(f"v1.{first}.0", f"v1.{last}.0")
    assert [versions.parse(version)[1] for version in way] == list(range(first + 1, last + 1))


@pytest.mark.parametrize(("have", "want"), [("v1.34.1", "v1.33.9"), ("v1.34.1", "v1.34.0"), ("v1.30.0", "v1.20.2")])
def test_a_downgrade_is_refused(have, want):
    with pytest.raises(InvalidSpec, match=f"cannot go back from {have} to {want}") as error:
        versions.hops(have, want)
    assert error.value.path == "spec.kubernetes.version"
    assert "snapshot" in error.value.remedy


@pytest.mark.parametrize("version", ["v1.19.16", "v1.99.0", "v2.20.0"])
def test_a_version_that_is_not_in_the_table_is_refused(version):
    with pytest.raises(InvalidSpec, match=r"is not known to kubeup-kubeadm, which knows v1\.20 to v1\.37"):
        versions.hops("v1.20.2", version)


@pytest.mark.parametrize("version", ["1.34.1", "v1.34", "v1.34.1-rc.1", "latest", ""])
def test_a_version_is_written_in_full(version):
    with pytest.raises(InvalidSpec, match="is not a Kubernetes version"):
        versions.release(version)


def test_minors_are_without_gaps_and_apis_never_go_back():
    minors = sorted(versions.RELEASES)
    assert minors == list(range(minors[0], minors[-1] + 1))
    apis = [versions.RELEASES[minor].api for minor in minors]
    assert apis == sorted(apis)


def test_the_newest_is_a_version_of_the_table():
    assert versions.release(versions.NEWEST).latest >= versions.parse(versions.NEWEST)[2]


def test_no_kubelet_ever_lags_further_than_it_may():
    """Every machine is brought to a hop before the next one is begun: a kubelet is at most one hop behind its API server."""
    first, last = min(versions.RELEASES), max(versions.RELEASES)
    have = f"v1.{first}.0"
    for hop in versions.hops(have, f"v1.{last}.0"):
        lag = versions.parse(hop)[1] - versions.parse(have)[1]
        assert 0 <= lag <= 1 <= versions.release(hop).kubelet_lag
        have = hop
