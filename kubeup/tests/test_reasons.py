"""`kubeup why`, without a server: what it makes of the objects that the API gives."""

from __future__ import annotations

from kubeup.reasons import explain, render


class Api:
    """Nothing but the object itself."""

    def list(self, kind, namespace="", **more):
        return []

    def find(self, kind, name, namespace=""):
        return None


def test_a_step_that_failed_is_told_with_its_exit_code_remedy_and_last_lines():
    message = (
        "step 3 of 4, init (begins the control plane) failed with exit code 1; its last lines: boom; look at the kubelet's log"
    )
    machine = {
        "kind": "Machine",
        "metadata": {"name": "cp-0", "namespace": "default", "uid": "1"},
        "spec": {},
        "status": {
            "conditions": [
                {"type": "Ready", "status": "False", "reason": "StepFailed", "message": message},
                {"type": "Bootstrapped", "status": "False", "reason": "StepFailed", "message": message},
                {"type": "Reachable", "status": "True", "reason": "Reached", "message": "it runs what it is sent"},
            ],
            "bootstrap": {
                "step": "init",
                "done": 2,
                "total": 4,
                "exitCode": 1,
                "logTail": "one\ntwo\nthree\nfour\nfive\nboom\n",
            },
        },
    }
    text = render(explain(Api(), machine))
    assert text.count(message) == 1
    assert [line.strip() for line in text.splitlines()[-5:]] == ["| two", "| three", "| four", "| five", "| boom"]
    assert "| one" not in text
