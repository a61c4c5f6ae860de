"""What a lead knows of providers that ask to wait, and who probes one that was given up."""

from datetime import UTC, datetime, timedelta

from services.lead.throttles import UNAVAILABLE_PAUSE, Provider, Throttle, Throttles

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SONNET, OPUS = Provider("k1", "claude-sonnet"), Provider("k1", "claude-opus")


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def test_nothing_goes_to_a_provider_before_its_pause_ends_and_others_are_not_meant() -> None:
    throttles = Throttles()
    assert throttles.pause(SONNET, after(30))
    assert not throttles.admits(SONNET, after(29.9))
    assert throttles.admits(SONNET, after(30))
    assert throttles.admits(OPUS, NOW)
    assert (throttles.next_end(NOW), throttles.next_end(after(30))) == (after(30), None)


def test_a_pause_is_put_off_and_never_shortened() -> None:
    throttles = Throttles()
    throttles.pause(SONNET, after(30), "HTTP 429")
    assert not throttles.pause(SONNET, after(10), "HTTP 529")
    assert throttles.all[SONNET] == Throttle(after(30), message="HTTP 429")
    assert throttles.pause(SONNET, after(40), "HTTP 500")
    assert throttles.paused_until(SONNET, NOW) == after(40)
    throttles.give_up(SONNET, NOW)
    assert throttles.all[SONNET] == Throttle(after(40), unavailable=True, message="HTTP 500")


def test_after_it_was_given_up_one_attempt_goes_first() -> None:
    throttles = Throttles()
    throttles.give_up(SONNET, NOW)
    ready = NOW + UNAVAILABLE_PAUSE
    assert not throttles.admits(SONNET, NOW)
    assert throttles.admits(SONNET, ready)
    throttles.dispatched(SONNET, "probe")
    assert not throttles.admits(SONNET, ready)
    assert not throttles.served("another", ready)
    assert throttles.served("probe", ready)
    assert throttles.admits(SONNET, ready)
    assert throttles.all[SONNET] == Throttle(ready, unavailable=False)


def test_a_probe_that_ends_unserved_hands_on() -> None:
    throttles = Throttles()
    throttles.give_up(SONNET, NOW)
    throttles.dispatched(SONNET, "probe")
    throttles.ended("probe")
    ready = NOW + UNAVAILABLE_PAUSE
    assert throttles.admits(SONNET, ready)
    throttles.dispatched(SONNET, "next")
    assert not throttles.admits(SONNET, ready)


def test_a_probe_that_gives_up_too_starts_anew_and_the_provider_may_ask_for_longer() -> None:
    throttles = Throttles()
    throttles.give_up(SONNET, NOW)
    throttles.dispatched(SONNET, "probe")
    throttles.pause(SONNET, after(3600))
    throttles.ended("probe")
    throttles.give_up(SONNET, after(100))
    assert throttles.all[SONNET] == Throttle(after(3600), unavailable=True)
    assert not throttles.admits(SONNET, after(3599))
    assert throttles.admits(SONNET, after(3600))


def test_what_was_told_before_a_restart_holds_after_it() -> None:
    throttles = Throttles()
    throttles.recall({SONNET: Throttle(after(60), unavailable=True)})
    assert not throttles.admits(SONNET, after(59))
    throttles.dispatched(SONNET, "probe")
    assert not throttles.admits(SONNET, after(60))
