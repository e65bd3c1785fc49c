#!/usr/bin/env python3
"""Checks that alerts and dashboards ask only for what the program really tells, by the snapshots of both metric pages.

   check_monitoring.py [--queries FILE]

Every metric name must be on a page, every label of a query must be one of that metric's or one that a scrape gives. Every alert must have its page in
docs/alerts and a test. --queries writes all queries as a rule file, which promtool can parse. Begins with a check of itself: unknown names and labels
must be found.
"""

import json
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    ROOT / "src/controller/snapshots/maxchannel__controller__metrics__tests__figures.snap",
    ROOT / "src/relay/snapshots/maxchannel__relay__metrics__tests__figures.snap",
]
# What a scrape gives: Prometheus itself, the PodMonitor, and for `channel` the relabelling or `maxchannel run`.
SCRAPED = {"job", "instance", "namespace", "pod", "container", "channel", "le"}
RULES = ROOT / "charts/maxchannel/files/alerts.yaml"
# What Grafana puts in, as values that make sense.
GRAFANA = {"$__rate_interval": "5m", "$__range": "6h", "$namespace": ".*", "$channel": ".*"}


def known():
    """Labels by metric name; of a histogram also the buckets, which the snapshots leave out."""
    labels = {}
    for page in PAGES:
        for line in page.read_text().splitlines():
            found = re.match(r"(maxchannel_\w+)(?:\{(.*)\})? ", line)
            if found:
                labels.setdefault(found[1], set()).update(re.findall(r'(\w+)="', found[2] or ""))
                if found[1].endswith("_count"):
                    labels[found[1][: -len("_count")] + "_bucket"] = labels[found[1]]
    return labels


def problems(query, labels):
    """What a query names that nobody tells."""
    names = re.findall(r"\bmaxchannel_\w+", query)
    found = [f"no page has {name}" for name in names if name not in labels]
    if not names:
        found.append("no metric of ours")
    allowed = set().union(*(labels.get(name, set()) for name in names)) | SCRAPED
    for name, matchers in re.findall(r"\b(maxchannel_\w+)\{([^}]*)\}", query):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers):
            if label not in labels.get(name, set()) | SCRAPED:
                found.append(f"{name} has no label {label}")
    for grouping in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", query):
        found += [f"no metric of the query has the label {label}" for label in re.findall(r"\w+", grouping) if label not in allowed]
    return found


def itself(labels):
    for query, bad in [
        ("maxchannel_relay_dead_letters", 0),
        ("maxchannel_relay_dead_letter", 1),
        ('sum by (direction) (rate(maxchannel_relay_delivered_total{direction="to_crm", channel=~".*"}[5m]))', 0),
        ('maxchannel_relay_delivered_total{way="to_crm"}', 1),
        ("sum by (way) (maxchannel_relay_delivered_total)", 1),
        ("histogram_quantile(0.9, sum by (le, provider) (rate(maxchannel_controller_saas_request_duration_seconds_bucket[5m])))", 0),
        ("histogram_quantile(0.9, sum by (le, provider) (rate(maxchannel_controller_reconcile_duration_seconds_bucket[5m])))", 1),
        ("up", 1),
    ]:
        assert len(problems(query, labels)) == bad, (query, problems(query, labels))


def queries():
    """(where, query) of all alerts and panels."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]
    for file in sorted((ROOT / "charts/maxchannel/files/dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", []):
                query = target["expr"]
                for word, value in GRAFANA.items():
                    query = query.replace(word, value)
                assert "$" not in query, f"{file.name}: {panel['title']}: {query} has a variable that is not known here"
                yield f"{file.name}: {panel['title']}", query


def board_faults(file):
    """What makes a dashboard hard to use or to bring along: a lint of our own."""
    board = json.loads(file.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        yield "two panels have one id"
    taken = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            yield f"{panel['title']} stands over the edge"
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        if cells & taken:
            yield f"{panel['title']} lies over another"
        taken |= cells
        if panel["type"] == "row":
            continue
        if not panel.get("description"):
            yield f"{panel['title']} does not say what it shows"
        if panel["datasource"]["uid"] != "${datasource}" or any(target["datasource"]["uid"] != "${datasource}" for target in panel["targets"]):
            yield f"{panel['title']} is bound to one data source"
        if not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{panel['title']} has no unit"
        if len(panel["targets"]) > 1 and any(target["legendFormat"] == "__auto" for target in panel["targets"]):
            yield f"{panel['title']} has queries that cannot be told apart"


def state_metrics():
    """kube-state-metrics takes what the definition has: each path must be in its schema."""
    schema = yaml.safe_load((ROOT / "crds/maxchannels.yaml").read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    resource = yaml.safe_load((ROOT / "charts/maxchannel/files/kube-state-metrics.yaml").read_text())["spec"]["resources"][0]

    def reach(node, path):
        for word in path:
            if node.get("type") == "array":
                node = node["items"]
            node = node.get("properties", {}).get(word)
            if node is None:
                return None
        return node

    def ask(node, path, base=()):
        if path[0] == "metadata" and not base:
            return
        if reach(node, path) is None:
            yield f"kube-state-metrics: the definition has no {'.'.join([*base, *path])}"

    for path in resource["labelsFromPath"].values():
        yield from ask(schema, path)
    for metric in resource["metrics"]:
        [each] = [value for name, value in metric["each"].items() if name != "type"]
        base = each.get("path", [])
        if base:
            yield from ask(schema, base)
        node = reach(schema, base) if base and base[0] != "metadata" else schema
        for path in [*each.get("labelsFromPath", {}).values(), *filter(None, [each.get("valueFrom")])]:
            yield from ask(node["items"] if node and node.get("type") == "array" else node or {}, path, base)


def relabelings():
    """The scrape configuration for a Prometheus without the operator must make the same label as the PodMonitor."""
    monitor = (ROOT / "charts/maxchannel/templates/podmonitor.yaml").read_text()
    plain = yaml.safe_load((ROOT / "docs/alerts/prometheus.yaml").read_text())
    [relays] = [job for job in plain["scrape_configs"] if job["job_name"] == "maxchannel-relays"]
    [rule] = [rule for rule in relays["relabel_configs"] if rule.get("target_label") == "channel"]
    if f"sourceLabels: [{', '.join(rule['source_labels'])}]" not in monitor or f"separator: {rule['separator']}" not in monitor:
        yield "docs/alerts/prometheus.yaml and the PodMonitor make different labels `channel`"


def pages():
    tests = (ROOT / "tests/monitoring/alerts_test.yaml").read_text()
    alerts = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    index = (ROOT / "docs/alerts/README.md").read_text()
    for alert in alerts:
        page = ROOT / f"docs/alerts/{alert}.md"
        text = page.read_text() if page.exists() else ""
        for heading in ["## Причина", "## Куда смотреть", "## Что делать", "## Cause", "## Look here", "## Do this"]:
            if heading not in text:
                yield f"{page.relative_to(ROOT)} lacks «{heading}»"
        if alert not in tests:
            yield f"{alert} has no test in tests/monitoring/alerts_test.yaml"
        if f"({alert}.md)" not in index:
            yield f"{alert} is not in docs/alerts/README.md"
    for page in (ROOT / "docs/alerts").glob("MaxChannel*.md"):
        if page.stem not in alerts:
            yield f"{page.relative_to(ROOT)} is about no alert"


def main():
    labels = known()
    itself(labels)
    found, rules = [], []
    for at, (where, query) in enumerate(queries()):
        found += [f"{where}: {problem} ({query.strip()})" for problem in problems(query, labels)]
        rules.append({"record": f"query:{at}", "expr": query, "labels": {"where": where}})
    for file in sorted((ROOT / "charts/maxchannel/files/dashboards").glob("*.json")):
        found += [f"{file.name}: {fault}" for fault in board_faults(file)]
    found += [*state_metrics(), *relabelings(), *pages()]
    if sys.argv[1:2] == ["--queries"]:
        pathlib.Path(sys.argv[2]).write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}, allow_unicode=True))
    if found:
        sys.exit("\n".join(found))


main()
