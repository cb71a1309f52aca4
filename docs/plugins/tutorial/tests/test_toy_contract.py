"""The contract tests against a toy cloud that really runs, on loopback."""

from kubeup_core.testing import MachineContract, Rig
from kubeup_toy import ToyConfig, build
from toy_cloud import ToyCloud


class TestToyMachines(MachineContract):
    def supply(self) -> Rig:
        cloud, other = ToyCloud(page=2), ToyCloud("account-2")
        server, elsewhere = cloud.serve(), other.serve()
        config = ToyConfig(url=f"http://127.0.0.1:{server.server_address[1]}")
        config_elsewhere = ToyConfig(url=f"http://127.0.0.1:{elsewhere.server_address[1]}")

        def close() -> None:
            for each in (server, elsewhere):
                each.shutdown()
                each.server_close()

        return Rig(
            build=lambda context: build(config, context),
            advance=cloud.tick,
            close=close,
            # Everything below is optional. Each line lets more tests run.
            elsewhere=lambda context: build(config_elsewhere, context),
            everything=lambda: list(cloud.machines),
            requests=lambda: cloud.requests,
            page=cloud.page,
            broken_page=lambda: cloud.having(broken_page=True),
            unreachable=lambda place: cloud.having(silent=True),
            no_capacity=lambda room: cloud.having(room=room),
            lost_reply=lambda: cloud.having(lost="reply"),
            lost_request=lambda: cloud.having(lost="request"),
            die=lambda ref: cloud.die(ref.id),
            squat=lambda launch: cloud.create(f"{launch.members[0].name}-{launch.mark.maker[:8]}", "small", {}),
        )
