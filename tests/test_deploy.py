"""The launch files: their fields are those of the programs that read them, their scripts run, and their commands parse.

The fields are written down here as far as the files use them, from the public interfaces: Kubernetes batch/v1, Kubeflow's
trainer.kubeflow.org/v1alpha1 and SkyPilot's tasks.
"""

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from langevin.cli.parse import parse
from langevin.cli.verbs import Generate, Resume, Train

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
TEXT, NUMBER, FLAG, TABLE = str, int, bool, dict
SECURITY = {"runAsNonRoot": FLAG, "runAsUser": NUMBER, "fsGroup": NUMBER, "seccompProfile": {"type": TEXT}}
VOLUME = {"name!": TEXT, "persistentVolumeClaim": {"claimName!": TEXT, "readOnly": FLAG}, "emptyDir": TABLE}
MOUNT = {"name!": TEXT, "mountPath!": TEXT, "readOnly": FLAG}
RESOURCES = {"requests": TABLE, "limits": TABLE}
METADATA = {"name": TEXT, "labels": TABLE}
JOB = {
    "apiVersion!": "batch/v1",
    "kind!": "Job",
    "metadata!": METADATA,
    "spec!": {
        "completionMode": "Indexed",
        "completions": NUMBER,
        "parallelism": NUMBER,
        "backoffLimitPerIndex": NUMBER,
        "ttlSecondsAfterFinished": NUMBER,
        "template!": {
            "metadata": METADATA,
            "spec!": {
                "restartPolicy!": "Never",  # that backoffLimitPerIndex needs
                "terminationGracePeriodSeconds": NUMBER,
                "securityContext": SECURITY,
                "containers!": [
                    {
                        "name!": TEXT,
                        "image": TEXT,
                        "command": [TEXT],
                        "securityContext": {
                            "readOnlyRootFilesystem": FLAG,
                            "allowPrivilegeEscalation": FLAG,
                            "capabilities": {"drop": [TEXT]},
                        },
                        "resources": RESOURCES,
                        "volumeMounts": [MOUNT],
                    }
                ],
                "volumes": [VOLUME],
            },
        },
    },
}
POD = {"securityContext": SECURITY, "volumes": [VOLUME], "containers": [{"name!": TEXT, "volumeMounts": [MOUNT]}]}
TRAIN_JOB = {
    "apiVersion!": "trainer.kubeflow.org/v1alpha1",
    "kind!": "TrainJob",
    "metadata!": METADATA,
    "spec!": {
        "runtimeRef!": {"name!": TEXT},
        "trainer": {
            "image": TEXT,
            "numNodes": NUMBER,
            "numProcPerNode": NUMBER,
            "resourcesPerNode": RESOURCES,
            "command": [TEXT],
            "args": [TEXT],
        },
        "runtimePatches": [
            {
                "manager!": TEXT,
                "trainingRuntimeSpec": {
                    "template": {
                        "spec": {
                            "replicatedJobs": [{"name!": "node", "template": {"spec": {"template": {"spec": POD}}}}]
                        }
                    }
                },
            }
        ],
    },
}
TASK = {
    "name": TEXT,
    "num_nodes": NUMBER,
    "resources": {
        "accelerators": TEXT,
        "use_spot": FLAG,
        "job_recovery": {"strategy": TEXT, "max_restarts_on_errors": NUMBER},
    },
    "envs": TABLE,
    "volumes": TABLE,
    "workdir": TEXT,
    "setup": TEXT,
    "run": TEXT,
}
FORMS = {"kubernetes-generate.yaml": JOB, "kubeflow-trainjob.yaml": TRAIN_JOB, "skypilot.yaml": TASK}


def faults(thing, form, at=""):
    """What of a document is not of a form: a name with ! is needed, a string is a value, a list is of its one element."""
    match form:
        case dict():
            if not isinstance(thing, dict):
                return [f"{at}: no mapping"]
            known = {name.rstrip("!"): part for name, part in form.items()}
            missing = [name.rstrip("!") for name in form if name.endswith("!") and name.rstrip("!") not in thing]
            unknown = [name for name in thing if name not in known]
            inner = [f for n, part in thing.items() if n in known for f in faults(part, known[n], f"{at}.{n}")]
            return [f"{at}.{n}: missing" for n in missing] + [f"{at}.{n}: unknown" for n in unknown] + inner
        case list():
            if not isinstance(thing, list):
                return [f"{at}: no list"]
            return [f for i, part in enumerate(thing) for f in faults(part, form[0], f"{at}[{i}]")]
        case str():
            return [] if thing == form else [f"{at}: {thing!r}, not {form!r}"]
        case _:
            return [] if type(thing) is form else [f"{at}: {thing!r} is no {form.__name__}"]


def read(name):
    return yaml.safe_load((DEPLOY / name).read_text())


@pytest.mark.parametrize("name", FORMS)
def test_the_fields_of_a_file_are_those_of_its_interface(name):
    assert faults(read(name), FORMS[name]) == []


def test_a_wrong_field_value_and_type_and_a_missing_one_are_found():
    job = read("kubernetes-generate.yaml")
    job["spec"]["completion"] = job["spec"].pop("completions")
    job["spec"]["parallelism"] = "16"
    job["spec"]["template"]["spec"]["restartPolicy"] = "Always"
    del job["spec"]["template"]["spec"]["containers"][0]["name"]
    assert [fault.partition(":")[0].rpartition(".")[2] for fault in faults(job, JOB)] == [
        "completion", "parallelism", "restartPolicy", "name",
    ]  # fmt: skip


def test_the_shares_of_the_indexed_job_are_its_completions():
    spec = read("kubernetes-generate.yaml")["spec"]
    words = spec["template"]["spec"]["containers"][0]["command"]
    assert words[0] == "langevin"
    args = parse(words[1:]).args
    assert isinstance(args, Generate)
    assert (args.of, args.index, args.count) == (spec["completions"], None, 1_000_000)
    mounts = [mount["mountPath"] for mount in spec["template"]["spec"]["containers"][0]["volumeMounts"]]
    assert all(any(str(path).startswith(mount + "/") for mount in mounts) for path in (args.run, args.out))


def test_volumes_that_are_mounted_are_there():
    pods = [read("kubernetes-generate.yaml")["spec"]["template"]["spec"]]
    patch = read("kubeflow-trainjob.yaml")["spec"]["runtimePatches"][0]["trainingRuntimeSpec"]
    pods += [job["template"]["spec"]["template"]["spec"] for job in patch["template"]["spec"]["replicatedJobs"]]
    for pod in pods:
        assert {v["name"] for v in pod["volumes"]} == {m["name"] for c in pod["containers"] for m in c["volumeMounts"]}


# -------------------------------------------------------------------------------------------------------------- scripts

STUBS = {
    "srun": """
while [ "${1#-}" != "$1" ]; do shift; done
BATCH=$PPID "$@" &
echo $! > "$SAID.step"
trap 'kill -KILL $(cat "$SAID.step")' TERM  # as srun does
wait $!
""",
    "scontrol": 'echo "$@" >> "$SAID"; if [ "$1" = show ]; then printf "one\\ntwo\\n"; fi',
    "torchrun": """
printf "%s\\n" "$@" > "$GIVEN"
if [ "$STATUS" = late ]; then
  kill -USR1 $BATCH
  for _ in $(seq 400); do
    if [ -e runs/photos/requests/stop ]; then echo saved >> "$SAID"; exit 1; fi
    sleep 0.05
  done
fi
exit "${STATUS:-0}\"""",
    "langevin": 'printf "%s\\n" "$@" > "$GIVEN"',
}
SLURM = {"SLURM_JOB_NODELIST": "[one-two]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
SKY = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_GPUS_PER_NODE": "8",
       "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2"}  # fmt: skip


@pytest.fixture
def bash(tmp_path):
    """Run a script with stubs of the programs of a cluster: returns its status and the words that were given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, body in STUBS.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(stat.S_IRWXU)

    def run(script, *arguments, **variables):
        given = tmp_path / "given"
        given.unlink(missing_ok=True)
        assert subprocess.run(["bash", "-n", "-c", script]).returncode == 0
        own = {"PATH": f"{folder}:{os.environ['PATH']}", "GIVEN": str(given), "SAID": str(tmp_path / "said")}
        done = subprocess.run(
            ["bash", "-c", script, "script", *arguments], cwd=tmp_path, env=os.environ | own | variables
        )
        return done.returncode, given.read_text().splitlines()

    return run


def scripts():
    """Each script that trains, with its arguments and variables."""
    trainer = read("kubeflow-trainjob.yaml")["spec"]["trainer"]
    assert trainer["command"][0] == "bash"
    return {
        "slurm.sbatch": ((DEPLOY / "slurm.sbatch").read_text(), ["photos", "runs/photos", "training.steps=10"], SLURM),
        "skypilot.yaml": (read("skypilot.yaml")["run"], [], SKY | {"DATA": "photos", "RUN": "runs/photos"}),
        "kubeflow-trainjob.yaml": (trainer["args"][0].replace("/shared/", ""), [], {}),
    }


@pytest.mark.parametrize("name", ["slurm.sbatch", "skypilot.yaml", "kubeflow-trainjob.yaml"])
def test_a_script_trains_and_once_there_is_a_run_resumes(name, bash, tmp_path):
    script, arguments, variables = scripts()[name]
    status, words = bash(script, *arguments, **variables)
    assert status == 0
    at = words.index("-m")
    assert words[at : at + 2] == ["-m", "langevin"]
    args = parse(words[at + 2 :]).args
    assert isinstance(args, Train)
    assert (args.target, str(args.out)) == ("photos", "runs/photos")
    (tmp_path / "runs" / "photos").mkdir(parents=True)
    (tmp_path / "runs" / "photos" / "recipe.yaml").touch()
    status, words = bash(script, *arguments, **variables)
    again = parse(words[words.index("-m") + 2 :]).args
    assert isinstance(again, Resume)
    assert str(again.run) == "runs/photos"


def test_torchrun_takes_the_options_that_scripts_give_it():
    taken = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--help"], capture_output=True, text=True, check=True
    ).stdout
    text = "\n".join(
        line for script, *_ in scripts().values() for line in script.splitlines() if not line.startswith("#")
    )
    options = set(re.findall(r"(?<= )--(?!kill|out)[a-z-]+", text))
    assert {"--nnodes", "--nproc-per-node", "--rdzv-endpoint"} <= options
    assert [option for option in sorted(options) if option not in taken] == []


def test_a_slurm_job_whose_time_is_up_is_queued_again_and_one_that_failed_is_not(bash, tmp_path):
    script, arguments, variables = scripts()["slurm.sbatch"]
    assert bash(script, *arguments, **variables, STATUS="1")[0] == 1
    assert "requeue" not in (tmp_path / "said").read_text()
    (tmp_path / "runs" / "photos").mkdir(parents=True)
    (tmp_path / "runs" / "photos" / "recipe.yaml").touch()
    assert bash(script, *arguments, **variables, STATUS="late")[0] != 0
    assert (tmp_path / "said").read_text().splitlines()[-2:] == ["saved", "requeue 7"]


def test_a_slurm_array_generates(bash):
    status, words = bash(
        (DEPLOY / "slurm-generate.sbatch").read_text(), "runs/photos", "samples", "1000000", "--steps", "20"
    )
    assert status == 0
    args = parse(words).args
    assert isinstance(args, Generate)
    assert (str(args.run), str(args.out), args.count, args.steps) == ("runs/photos", "samples", 1_000_000, 20)


@pytest.mark.parametrize("name", ["slurm.sbatch", "slurm-generate.sbatch"])
def test_options_of_sbatch_come_before_its_first_command(name):
    lines = (DEPLOY / name).read_text().splitlines()
    assert lines[0] == "#!/bin/bash"
    first = next(i for i, line in enumerate(lines) if line and not line.startswith("#"))
    assert all(i < first for i, line in enumerate(lines) if line.startswith("#SBATCH"))
    for line in lines[1:]:
        if line.startswith("#   sbatch"):  # the command in its head names this file
            assert f"deploy/{name}" in shlex.split(line.removeprefix("#"))
