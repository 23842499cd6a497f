"""Who has what on the screen."""

from nlp_al.argilla_server.leases import MINUTES, Leases


def test_what_others_have_counts_until_it_is_old():
    clock = [0.0]
    leases = Leases(now=lambda: clock[0])
    leases.give("ann", ["a", "b"])
    clock[0] = 60.0
    leases.give("bob", ["b", "c"])
    assert leases.others("ann") == {"b": 1, "c": 1}
    assert leases.others("bob") == {"a": 1, "b": 1}
    assert leases.others("eve") == {"a": 1, "b": 2, "c": 1}
    clock[0] = MINUTES * 60
    assert leases.others("eve") == {"b": 1, "c": 1}
    clock[0] += 60.0
    assert leases.others("eve") == {}


def test_who_answers_is_at_work_on_the_rest():
    clock = [0.0]
    leases = Leases(now=lambda: clock[0])
    leases.deal("ann", "data", 0, ["a", "b"])
    clock[0] = 200.0
    leases.end("a", "ann")
    leases.renew("ann")
    clock[0] = 400.0
    assert leases.others("bob") == {"b": 1}


def test_a_page_that_is_fetched_again_is_held_longer():
    clock = [0.0]
    leases = Leases(now=lambda: clock[0])
    leases.give("ann", ["a"])
    clock[0] = 200.0
    leases.give("ann", ["a"])
    clock[0] = 400.0
    assert leases.others("bob") == {"a": 1}
