"""What `node-cache` must do, each with the test that tries it.

FAULTS are the faults of the Go program that ours must not have, EQUAL the behaviour to keep. The
behaviour of the Go program is described in docs/node-cache.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent

FAULTS = [
    ("-corefile without -conf is used", "command", "updates_of_template_and_config_map"),
    ("-version and -plugins need no -localip", "command", "flags_that_print_and_touch_nothing"),
    ("-syncinterval 10s, 60 and 60s", "flags", "a_flag_in_all_its_forms"),
    ("-syncinterval 0 and below: exit code 2", "flags", "mistakes"),
    ("-syncinterval 0 and below: exit code 2", "command", "wrong_flags_end_the_program"),
    ("both address families: values", "flags", "a_flag_in_all_its_forms"),
    ("both address families: rules", "kernel/command_host", "quitting_removes_rules_and_addresses"),
    ("both address families: rules", "kernel/in_place", "beside_a_corepy_with_a_corefile_of_its_own"),
    ("a ConfigMap invalid at the start", "swap", "a_config_map_that_is_invalid_at_the_start"),
    ("a ConfigMap invalid at the start", "maker", "a_problem_of_the_config_map"),
    ("a folder that appears later", "command", "updates_of_template_and_config_map"),
    ("an empty stub list at the start", "maker", "a_problem_of_the_config_map"),
    ("a stub domain that is a zone of the template", "maker", "a_problem_of_the_config_map"),
    ("such domains after an update", "swap", "a_config_map_that_is_invalid_at_the_start"),
    ("such domains: message and rest", "template", "stub_domains_that_would_stop_the_start"),
    ("bad JSON, fourth upstream, bad domain: messages", "configmap", "refused_stub_domains"),
    ("bad JSON, fourth upstream, bad domain: messages", "configmap", "refused_upstreams"),
    ("bad JSON, fourth upstream, bad domain: counted", "maker", "a_problem_of_the_config_map"),
    ("updates with and without reload", "swap", "swaps_under_load"),
    ("no query lost in an update", "swap", "swaps_under_load"),
    ("rules without a pid file", "kernel/command_host", "the_official_arguments"),
    ("a flush of the rules is repaired", "kernel/command_host", "the_official_arguments"),
    ("a flush of the rules is repaired", "kernel/drift", "what_others_take_away_is_put_back"),
    ("a deleted interface is repaired", "kernel/drift", "what_others_take_away_is_put_back"),
    ("rules after the xtables lock", "kernel/drift", "dns_answers_while_the_lock_is_held_for_long"),
    ("a failed start leaves no interface", "kernel/in_place", "a_start_that_fails_removes_the_interface"),
    ("a failed start leaves no rules", "kernel/command_host", "a_failed_start_leaves_nothing"),
    ("force_tcp at any indentation", "template", "force_tcp_and_custom_upstreams"),
    ("no <nil>", "template", "a_missing_service_matters_only_where_it_is_used"),
    ("no <nil>", "command", "a_start_that_fails"),
    ("a read-only place for -conf", "kernel/in_place", "beside_a_corepy_on_the_same_interface"),
    ("a mounted file for -conf", "kernel/in_place", "beside_a_corepy_with_a_corefile_of_its_own"),
    ("a place for -conf that is missing", "command", "an_output_that_cannot_be_written"),
    ("a broken template leaves the Corefile", "command", "updates_of_template_and_config_map"),
    ("a broken template at the start", "command", "the_last_good_corefile_serves_while_the_template_is_broken"),
    ("health __PILLAR__LOCAL__DNS__:8080", "template", "an_address_with_a_port_is_the_first"),
    ("health __PILLAR__LOCAL__DNS__:8080", "kernel/in_place", "the_official_manifest"),
    ("the address of the metrics in use", "metrics", "an_address_in_use_costs_no_query"),
    ("a wrong address of the metrics", "flags", "a_wrong_address_of_the_metrics_costs_only_them"),
]  # fmt: skip

EQUAL = [
    ("without NET_ADMIN: serves and counts", "kernel/command_host", "without_net_admin_it_serves_and_counts"),
    ("SIGHUP is ignored", "command", "updates_of_template_and_config_map"),
    ("SIGHUP is ignored", "swap", "swaps_under_load"),
    ("the last flag wins", "flags", "the_last_flag_wins"),
    ("Go's spellings of booleans", "flags", "go_spells_true"),
    ("Go's spellings of booleans", "flags", "go_spells_false"),
    ("-health-port is for the rules", "template", "nodecache_has_the_values_of_the_flags"),
    ("-health-port is for the rules", "kernel/in_place", "beside_a_corepy_with_a_corefile_of_its_own"),
    ("twelve rules per address", "kernel/in_place", "the_official_manifest"),
    ("the official arguments and Corefile", "kernel/in_place", "the_official_manifest"),
    ("SIGTERM, SIGINT, SIGQUIT, exit codes", "command", "the_last_good_corefile_serves_while_the_template_is_broken"),
    ("SIGQUIT tears down", "kernel/command_host", "quitting_removes_rules_and_addresses"),
    ("charts: flags and templates", "charts", "a_chart"),
    ("charts: in a namespace", "charts", "a_chart_in_a_namespace"),
    ("beside another corepy", "kernel/in_place", "beside_a_corepy_with_a_corefile_of_its_own"),
    ("on one interface with it", "kernel/in_place", "beside_a_corepy_on_the_same_interface"),
    ("names, types and labels of the metrics", "metrics", "every_declaration_is_that_of_node_cache"),
    ("metrics on 9353 and 9253", "metrics", "both_addresses_have_the_names_of_node_cache"),
    ("metrics on 9353 and 9253", "kernel/command_host", "without_net_admin_it_serves_and_counts"),
    ("setup_errors_total is 0 from the start", "metrics", "errors_are_zero_from_the_start"),
    ("a reload keeps 9353 open", "metrics", "scrapes_go_on_over_reloads_and_end_with_the_server"),
]  # fmt: skip


@pytest.mark.parametrize(("promise", "file", "test"), FAULTS + EQUAL)
def test_the_promise_has_its_test(promise: str, file: str, test: str) -> None:
    folder, _, name = file.rpartition("/")
    text = (FOLDER / folder / f"test_nodecache_{name}.py").read_text()
    assert f"def test_{test}(" in text, promise
