"""Objects from files: what is read, what is skipped, and every fault with its file and line."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from libskylark.errors import DocumentError
from libskylark.eventing.loading import Objects, load_objects
from libskylark.eventing.retry import RetryPolicy

TRIGGER = """\
apiVersion: eventing.knative.dev/v1
kind: Trigger
metadata:
  name: detect
  labels: {app: firewatch}
spec:
  broker: default
  filter:
    attributes: {type: dev.skylark.frame.captured}
  subscriber:
    ref: {apiVersion: v1, kind: Service, name: pi5u4-detect}
"""
BROKER = """\
apiVersion: eventing.knative.dev/v1
kind: Broker
metadata:
  name: default
  annotations: {eventing.knative.dev/broker.class: MTChannelBasedBroker}
spec:
  config: {apiVersion: v1, kind: ConfigMap, name: config-br, namespace: knative-eventing}
  delivery: {retry: 3, backoffPolicy: linear, backoffDelay: PT1S, timeout: PT5S}
"""
PING = """\
apiVersion: sources.knative.dev/v1
kind: PingSource
metadata: {name: tick, namespace: default}
spec:
  schedule: "*/10 * * * * *"
  contentType: application/json
  data: '{}'
  sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}
"""
EXPIRY_FAULT = "spec.ceOverrides.extensions.expirytime: found 'soon', expected an RFC 3339 time with its zone"


def faults_of(folder: Path) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load_objects([folder])
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def told_by(objects: Objects, folder: Path) -> list[str]:
    return [str(each).replace(f"{folder}/", "") for each in objects.notices]


def test_folders_are_read_recursively_and_other_kinds_skipped(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "broker.yaml").write_text(BROKER)
    (tmp_path / "deep" / "trigger.yml").write_text(f"{TRIGGER}---\n{PING}---\napiVersion: v1\nkind: ConfigMap\n")
    (tmp_path / "kustomization.yaml").write_text("resources: [broker.yaml]\n")
    (tmp_path / "notes.txt").write_text("no YAML: [")
    objects = load_objects([tmp_path])
    assert [*objects.brokers] == ["default/default"]
    assert [*objects.ping_sources] == ["default/tick"]
    trigger = objects.triggers["default/detect"]
    assert (trigger.file, trigger.line) == (str(tmp_path / "deep" / "trigger.yml"), 1)
    assert trigger.object.spec.subscriber.ref is not None
    assert trigger.object.spec.subscriber.ref.name == "pi5u4-detect"


def test_a_broker_is_implied_where_no_file_has_one(tmp_path: Path) -> None:
    (tmp_path / "trigger.yaml").write_text(TRIGGER)
    objects = load_objects([tmp_path])
    assert [*objects.brokers] == ["default/default"]
    assert objects.brokers["default/default"].line == 0


def test_a_broker_of_another_class_is_left_to_its_engine_unless_it_is_faulty(tmp_path: Path) -> None:
    kafka = BROKER.replace("MTChannelBasedBroker", "Kafka").replace("retry: 3", "retry: 4")
    rabbitmq = "apiVersion: eventing.knative.dev/v1alpha1\nkind: RabbitmqBrokerConfig\nmetadata: {name: x}\n"
    (tmp_path / "a.yaml").write_text(f"{kafka}---\n{rabbitmq}")
    (tmp_path / "b.yaml").write_text(BROKER)
    delivery = load_objects([tmp_path]).brokers["default/default"].object.delivery
    assert delivery is not None
    assert delivery.retry == 3
    (tmp_path / "a.yaml").write_text(kafka.replace("PT1S", "1s"))
    (fault,) = faults_of(tmp_path)
    assert fault.startswith("a.yaml:8: spec.delivery.backoffDelay: found '1s'")


def test_triggers_and_ping_sources_of_a_broker_of_another_class_are_left_to_its_engine(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{TRIGGER}---\n{PING}")
    (tmp_path / "b.yaml").write_text(BROKER.replace("MTChannelBasedBroker", "Kafka"))
    objects = load_objects([tmp_path])
    assert (objects.brokers, objects.triggers, objects.ping_sources) == ({}, {}, {})
    assert objects.foreign == {"default/default": "Kafka"}
    assert told_by(objects, tmp_path) == [
        "b.yaml:5: metadata.annotations.eventing.knative.dev/broker.class: a Broker of class 'Kafka', "
        "which is not served here",
        "a.yaml:7: spec.broker: Broker default/default is of class 'Kafka', which is not served here",
        "a.yaml:20: spec.sink.ref.name: Broker default/default is of class 'Kafka', which is not served here",
    ]


def test_what_is_served_here_cannot_lead_to_a_broker_of_another_class(tmp_path: Path) -> None:
    far = BROKER.replace("MTChannelBasedBroker", "Kafka").replace("name: default", "name: far")
    sink = "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: far}}"
    (tmp_path / "a.yaml").write_text(f"{far}---\n{BROKER}---\n{TRIGGER}  delivery: {{deadLetterSink: {sink}}}\n")
    assert faults_of(tmp_path) == [
        "a.yaml:30: spec.delivery.deadLetterSink.ref.name: Broker default/far is of class 'Kafka', "
        "which is not served here"
    ]
    (tmp_path / "a.yaml").write_text(f"{far}---\n{TRIGGER}")
    assert faults_of(tmp_path) == ["a.yaml:16: spec.broker: no file defines Broker default/default; defined are none"]


def test_the_items_of_a_list_are_objects(tmp_path: Path) -> None:
    items = "".join("- " + text.replace("\n", "\n  ").rstrip(" ") for text in (BROKER, TRIGGER, PING))
    (tmp_path / "list.yaml").write_text(f"apiVersion: v1\nkind: List\nitems:\n{items}")
    objects = load_objects([tmp_path])
    assert [*objects.brokers, *objects.triggers, *objects.ping_sources] == [
        "default/default",
        "default/detect",
        "default/tick",
    ]
    assert objects.triggers["default/detect"].line == 12
    (tmp_path / "list.yaml").write_text("apiVersion: v1\nkind: List\nitems:\n- kind: Trigger\n")
    assert faults_of(tmp_path) == ["list.yaml:4: apiVersion: is required"]
    (tmp_path / "list.yaml").write_text("apiVersion: v1\nkind: List\nitems:\n- Trigger\n")
    assert faults_of(tmp_path) == ["list.yaml:4: items[0]: found 'Trigger', expected an object"]
    (tmp_path / "list.yaml").write_text("apiVersion: v1\nkind: List\n")
    assert faults_of(tmp_path) == ["list.yaml:1: items: found None, expected a list of objects"]


def test_what_cannot_be_looked_at_is_a_fault_and_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.yaml").write_text(BROKER)
    (tmp_path / "t.yaml").symlink_to("gone/t.yaml")
    (tmp_path / ".#b.yaml").symlink_to("somebody@edits.it")
    (tmp_path / "closed").mkdir()

    scandir_of_os = os.scandir

    def scandir(path: str) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir_of_os(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert faults_of(tmp_path) == [
        "closed: cannot be read: Permission denied",
        "t.yaml: is a link that leads to no file",
    ]


@pytest.mark.parametrize(
    ("delivery", "fault"),
    [
        ("timeout: PT0.05S", "expected a duration above zero, of which Knative counts one decimal"),
        ("timeout: -PT1S", "expected a duration above zero"),
        ("timeout: P4000Y", "expected an ISO 8601 duration of 3276 years at most"),
        ("retryAfterMax: -PT1S", "expected a duration of zero or more"),
    ],
)
def test_durations_that_a_cluster_refuses(tmp_path: Path, delivery: str, fault: str) -> None:
    (tmp_path / "t.yaml").write_text(TRIGGER + f"  delivery: {{{delivery}}}\n")
    (told,) = faults_of(tmp_path)
    assert told.endswith(fault)


def test_durations_of_which_a_cluster_counts_less_are_noticed(tmp_path: Path) -> None:
    delivery = "retry: 1, timeout: PT1.25S, backoffDelay: -PT0.50S, retryAfterMax: P1Y"
    (tmp_path / "t.yaml").write_text(TRIGGER + f"  delivery: {{{delivery}}}\n")
    objects = load_objects([tmp_path])
    policy = RetryPolicy.of(objects.triggers["default/detect"].object.spec.delivery)
    assert (policy.timeout_s, policy.retry_after_max_s) == (1.25, 31556952)
    assert [policy.delay_s(failures) for failures in (1, 2)] == [0, 0]
    assert told_by(objects, tmp_path) == [
        "t.yaml:12: spec.delivery.timeout: found 'PT1.25S', of which a cluster counts PT1.2S; here it counts whole"
    ]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("filters: [{}]", ["filters[0]: found {}, which filters nothing"]),
        (
            "filters: [{exact: {}, suffix: {type: a}}, {not: {cesql: ''}}, {any: [{all: []}, {prefix: {type: a}}]}]",
            [
                "filters[1].not: found {'cesql': ''}, which filters nothing",
                "filters[2].any[0]: found {'all': []}, which filters nothing",
            ],
        ),
        (
            "filters: [{all: [{cesql: 'FOO(1) OR NOT (ABS(foo(2)) IN (1, LOWER()))'}]}]",
            [
                f"filters[0].all[0].cesql: found 'FOO(1) OR NOT (ABS(foo(2)) IN (1, LOWER()))', "
                f"which takes no event where it comes to {function}: there is no such function"
                for function in ("FOO of 1 argument", "LOWER of 0 arguments")
            ],
        ),
    ],
)
def test_filters_that_say_something_in_vain_are_noticed(tmp_path: Path, lines: str, told: list[str]) -> None:
    without = TRIGGER.replace("  filter:\n    attributes: {type: dev.skylark.frame.captured}\n", "")
    (tmp_path / "t.yaml").write_text(f"{without}  {lines}\n")
    assert told_by(load_objects([tmp_path]), tmp_path) == [f"t.yaml:10: spec.{line}" for line in told]


def test_a_filter_beside_filters_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(TRIGGER + "  filters: [{exact: {type: a}}]\n")
    assert told_by(load_objects([tmp_path]), tmp_path) == [
        "t.yaml:9: spec.filter.attributes: found {'type': 'dev.skylark.frame.captured'}, "
        "which counts for nothing beside filters"
    ]


def test_a_document_that_is_nested_too_deep_is_told_plainly(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("a: " + "[" * 500 + "]" * 500)
    assert faults_of(tmp_path) == ["t.yaml: not YAML that can be read: it is nested too deep"]


def test_pauses_between_retries_that_there_are_none_of_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(TRIGGER + "  delivery: {timeout: PT1S, backoffDelay: PT1S}\n")
    assert told_by(load_objects([tmp_path]), tmp_path) == [
        "t.yaml:12: spec.delivery.backoffDelay: found 'PT1S' without retry, "
        "and a delivery without it is tried once only"
    ]


def test_every_fault_of_every_file_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        TRIGGER.replace("name: detect\n", "name: De_tect\n")
        .replace("broker: default", "broker: ''")
        .replace("filter:\n    attributes: {type: dev.skylark.frame.captured}", "filtre: {}")
    )
    (tmp_path / "b.yaml").write_text(BROKER.replace("retry: 3", "retry: '3'").replace("PT1S", "1s"))
    (tmp_path / "c.yaml").write_text("kind: [Trigger\n")
    assert faults_of(tmp_path) == [
        "a.yaml:4: metadata.name: found 'De_tect': expected a DNS-1123 name: lower-case letters, digits, '-' and '.'",
        "a.yaml:7: spec.broker: found '': is required",
        "a.yaml:8: spec.filtre: unknown field",
        "b.yaml:8: spec.delivery.retry: found '3': Input should be a valid integer",
        "b.yaml:8: spec.delivery.backoffDelay: found '1s': expected an ISO 8601 duration such as PT0.2S, "
        "PT1M or P1DT12H",
        "c.yaml:2: not YAML: expected ',' or ']', but got '<stream end>'",
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "filters: [{exact: {Type: a}}]",
            "filters[0].exact.Type: found 'Type': attribute names are lower-case letters and digits",
        ),
        ("filters: [{exact: {type: ''}}]", "should have at least 1 character"),
        ("filters: [{exact: {type: a}, prefix: {type: b}}]", "found exact, prefix"),
        ("filters: [{all: [{not: {}, suffix: {type: a}}]}]", "found not, suffix"),
        (
            'filters: [{cesql: "type = \'a"}]',
            'spec.filters[0].cesql: found "type = \'a": at character 8: found "\'a", a string that does not end',
        ),
        ("filters: [{any: [{cesql: ' '}]}]", "at character 2: found the end, expected a value"),
        ("filters: [{cesql: 5}]", "found 5: Input should be a valid string"),
        ("filters: [{cesql: 'TRUE', exact: {type: a}}]", "found cesql, exact"),
        ("filters: [{exact: {skylarkepoch: 5}}]", "found 5: Input should be a valid string"),
        ("filters: [{regex: {type: a}}]", "spec.filters[0].regex: unknown field"),
        ("delivery: {retry: -1}", "greater than or equal to 0"),
        ("delivery: {backoffPolicy: cubic}", "'linear' or 'exponential'"),
        ("delivery: {timeout: PT0S}", "expected a duration above zero"),
        ("delivery: {retry: 2147483648}", "less than or equal to 2147483647"),
        ("delivery: {retryAfterMax: 5s}", "expected an ISO 8601 duration"),
        ("delivery: {deadLetterSink: {ref: {kind: Service, name: x}}}", "ref.apiVersion: is required"),
        (
            "delivery: {deadLetterSink: {ref: {apiVersion: v1, kind: Service, name: x, group: y}}}",
            "group: unknown field",
        ),
        ("delivery: {deadLetterSink: {ref: {apiVersion: v1, kind: Service, name: ''}}}", "at least 1 character"),
        ("brokerRef: {name: 5}", "spec.brokerRef.name: found 5: Input should be a valid string"),
        ("brokerRef: {title: x}", "spec.brokerRef.title: unknown field"),
        ("filters: [{exact: {1type: a}}]", "found '1type': in a filter, the name of an attribute begins with a letter"),
        ("delivery: {deadLetterSink: {}}", "expected ref or uri"),
        ("delivery: {deadLetterSink: {uri: /dead}}", "a relative uri needs a ref beside it"),
        ("delivery: {deadLetterSink: {uri: 'ftp://x/'}}", "expected http:// or https:// and a host"),
    ],
)
def test_a_faulty_line_of_a_trigger_is_told(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "t.yaml").write_text(TRIGGER + f"  {lines}\n")
    (fault,) = faults_of(tmp_path)
    assert fault.startswith("t.yaml:12: spec.")
    assert message in fault


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ('"*/10 * * * * *"', '"* * *"', 5, "expected 5 fields, or 6 with the seconds first"),
        ('"*/10 * * * * *"', '"61 * * * *"', 5, "not a cron schedule"),
        ('"*/10 * * * * *"', '"0 0 30 2 *"', 5, "not a cron schedule"),
        ('"*/10 * * * * *"', '"0 0 * * 7"', 5, "found '7' for days of the week, which go from 0 to 6"),
        ('"*/10 * * * * *"', '"0 22-4 * * *"', 5, "found '22-4' for hours, which go from 0 to 23"),
        ('"*/10 * * * * *"', '"0 0 * * 1#2"', 5, "found '1#2' for days of the week"),
        ('"*/10 * * * * *"', '"0 0 L * *"', 5, "found 'L' for days of the month"),
        ('"*/10 * * * * *"', '"*/0 * * * *"', 5, "found '*/0' for minutes"),
        ('"*/10 * * * * *"', '"@every 5m"', 5, "expected one of @annually, @daily"),
        ("  data: '{}'", "  data: '[1]'", 7, "found '[1]': of application/json, Knative takes a JSON object only"),
        ("  data: '{}'", "  dataBase64: e3s=", 7, "of application/json, Knative takes a JSON object only"),
        ("namespace: default}", "namespace: a.b}", 3, "found 'a.b': expected a DNS-1123 label"),
        ("namespace: default}", "nmespace: default}", 3, "metadata.nmespace: unknown field"),
        ("namespace: default}", "labels: {app: 'a b'}}", 3, "metadata.labels.app: found 'a b': expected letters"),
        ("namespace: default}", "labels: {a b: c}}", 3, "found 'a b': a key is a name of 63 characters at most"),
        ("namespace: default}", "annotations: {a/b/c: d}}", 3, "found 'a/b/c': a key is a name"),
        ("namespace: default}", "annotations: {a: 5}}", 3, "found 5: Input should be a valid string"),
        (
            "namespace: default}",
            "annotations: {skylark.dev/x: y}}",
            3,
            "unknown annotation; known of this kind is none",
        ),
        ("  data: '{}'", "  data: '{}'\n  dataBase64: e30=", 4, "found data and dataBase64; expected one of them"),
        ("  data: '{}'", "  dataBase64: '*'", 7, "is not base64"),
        ("  data: '{}'", "  timezone: Mars/Olympus", 7, "expected a time zone of the IANA list"),
        ("  data: '{}'", "  ceOverrides: {extensions: {type: x}}", 7, "which is no extension attribute"),
        ("  data: '{}'", "  ceOverrides:\n    extensions:\n      a: b\n      expirytime: soon", 10, EXPIRY_FAULT),
        (
            "  data: '{}'",
            "  ceOverrides:\n    extensions: {knativebrokerttl: many}",
            8,
            "spec.ceOverrides.extensions.knativebrokerttl: found 'many', expected a whole number",
        ),
        ("  data: '{}'", "  ceOverrides: {extensions: {knativebrokerttl: '0'}}", 7, "found 0: the event has been"),
        ("  data: '{}'", '  ceOverrides: {extensions: {a: "b\\nc"}}', 7, "extensions.a: found the character U+000A"),
        ("  data: '{}'", "  ceOverrides: {extensions: {subject: ''}}", 7, "extensions.subject: "),
        ("application/json", "bübchen", 6, "spec.contentType: found 'bübchen', expected ASCII"),
        ("name: default}}", "name: other}}", 8, "no file defines Broker default/other; defined are default/default"),
        ("  sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}\n", "", 4, "is required"),
        ("kind: PingSource", "kind: PingSauce", 2, "found 'PingSauce', expected one of"),
        ("sources.knative.dev/v1", "sources.knative.dev/v1beta2", 1, "expected 'sources.knative.dev/v1'"),
    ],
)
def test_a_faulty_line_of_a_ping_source_is_told(
    tmp_path: Path, before: str, after: str, line: int, message: str
) -> None:
    (tmp_path / "p.yaml").write_text(PING.replace(before, after))
    (fault,) = faults_of(tmp_path)
    assert fault.startswith(f"p.yaml:{line}: ")
    assert message in fault


def test_two_objects_of_one_name_and_an_unknown_broker_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BROKER)
    (tmp_path / "b.yaml").write_text(BROKER)
    assert faults_of(tmp_path) == [
        f"b.yaml:4: metadata.name: Broker default/default is already defined in {tmp_path}/a.yaml:1".replace(
            f"{tmp_path}/", ""
        )
    ]
    (tmp_path / "b.yaml").write_text(TRIGGER.replace("broker: default", "broker: other"))
    assert faults_of(tmp_path) == [
        "b.yaml:7: spec.broker: no file defines Broker default/other; defined are default/default"
    ]


def test_a_missing_file_and_a_document_without_kind_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("metadata: {name: x}\n")
    with pytest.raises(DocumentError) as caught:
        load_objects([tmp_path / "none", tmp_path / "x.yaml"])
    assert str(caught.value).replace(f"{tmp_path}/", "").splitlines() == [
        "none: no such file or folder",
        "x.yaml:1: apiVersion: is required",
        "x.yaml:1: kind: is required",
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("skylark.dev/duplicate-window", "ten minutes", "found 'ten minutes': expected an ISO 8601 duration"),
        ("skylark.dev/duplicate-window", "PT0S", "found 'PT0S': expected a duration above zero"),
        ("skylark.dev/duplicate-window", "P1DT1S", "found 'P1DT1S': expected P1D at most"),
        ("skylark.dev/window", "PT1M", "unknown annotation; known of this kind is skylark.dev/duplicate-window"),
    ],
)
def test_a_faulty_annotation_of_a_broker_is_told(tmp_path: Path, key: str, value: str, message: str) -> None:
    (tmp_path / "b.yaml").write_text(
        BROKER.replace("{eventing.knative.dev/broker.class: MTChannelBasedBroker}", f"{{{key}: {value}}}")
    )
    (fault,) = faults_of(tmp_path)
    assert fault.startswith(f"b.yaml:5: metadata.annotations.{key}: {message}")


@pytest.mark.parametrize(("value", "window_s"), [("PT10M", 600.0), ("P1D", 86400.0), ("PT0.5S", 0.5)])
def test_the_duplicate_window_of_a_broker(tmp_path: Path, value: str, window_s: float) -> None:
    (tmp_path / "b.yaml").write_text(
        BROKER.replace(
            "eventing.knative.dev/broker.class: MTChannelBasedBroker", f"skylark.dev/duplicate-window: {value}"
        )
    )
    assert load_objects([tmp_path]).brokers["default/default"].object.duplicate_window_s == window_s


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("eventing.knative.dev/injection: 'yes'", "found 'yes', expected 'enabled' or 'disabled'"),
        ("knative.dev/dependency: ping", "found 'ping', expected a JSON object with kind, name and apiVersion"),
        ('knative.dev/dependency: \'{"kind": "PingSource"}\'', "without name, apiVersion"),
        (
            'knative.dev/dependency: \'{"kind": "A", "name": "b", "apiVersion": "v1", "namespace": "x"}\'',
            "the namespace must be 'default', the Trigger's",
        ),
    ],
)
def test_a_faulty_annotation_of_a_trigger_is_told(tmp_path: Path, annotation: str, message: str) -> None:
    (tmp_path / "t.yaml").write_text(TRIGGER.replace("labels: {app: firewatch}", f"annotations: {{{annotation}}}"))
    (fault,) = faults_of(tmp_path)
    assert fault.startswith("t.yaml:5: metadata.annotations.")
    assert message in fault


def test_injection_is_for_the_default_broker_only(tmp_path: Path) -> None:
    text = TRIGGER.replace("labels: {app: firewatch}", "annotations: {eventing.knative.dev/injection: enabled}")
    (tmp_path / "t.yaml").write_text(text.replace("broker: default", "broker: other"))
    (fault,) = faults_of(tmp_path)
    assert "is for Broker default only; spec.broker is 'other'" in fault


@pytest.mark.parametrize("schedule", ["@daily", "0 0 * JAN-mar mon,5", "*/15 0-8/2 ? * *", "0 */5 * * * *"])
def test_schedules_that_knative_takes(tmp_path: Path, schedule: str) -> None:
    (tmp_path / "p.yaml").write_text(PING.replace("*/10 * * * * *", schedule))
    assert load_objects([tmp_path]).ping_sources["default/tick"].object.spec.schedule == schedule


@pytest.mark.parametrize("zone", ["CRON_TZ=Europe/Berlin", "TZ=Europe/Berlin "])
def test_a_zone_before_a_schedule_is_its_timezone(tmp_path: Path, zone: str) -> None:
    (tmp_path / "p.yaml").write_text(PING.replace("*/10 * * * * *", f"{zone} 0 8 * * *"))
    spec = load_objects([tmp_path]).ping_sources["default/tick"].object.spec
    assert (spec.timezone, spec.schedule) == ("Europe/Berlin", "0 8 * * *")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("schedule: CRON_TZ=Mars/Base 0 8 * * *", "expected a time zone of the IANA list"),
        ("schedule: CRON_TZ=UTC 0 8 * * *\n  timezone: UTC", "found 'CRON_TZ=UTC' for seconds"),
    ],
)
def test_a_zone_before_a_schedule_may_be_wrong(tmp_path: Path, fields: str, message: str) -> None:
    (tmp_path / "p.yaml").write_text(PING.replace('schedule: "*/10 * * * * *"', fields))
    (fault,) = faults_of(tmp_path)
    assert fault.startswith("p.yaml:")
    assert message in fault


def test_what_has_no_meaning_here_is_accepted_and_noticed(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(BROKER + "status: {address: {url: 'http://broker/'}}\n")
    subscriber = (
        "ref: {apiVersion: v1, kind: Service, name: pi5u4-detect, namespace: far}\n    CACerts: none\n    audience: x"
    )
    trigger = TRIGGER.replace("ref: {apiVersion: v1, kind: Service, name: pi5u4-detect}", subscriber)
    (tmp_path / "t.yaml").write_text(trigger + "  brokerRef: {name: default, namespace: far}\n")
    (tmp_path / "x.yaml").write_text(
        "apiVersion: eventing.knative.dev/v1\nkind: EventType\n---\napiVersion: v1\nkind: Secret\n"
    )
    told = told_by(load_objects([tmp_path]), tmp_path)
    assert [line.removesuffix(", which has no meaning in the embedded broker") for line in told] == [
        "b.yaml:9: status: found {'address': {'url': 'http://broker/'}}",
        "b.yaml:7: spec.config: found {'apiVersion': 'v1', 'kind': 'ConfigMap', "
        "'name': 'config-br', 'namespace': 'kna...",
        "b.yaml:5: metadata.annotations.eventing.knative.dev/broker.class: found 'MTChannelBasedBroker'",
        "t.yaml:14: spec.brokerRef: found {'name': 'default', 'namespace': 'far'}",
        "t.yaml:12: spec.subscriber.CACerts: found 'none'",
        "t.yaml:13: spec.subscriber.audience: found 'x'",
        "t.yaml:11: spec.subscriber.ref.namespace: found 'far'",
        "x.yaml:2: kind: found 'EventType'",
        "x.yaml:5: kind: found 'Secret'",
    ]


def test_what_kubernetes_exports_is_no_fault(tmp_path: Path) -> None:
    exported = (
        "name: default\n  uid: 5f\n  generation: 1\n  creationTimestamp: 2026-11-24T12:00:00Z\n  resourceVersion: '5'"
    )
    (tmp_path / "b.yaml").write_text(BROKER.replace("name: default", exported))
    assert [*load_objects([tmp_path]).brokers] == ["default/default"]


def test_a_backoff_may_be_nothing_and_durations_may_have_a_comma(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(TRIGGER + '  delivery: {backoffDelay: PT0S, timeout: "PT0,5S"}\n')
    delivery = load_objects([tmp_path]).triggers["default/detect"].object.spec.delivery
    assert RetryPolicy.of(delivery).backoff_s == 0
    assert RetryPolicy.of(delivery).timeout_s == 0.5


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    for name in ("..2026/t.yaml", ".t.yaml", "t.yaml"):
        (tmp_path / name).write_text(TRIGGER)
    assert load_objects([tmp_path]).triggers["default/detect"].file == str(tmp_path / "t.yaml")
