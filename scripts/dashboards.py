#!/usr/bin/env python3
"""Writes the Grafana dashboards of the chart from the tables below. With --check it only says whether they are stale, for CI.

A panel is a title, what it tells, its unit, and its queries with their legends; a row of panels shares the 24 columns evenly.
"""

import json
import pathlib
import sys

FOLDER = pathlib.Path(__file__).parent.parent / "charts/maxchannel/files/dashboards"
CONTROLLER = 'namespace=~"$namespace"'
RELAY = 'channel=~"$channel"'

INSTALLATION = [
    (
        "Channels",
        [
            ("stat", "Channels", "Channels that the controller watches.", "short", [(f"max(maxchannel_controller_channels{{{CONTROLLER}}})", "")]),
            ("stat", "Not Ready", "Channels whose condition Ready is not True; kubectl maxchannel -A says why.", "short", [(f'max(sum by (pod) (maxchannel_controller_condition{{{CONTROLLER}, type="Ready", status!="True"}})) or vector(0)', "")]),
            ("stat", "Wait for a person", "Channels whose condition Stalled is True: they do not work again by themselves.", "short", [(f'max(sum by (pod) (maxchannel_controller_condition{{{CONTROLLER}, type="Stalled", status="True"}})) or vector(0)', "")]),
            ("stat", "Oldest message", "How long the oldest undelivered message of all channels has waited.", "s", [("max(maxchannel_relay_oldest_message_age_seconds)", "")]),
            ("stat", "Dead letters", "Messages that were given up and are kept, of all channels.", "short", [("sum(maxchannel_relay_dead_letters)", "")]),
            ("stat", "Open dialogs", "Dialogs that are open, of all channels.", "short", [("sum(maxchannel_relay_open_dialogs)", "")]),
        ],
    ),
    (
        "Messages",
        [
            ("timeseries", "Delivered", "Messages delivered a second, of all channels.", "cps", [("sum by (direction) (rate(maxchannel_relay_delivered_total[$__rate_interval]))", "{{direction}}")]),
            ("timeseries", "Oldest message by channel", "The ten channels whose oldest message waits longest.", "s", [("topk(10, maxchannel_relay_oldest_message_age_seconds)", "{{channel}}")]),
            ("timeseries", "Given up by channel", "Dead letters by channel.", "short", [("maxchannel_relay_dead_letters > 0", "{{channel}}")]),
        ],
    ),
    (
        "Conditions",
        [
            ("timeseries", "Conditions that are not True", "Channels by the condition that is False or Unknown. Stalled is good when it is False.", "short", [(f'max by (type) (sum by (type, pod) (maxchannel_controller_condition{{{CONTROLLER}, type!="Stalled", status!="True"}}))', "{{type}}")]),
            ("timeseries", "Relays that are to change", "While the pods of relays change: replaced now, waiting for others, failed to come up.", "short", [(f"sum by (state) (maxchannel_controller_rollout_relays{{{CONTROLLER}}})", "{{state}}")]),
            ("timeseries", "Time to Ready", "From the making of a channel to its first Ready, of the channels made in the range.", "s", [(f"histogram_quantile(0.5, sum by (le) (rate(maxchannel_controller_time_to_ready_seconds_bucket{{{CONTROLLER}}}[$__range])))", "half"), (f"histogram_quantile(0.95, sum by (le) (rate(maxchannel_controller_time_to_ready_seconds_bucket{{{CONTROLLER}}}[$__range])))", "95 %")]),
        ],
    ),
    (
        "Calls to MAX, MANGO OFFICE and Creatio",
        [
            ("timeseries", "Calls of the controller", "Calls a second by provider and answer.", "reqps", [(f"sum by (provider, code) (rate(maxchannel_controller_saas_requests_total{{{CONTROLLER}}}[$__rate_interval]))", "{{provider}} {{code}}")]),
            ("timeseries", "Duration of calls, 95 %", "Ninety-five of a hundred calls take less.", "s", [(f"histogram_quantile(0.95, sum by (le, provider) (rate(maxchannel_controller_saas_request_duration_seconds_bucket{{{CONTROLLER}}}[$__rate_interval])))", "{{provider}}")]),
            ("timeseries", "Held back by limits, 95 %", "How long calls wait for the limits that are kept here.", "s", [(f"histogram_quantile(0.95, sum by (le, provider) (rate(maxchannel_controller_saas_limiter_wait_seconds_bucket{{{CONTROLLER}}}[$__rate_interval])))", "{{provider}}")]),
            ("timeseries", "Calls of the relays to Creatio", "A minute, by kind: Creatio's plans count them.", "short", [("60 * sum by (kind) (rate(maxchannel_relay_crm_calls_total[$__rate_interval]))", "{{kind}}")]),
        ],
    ),
    (
        "Controller",
        [
            ("timeseries", "Leader", "1 for the replica that leads.", "short", [(f"maxchannel_controller_leader{{{CONTROLLER}}}", "{{pod}}")]),
            ("timeseries", "Passes", "Passes a second by outcome; in a steady state all are unchanged.", "ops", [(f"sum by (outcome) (rate(maxchannel_controller_reconciles_total{{{CONTROLLER}}}[$__rate_interval]))", "{{outcome}}")]),
            ("timeseries", "Duration of a pass, 95 %", "Calls to the outside included.", "s", [(f"histogram_quantile(0.95, sum by (le) (rate(maxchannel_controller_reconcile_duration_seconds_bucket{{{CONTROLLER}}}[$__rate_interval])))", "95 %")]),
            ("timeseries", "Waiting and failing", "Channels that a pass is due for, and channels whose last pass ended in an error.", "short", [(f"sum(maxchannel_controller_queue_depth{{{CONTROLLER}}})", "due"), (f"sum(maxchannel_controller_objects_in_backoff{{{CONTROLLER}}})", "failing")]),
            ("timeseries", "Errors of the API server", "Refusals and silence a second, by reason.", "ops", [(f"sum by (reason) (rate(maxchannel_controller_reconcile_errors_total{{{CONTROLLER}}}[$__rate_interval]))", "{{reason}}")]),
            ("timeseries", "Repairs", "Owned objects that somebody else had changed, in the range of a point.", "short", [(f"sum(increase(maxchannel_controller_drift_repairs_total{{{CONTROLLER}}}[$__rate_interval]))", "repaired")]),
        ],
    ),
]

CHANNEL = [
    (
        "Now",
        [
            ("stat", "Oldest message", "How long the oldest undelivered message has waited.", "s", [(f"max(maxchannel_relay_oldest_message_age_seconds{{{RELAY}}})", "")]),
            ("stat", "Dead letters", "Messages that were given up and are kept: kubectl exec <pod> -- maxchannel dead-letters list.", "short", [(f"sum(maxchannel_relay_dead_letters{{{RELAY}}})", "")]),
            ("stat", "Open dialogs", "Dialogs that are open.", "short", [(f"sum(maxchannel_relay_open_dialogs{{{RELAY}}})", "")]),
            ("stat", "Last to Creatio", "Since the last message of a customer was acknowledged by Creatio.", "s", [(f'time() - max(maxchannel_relay_last_success_timestamp_seconds{{{RELAY}, direction="to_crm"}})', "")]),
            ("stat", "Last to MAX", "Since the last message of an agent was taken by MAX.", "s", [(f'time() - max(maxchannel_relay_last_success_timestamp_seconds{{{RELAY}, direction="to_max"}})', "")]),
        ],
    ),
    (
        "Messages",
        [
            ("timeseries", "Received from MAX", "Updates a second by kind.", "cps", [(f'sum by (kind) (rate(maxchannel_relay_updates_total{{{RELAY}, outcome="new"}}[$__rate_interval]))', "{{kind}}")]),
            ("timeseries", "Delivered", "Messages a second: of customers to Creatio, of agents to MAX.", "cps", [(f"sum by (direction) (rate(maxchannel_relay_delivered_total{{{RELAY}}}[$__rate_interval]))", "{{direction}}")]),
            ("timeseries", "Waiting", "Customers for whom something waits.", "short", [(f"sum by (direction) (maxchannel_relay_queue_depth{{{RELAY}}})", "{{direction}}")]),
            ("timeseries", "Oldest message", "Age of the oldest message that waits in either direction.", "s", [(f"maxchannel_relay_oldest_message_age_seconds{{{RELAY}}}", "{{channel}}")]),
        ],
    ),
    (
        "What went wrong",
        [
            ("timeseries", "Given up and uncertain", "Messages in the range of a point.", "short", [(f"sum(increase(maxchannel_relay_dead_letters_made_total{{{RELAY}}}[$__rate_interval]))", "given up"), (f"sum(increase(maxchannel_relay_uncertain_total{{{RELAY}}}[$__rate_interval]))", "uncertain"), (f"sum(increase(maxchannel_relay_late_total{{{RELAY}}}[$__rate_interval]))", "late"), (f"sum(increase(maxchannel_relay_overdue_skipped_total{{{RELAY}}}[$__rate_interval]))", "replies too late")]),
            ("timeseries", "Looks after lost answers and gaps", "A dialog is read back after a gap, a send is looked for when its answer was lost.", "short", [(f"sum(increase(maxchannel_relay_look_backs_total{{{RELAY}}}[$__rate_interval]))", "sends looked for"), (f"sum(increase(maxchannel_relay_read_back_messages_total{{{RELAY}}}[$__rate_interval]))", "messages read back"), (f"sum(increase(maxchannel_relay_read_backs_refused_total{{{RELAY}}}[$__rate_interval]))", "reading refused")]),
            ("timeseries", "Refused", "429 of MAX, webhook calls without the secret, webhooks that came again.", "short", [(f"sum(increase(maxchannel_relay_throttled_total{{{RELAY}}}[$__rate_interval]))", "429 of MAX"), (f"sum(increase(maxchannel_relay_forbidden_webhooks_total{{{RELAY}}}[$__rate_interval]))", "no secret"), (f'sum(increase(maxchannel_relay_updates_total{{{RELAY}, outcome="repeated"}}[$__rate_interval]))', "repeated")]),
            ("timeseries", "Store and odd elements", "Writes that failed, and elements that could not be read.", "short", [(f"sum(increase(maxchannel_relay_store_failures_total{{{RELAY}}}[$__rate_interval]))", "writes failed"), (f"sum by (kind) (increase(maxchannel_relay_set_aside_total{{{RELAY}}}[$__rate_interval]))", "{{kind}}")]),
        ],
    ),
    (
        "Creatio",
        [
            ("timeseries", "Calls", "A minute, by kind: Creatio's plans count them.", "short", [(f"60 * sum by (kind) (rate(maxchannel_relay_crm_calls_total{{{RELAY}}}[$__rate_interval]))", "{{kind}}")]),
        ],
    ),
]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def variable(name, label, query):
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def panel(number, kind, title, description, unit, queries, place):
    # A stat is coloured where any is too many.
    bad = title in ("Not Ready", "Wait for a person", "Dead letters")
    steps = [{"color": "green", "value": None}] + ([{"color": "red", "value": 1}] if bad else [])
    panel = {
        "id": number,
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": DATASOURCE, "expr": query, "legendFormat": legend or "__auto", **({"instant": True} if kind == "stat" else {})}
            for at, (query, legend) in enumerate(queries)
        ],
    }
    if kind == "stat":
        panel["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
    else:
        panel["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
    return panel


def dashboard(uid, title, description, rows, variables):
    panels, number, y = [], 0, 0
    for name, row in rows:
        number += 1
        panels.append({"id": number, "type": "row", "title": name, "collapsed": False, "panels": [], "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}})
        y += 1
        # At most three graphs or six figures beside each other.
        height, most = (4, 6) if row[0][0] == "stat" else (8, 3 if len(row) % 3 == 0 else 2)
        beside = min(most, len(row))
        for at, (kind, what, tells, unit, queries) in enumerate(row):
            number += 1
            width = 24 // beside
            place = {"x": at % beside * width, "y": y + at // beside * height, "w": width, "h": height}
            panels.append(panel(number, kind, what, tells, unit, queries, place))
        y += -(-len(row) // beside) * height
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["maxchannel"],
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "schemaVersion": 38,
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "links": [{"type": "dashboards", "title": "MaxChannel", "tags": ["maxchannel"], "asDropdown": True, "keepTime": True}],
        "templating": {"list": [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}, *variables]},
        "panels": panels,
    }


DASHBOARDS = {
    "installation.json": dashboard(
        "maxchannel-installation",
        "MaxChannel / Installation",
        "All channels of an installation and its controller.",
        INSTALLATION,
        [variable("namespace", "Namespace of the controller", "label_values(maxchannel_controller_leader, namespace)")],
    ),
    "channel.json": dashboard(
        "maxchannel-channel",
        "MaxChannel / Channel",
        "The messages of one channel or of several.",
        CHANNEL,
        [variable("channel", "Channel", "label_values(maxchannel_relay_open_dialogs, channel)")],
    ),
}


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit("usage: dashboards.py [--check]")
    for name, board in DASHBOARDS.items():
        text = json.dumps(board, ensure_ascii=False, indent=2) + "\n"
        file = FOLDER / name
        if sys.argv[1:] == ["--check"]:
            if not file.exists() or file.read_text() != text:
                sys.exit(f"{file} is stale: run scripts/dashboards.py and commit it")
        else:
            file.write_text(text)


main()
