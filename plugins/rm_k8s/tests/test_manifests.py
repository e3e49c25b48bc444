"""What would be sent to a cluster. No cluster is needed."""

from __future__ import annotations

import subprocess

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from twister2.spec.errors import ResourcesExceededError, SubmissionRefusedError
from twister2.spec.rm import Allocation, ResourceGroup, RmContext
from twister2_rm_k8s import manifests, names, quota
from twister2_rm_k8s.config import KubernetesConfig
from twister2_rm_k8s.manager import KubernetesManager
from twister2_rm_k8s.manifests import COPY, Manifests, merged
from twister2_rm_k8s.rbac import RULES, manifest


def allocation(**changes):
    values = {
        "job_id": "count-261122-010203-abcd",
        "name": "count",
        "groups": (
            ResourceGroup("big", 2, cpus=2, memory_mb=512, disk_mb=64, gpus=1),
            ResourceGroup("thin", 3, cpus=0.5),
        ),
        "worker_command": ("python3", "-m", "twister2.worker"),
        "master_command": ("python3", "-m", "twister2.master"),
        "environment": {"COLOUR": "$(HOME) and $5"},
        "ticket": b"ticket-secret",
        "master_ticket": b"master-secret",
        "folder": "/nowhere",
        "master": ResourceGroup("master", 1),
    }
    return Allocation(**{**values, **changes})


def config(**options):
    return KubernetesConfig(image="team/job:1", **options)


def objects(config=None, **changes):
    made = Manifests(allocation(**changes), config or KubernetesConfig(image="team/job:1"), "team-a")
    return {(body["kind"], body["metadata"]["name"]): body for body in made.all()}


NAME = "t2-count-261122-010203-abcd"


def test_what_there_is():
    assert set(objects()) == {
        ("ConfigMap", NAME),
        ("Secret", NAME),
        ("Secret", f"{NAME}-master"),
        ("Service", NAME),
        ("Job", f"{NAME}-master"),
        ("Job", f"{NAME}-0"),
        ("Job", f"{NAME}-1"),
    }
    assert ("Job", f"{NAME}-master") not in objects(master=None)
    for body in objects().values():
        assert body["metadata"]["namespace"] == "team-a"
        assert body["metadata"]["labels"][names.MANAGED] == "twister2"


def test_groups_are_jobs_with_their_own_sizes_and_slots():
    big, thin = objects()["Job", f"{NAME}-0"], objects()["Job", f"{NAME}-1"]
    assert [job["spec"]["completions"] for job in (big, thin)] == [2, 3]
    assert [job["metadata"]["annotations"][names.SLOTS] for job in (big, thin)] == ["0-1", "2-4"]
    container = big["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"] == {
        "requests": {"cpu": "2000m", "memory": "512Mi", "ephemeral-storage": "64Mi"},
        "limits": {"memory": "512Mi", "ephemeral-storage": "64Mi", "nvidia.com/gpu": "1"},
    }
    assert thin["spec"]["template"]["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "500m"}}
    limited = objects(KubernetesConfig(image="i", cpu_limits=True))["Job", f"{NAME}-1"]
    assert limited["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "500m"}


def test_kubernetes_starts_no_worker_again_but_the_master_where_it_may():
    for restarts in (0, 2):
        for (kind, name), body in objects(config(master_restarts=restarts)).items():
            if kind == "Job" and name.endswith("-master"):
                assert body["spec"]["podReplacementPolicy"] == "TerminatingOrFailed", "waits for the end of a dead node"
                away = body["spec"]["template"]["spec"]["tolerations"]
                assert {each["tolerationSeconds"] for each in away} == {manifests.AWAY_S}
            if kind == "Job" and name.endswith("-master") and restarts:
                assert body["spec"]["backoffLimit"] == restarts + 1
                assert body["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure"
            elif kind == "Job":
                assert body["spec"]["backoffLimitPerIndex"] == 0
                assert body["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_the_walltime_begins_when_a_worker_has_a_node():
    """That of a Job would begin with its creation, and a job master runs while its workers wait."""
    for (kind, name), body in objects(walltime_s=3600).items():
        if kind == "Job":
            assert "activeDeadlineSeconds" not in body["spec"], name
            limit = None if name.endswith("-master") else 3600 + manifests.SLACK_S
            assert body["spec"]["template"]["spec"].get("activeDeadlineSeconds") == limit, name


def test_what_gang_schedulers_go_by_is_where_they_look_for_it():
    """Kueue admits Jobs by a label of theirs; Volcano schedules pods, and groups them by an annotation of theirs."""
    kueue = "kueue.x-k8s.io/queue-name"
    for (kind, _), body in objects(config(queue="team")).items():
        assert body["metadata"]["labels"].get(kueue) == ("team" if kind == "Job" else None)
        if kind == "Job":
            assert kueue not in body["spec"]["template"]["metadata"]["labels"], "the pods would be admitted once more"
            later = (
                manifests.again(body, "t2-x-9", 9, [3]) if body["metadata"]["annotations"].get(names.SLOTS) else body
            )
            assert later["metadata"]["labels"][kueue] == "team"
    group = {"scheduling.k8s.io/group-name": "gang"}
    for (kind, _), body in objects(config(scheduler="volcano", annotations=group)).items():
        if kind == "Job":
            pod = body["spec"]["template"]
            assert pod["spec"]["schedulerName"] == "volcano"
            assert pod["metadata"]["annotations"].items() >= group.items()


def test_pods_may_little():
    for (kind, name), body in objects().items():
        if kind != "Job":
            continue
        pod = body["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is name.endswith("-master")
        security = pod["containers"][0]["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}


def test_variables_are_not_replaced_by_kubernetes():
    container = objects()["Job", f"{NAME}-0"]["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "COLOUR", "value": "$$(HOME) and $$5"} in container["env"]
    assert "$$" in container["command"][2]


def test_dry_run_shows_all_and_no_secret(tmp_path):
    text = KubernetesManager(KubernetesConfig(image="team/job:1", namespace="team-a"), RmContext(str(tmp_path))).render(
        allocation()
    )
    assert "secret" not in "".join(
        line for line in text.splitlines() if "ecretName" not in line and "secret:" not in line
    )
    shown = list(yaml.safe_load_all(text))
    assert {body["kind"] for body in shown} == {"ConfigMap", "Secret", "Service", "Job"}
    assert "twister2.worker" in text
    for body in shown:
        submitted = objects(config())[body["kind"], body["metadata"]["name"]]
        assert {**submitted, "data": None, "stringData": None} == {**body, "data": None, "stringData": None}
        assert ("stringData" in body) is (body["kind"] == "Secret"), "data of a Secret would have to be base64"
    assert all(word in text for word in ("# ", "ownerReferences", names.SUBMISSION))


def test_no_image_is_refused():
    with pytest.raises(SubmissionRefusedError, match=r"rm\.k8s\.image"):
        objects(KubernetesConfig())


def test_options_of_the_pod():
    config = KubernetesConfig(
        image="i",
        pull_secrets=("registry",),
        node_selector={"disk": "ssd"},
        priority_class="high",
        scheduler="volcano",
        queue="team-queue",
        labels={"cost": "42"},
        annotations={"note": "x"},
        worker_service_account="reader",
        user=0,
        read_only_root=False,
        scratch_mb=100,
    )
    job = objects(config)["Job", f"{NAME}-1"]
    pod = job["spec"]["template"]["spec"]
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-queue"
    assert job["metadata"]["labels"]["cost"] == "42"
    assert job["spec"]["template"]["metadata"]["annotations"]["note"] == "x"
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["nodeSelector"] == {"disk": "ssd"}
    assert (pod["priorityClassName"], pod["schedulerName"]) == ("high", "volcano")
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("reader", True)
    assert "runAsUser" not in pod["securityContext"]
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is False
    assert {"name": "scratch", "emptyDir": {"sizeLimit": "100Mi"}} in pod["volumes"]


TEMPLATE = """
spec:
  tolerations: [{key: dedicated, operator: Exists}]
  shareProcessNamespace: null
  containers:
  - name: "*"
    env: [{name: COLOUR, value: red}, {name: MORE, value: x}]
    volumeMounts: [{name: data, mountPath: /data}]
  - name: master
    resources: {limits: {memory: 2Gi}}
  volumes: [{name: data, persistentVolumeClaim: {claimName: data}}]
"""


def test_a_template_is_merged_over_ours(tmp_path):
    (tmp_path / "pod.yaml").write_text(TEMPLATE)
    made = objects(KubernetesConfig(image="i", pod_template=str(tmp_path / "pod.yaml")))
    master, worker = (made["Job", f"{NAME}-{name}"]["spec"]["template"]["spec"] for name in ("master", "1"))
    for pod in (master, worker):
        assert len(pod["containers"]) == 1
        assert "shareProcessNamespace" not in pod
        assert pod["tolerations"][0] == {"key": "dedicated", "operator": "Exists"}
        environment = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
        assert (environment["COLOUR"], environment["MORE"]) == ("red", "x")
        assert environment["TWISTER2_TICKET"]
        assert [mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]][-2:] == ["/tmp", "/data"]
        assert {volume["name"] for volume in pod["volumes"]} >= {"ticket", "scratch", "data"}
    assert master["containers"][0]["resources"]["limits"]["memory"] == "2Gi"
    assert "limits" not in worker["containers"][0]["resources"]


@pytest.mark.parametrize(
    ("own", "stays_s"),
    [
        ("{key: gpu, operator: Exists}", [None, manifests.AWAY_S, manifests.AWAY_S]),
        ("{operator: Exists, effect: NoSchedule}", [None, manifests.AWAY_S, manifests.AWAY_S]),
        (f"{{key: {manifests.AWAY[0]}, operator: Exists, tolerationSeconds: 60}}", [60, manifests.AWAY_S]),
        ("{operator: Exists}", [None]),
    ],
    ids=["another taint", "another effect", "one of them", "all taints"],
)
def test_a_template_with_tolerations_keeps_how_long_a_master_stays_on_a_dead_node(tmp_path, own, stays_s):
    (tmp_path / "pod.yaml").write_text(f"spec: {{tolerations: [{own}]}}")
    made = objects(KubernetesConfig(image="i", pod_template=str(tmp_path / "pod.yaml")))
    master, worker = (made["Job", f"{NAME}-{name}"]["spec"]["template"]["spec"] for name in ("master", "1"))
    assert [each.get("tolerationSeconds") for each in master["tolerations"]] == stays_s
    assert worker["tolerations"] == master["tolerations"][:1]


@pytest.mark.parametrize("text", ["- 1", "spec: [", "kind: Service\nspec: {}\nports: []"])
def test_a_template_that_is_none(tmp_path, text):
    (tmp_path / "pod.yaml").write_text(text)
    with pytest.raises(SubmissionRefusedError, match="pod template"):
        objects(KubernetesConfig(image="i", pod_template=str(tmp_path / "pod.yaml")))
    with pytest.raises(SubmissionRefusedError, match="pod template"):
        objects(KubernetesConfig(image="i", pod_template=str(tmp_path / "absent.yaml")))


def test_without_a_template_nothing_changes():
    pod = {"spec": {"containers": [{"name": "worker"}]}}
    assert merged(pod, {}, "worker") is pod


@given(st.lists(st.integers(0, 40), unique=True))
def test_slots_as_text_and_back(slots):
    assert names.expand(names.compress(slots)) == slots


@pytest.mark.parametrize("slots", [[0], [0, 1, 2], [3, 1], [7, 0, 1, 2, 9], [5, 6, 2]])
def test_a_copy_finds_its_slot(slots):
    for index, slot in enumerate(slots):
        done = subprocess.run(
            ["/bin/sh", "-c", COPY, "twister2-copy", names.compress(slots), "/bin/sh", "-c", "echo $TWISTER2_SLOT"],
            env={"JOB_COMPLETION_INDEX": str(index), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert done.stdout == f"{slot}\n"


def test_names_fit_where_kubernetes_wants_them():
    job_id = "x" * 50
    made = objects(job_id=job_id, name="größe $(x)\n" * 300)
    for (_, name), body in made.items():
        assert len(name + ("-0" if name.endswith("-master") else "-99999")) <= 63
        assert len(body["metadata"]["annotations"][names.TITLE]) <= 1000


@pytest.mark.parametrize(
    ("text", "value"), [("500m", "0.5"), ("2Gi", "2147483648"), ("1e3", "1000"), ("3", "3"), ("4k", "4000")]
)
def test_quantities(text, value):
    assert quota.quantity(text) == quota.Decimal(value)


class OneQuota:
    def __init__(self, hard, **spec):
        self.quotas = [{"metadata": {"name": "small"}, "spec": {"hard": hard, **spec}}]

    def items(self, path):
        assert path.endswith("/resourcequotas")
        return self.quotas


@pytest.mark.parametrize(
    ("hard", "words"),
    [
        ({"pods": "5"}, "pods 6 of 5"),
        ({"requests.cpu": "5"}, "requests.cpu 5.75 of 5"),
        ({"limits.memory": "1Gi"}, "limits.memory 1610612736 of 1Gi"),
        ({"pods": "6", "requests.cpu": "6", "count/jobs.batch": "1"}, ""),
    ],
)
def test_what_a_quota_can_never_give(hard, words):
    jobs = [body for (kind, _), body in objects().items() if kind == "Job"]
    quota.check(OneQuota(hard, scopes=["BestEffort"]), "team-a", jobs)
    if not words:
        quota.check(OneQuota(hard), "team-a", jobs)
        return
    with pytest.raises(ResourcesExceededError) as caught:
        quota.check(OneQuota(hard), "team-a", jobs)
    assert words in str(caught.value)


def test_rights_are_for_one_namespace_and_name_no_more_than_is_used():
    account, role, binding = manifest("team-a")
    assert (account["kind"], role["kind"], binding["kind"]) == ("ServiceAccount", "Role", "RoleBinding")
    verbs = {verb for _, _, verbs in RULES for verb in verbs}
    assert "*" not in verbs
    assert not {"nodes", "namespaces", "roles"} & {resource for _, resource, _ in RULES}
