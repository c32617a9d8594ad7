"""What messages look like."""

from __future__ import annotations

from embedding_assets.alerts.text import letter, shortened, title_of
from embedding_assets_tests.alerts.making import NOW, change, message

UI = "https://dagster.example.com/"


def test_a_failure_says_what_where_why_what_happens_and_what_to_do() -> None:
    one = change(
        NOW,
        found="delta 7: data_level0.bin differs",
        by_itself="It is moved aside.",
        to_do="Nothing.",
        page="assets/deltas?view=checks",
    )
    written = letter([message(1, one)], UI, "text")
    assert written.title == "[lines 2026-11-03] deltas_are_whole failed (ERROR)"
    assert written.body == (
        "deltas_are_whole failed (ERROR) of deltas\n".replace("deltas_are_whole", written.title.split(" failed")[0])
        + "delta 7: data_level0.bin differs\n"
        "https://dagster.example.com/assets/deltas?view=checks\n"
        "What happens by itself: It is moved aside.\n"
        "What you can do: Nothing.\n\n"
        "From run 00000001 of embed_cell, 2027-01-15 08:00:00 UTC.\n"
        "https://dagster.example.com/runs/1\n\n"
        "alert 20270115T080000-run-0001"
    )


def test_hundreds_of_failures_are_a_few_lines_and_the_advice_is_given_once() -> None:
    days = [change(NOW, partition=f"lines|{n}", found="bad", by_itself="It is moved aside.") for n in range(200)]
    written = letter([message(1, *days, change(NOW, severity="WARN", name="other", partition="lines|x"))], UI, "text")
    assert written.title == "[lines] 201 failures (1 of them warnings) in run 00000001 of embed_cell"
    assert "deltas_are_whole failed (ERROR) of deltas, 200 times:" in written.body
    assert "... and 190 more" in written.body
    assert written.body.count("It is moved aside.") == 1
    assert len(written.body.splitlines()) < 30


def test_failures_and_recoveries_of_several_collections_are_counted() -> None:
    mixed = [change(NOW), change(NOW, partition="words|1"), change(NOW, partition="words|2", failed=False)]
    assert title_of(message(1, *mixed)) == "2 failures, 1 recovery in run 00000001 of embed_cell"
    assert title_of(message(1, change(NOW, severity="STOPPED", kind="step", name="snapshots", partition="lines"))) == (
        "[lines] step snapshots was given up"
    )


def test_text_of_others_is_shown_and_not_obeyed() -> None:
    one = change(NOW, found="<script>alert(1)</script> [x](http://evil) `*_")
    html = letter([message(1, one)], UI, "html").body
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    markdown = letter([message(1, one)], UI, "markdown").body
    assert r"\<script\>alert(1)\</script\> \[x\](http://evil) \`\*\_" in markdown


def test_without_the_address_of_the_ui_there_are_no_links() -> None:
    for form in ("text", "markdown", "html"):
        assert "runs/1" not in letter([message(1, change(NOW, page="assets/deltas"))], "", form).body  # type: ignore[arg-type]


def test_a_summary_names_the_first_and_the_last_and_how_to_see_all() -> None:
    many = [message(n, change(NOW, partition=f"lines|{n}", by_itself="Healed.", to_do="Wait.")) for n in range(100)]
    written = letter(many, UI, "text")
    assert written.title == "100 alerts: 100 failures"
    assert "[lines 0] deltas_are_whole failed (ERROR)" in written.body
    assert "[lines 99] deltas_are_whole failed (ERROR)" in written.body
    assert "... and 70 more ..." in written.body
    assert written.body.count("Healed.") == 1
    assert "embedding-assets alerts list" in written.body


def test_a_shortened_letter_still_names_its_alerts() -> None:
    advice = change(NOW, by_itself="It waits. " * 50, to_do="Look at it. " * 50)
    whole = letter([message(1, advice), message(2, change(NOW, failed=False))], "", "text")
    short = shortened(whole, 900)
    assert len(short.body) == 900
    assert short.body.endswith(" ...\n\n" + whole.body.rpartition("\n\n")[2])
    assert title_of(message(2, change(NOW, failed=False))) in short.body
    assert shortened(short, 900) == short
