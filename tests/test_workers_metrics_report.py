"""Metrics of several processes in one registry. Here both are this process, so what is reported is added to itself."""

import pytest

from corepy.plugin import metrics
from corepy.server.workers import metrics_report
from corepy.server.workers.metrics_report import Reporter


def only(families, name):
    return [family for family in families if family.name == name]


def test_a_counter_is_reported_as_what_was_added():
    counter = metrics.counter("test_report_total", "A counter.", ("kind",))
    counter.labels("a").inc(5)
    reporter = Reporter()
    (family,) = only(reporter.report(), "test_report_total")
    assert family.series == {("a",): 5}
    assert not only(reporter.report(), "test_report_total")
    counter.labels("a").inc(2)
    counter.labels("b")
    (family,) = only(reporter.report(), "test_report_total")
    assert family.series == {("a",): 2, ("b",): 0}
    metrics_report.add("other", [family])
    assert counter.labels("a").value == 9


def test_a_histogram_is_reported_as_what_was_added():
    histogram = metrics.histogram("test_report_seconds", "A histogram.", bounds=(1, 10))
    histogram.labels().observe(5)
    reporter = Reporter()
    reporter.report()
    histogram.labels().observe(0.5, 3)
    families = only(reporter.report(), "test_report_seconds")
    metrics_report.add("other", families)
    child = histogram.labels()
    assert (child.counts, child.total) == ([6, 1, 0], 8.0)


@pytest.mark.parametrize(("merge", "expected"), [("sum", 12), ("min", 1), ("max", 6)])
def test_a_gauge_says_how_it_is_merged(merge, expected):
    gauge = metrics.gauge(f"test_report_{merge}", "A gauge.", ("kind",), merge=merge)
    gauge.labels("a").set(5)
    for source, value in (("one", 1), ("two", 6)):
        family = only(Reporter().report(), gauge.name)[0]
        metrics_report.add(source, [family._replace(series={("a",): value, ("b",): 7})])
    merged = {labels: child.value for labels, child in gauge.children()}
    assert merged[("a",)] == expected
    metrics_report.forget("one")
    metrics_report.forget("two")
    assert [(labels, child.value) for labels, child in gauge.children()] == [(("a",), 5)]


def test_a_metric_that_only_the_other_process_knows_is_declared():
    families = [
        metrics_report.Family(
            "counter", "test_report_new_total", "New.", ("x",), (), "sum", {("1",): 3}
        ),
        metrics_report.Family(
            "histogram", "test_report_new", "New.", (), (1.0,), "sum", {(): ([1, 2], 9.0)}
        ),
        metrics_report.Family("gauge", "test_report_new_max", "New.", (), (), "max", {(): 4}),
    ]
    metrics_report.add("other", families)
    found = {metric.name: metric for metric in metrics.registered()}
    assert found["test_report_new_total"].labels("1").value == 3
    assert found["test_report_new"].labels().counts == [1, 2]
    assert [child.value for _, child in found["test_report_new_max"].children()] == [4]
    metrics_report.forget("other")


def test_the_count_of_this_process_is_known_apart():
    counter = metrics.counter("test_report_own_total", "A counter.", ("kind",))
    assert counter.own("a") == 0
    counter.labels("a").inc(5)
    (family,) = only(Reporter().report(), "test_report_own_total")
    metrics_report.add("other", [family])
    metrics_report.add("other", [family._replace(series={("a",): 2, ("b",): 1})])
    assert (counter.labels("a").value, counter.own("a")) == (12, 5)
    assert (counter.labels("b").value, counter.own("b")) == (1, 0)
