"""The tuner runs exactly the trials it was given: with failures, many workers and over any kills."""

import math
import random
from itertools import pairwise

import pytest

from tuning.brackets import extended
from tuning.hyperband import Bracket, BudgetedHyperband, Round, plan, total_epochs
from tuning.kerastuner import keras_tuner

# KerasTuner's `synchronized` calls threading.currentThread().getName().
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:All-NaN:RuntimeWarning")

BUDGETS = [*range(1, 61), 200, 1000]
FACTORS = [2, 3, 4]
EPOCHS = [1, 3, 9, 27, 100]
LAYOUTS = [(n, r, eta) for n in BUDGETS for r in EPOCHS for eta in FACTORS]


def layout(bracket):
    return bracket.number, [(each.size, each.epochs) for each in bracket.rounds]


# ---- the plan


def test_plan_is_the_published_schedule():
    # https://mlr3hyperband.mlr-org.com/reference/mlr_tuners_hyperband.html: eta = 2, r_min = 1, r_max = 8.
    published = [
        (3, [(8, 1), (4, 2), (2, 4), (1, 8)]),
        (2, [(6, 2), (3, 4), (1, 8)]),
        (1, [(4, 4), (2, 8)]),
        (0, [(4, 8)]),
    ]
    trials = 15 + 10 + 6 + 4
    assert [layout(bracket) for bracket in plan(trials, max_epochs=8, factor=2)] == published
    assert [layout(bracket) for bracket in plan(2 * trials, max_epochs=8, factor=2)] == 2 * published


def test_plan_uses_the_budget_exactly_and_never_grows_a_round():
    for n, r, eta in LAYOUTS:
        brackets = plan(n, r, eta)
        assert sum(each.size for bracket in brackets for each in bracket.rounds) == n, (n, r, eta)
        for bracket in brackets:
            sizes = [each.size for each in bracket.rounds]
            assert min(sizes) >= 1, (n, r, eta)
            assert all(2 * after <= before for before, after in pairwise(sizes)), (n, r, eta, sizes)


def test_every_bracket_multiplies_its_epochs_by_the_factor_up_to_max_epochs():
    for n, r, eta in LAYOUTS:
        for bracket in plan(n, r, eta):
            last = len(bracket.rounds) - 1
            assert bracket.number == last
            for i, each in enumerate(bracket.rounds):
                assert each.epochs == math.ceil(round(r / eta ** (last - i), 9)), (n, r, eta)
            assert bracket.rounds[-1].epochs == r


def test_only_the_last_bracket_is_cut_short():
    for r, eta in [(3, 2), (9, 3), (27, 2), (100, 4)]:
        whole = plan(5000, r, eta)
        for n in BUDGETS:
            *full, _ = plan(n, r, eta)
            assert full == whole[: len(full)], (n, r, eta)


def test_total_epochs_counts_continued_training_once():
    # 9 x 1 epoch, 3 go on from 1 to 3, 1 goes on from 3 to 9.
    bracket = Bracket(2, (Round(9, 1), Round(3, 3), Round(1, 9)))
    assert bracket.total_epochs == 9 * 1 + 3 * 2 + 1 * 6
    assert total_epochs([bracket, Bracket(0, (Round(2, 9),))]) == 21 + 18


def test_deepest_bracket_is_exact_at_powers_of_the_factor():
    assert plan(1000, 243, 3)[0].number == 5  # math.log(243, 3) is 4.999...
    assert plan(1000, 242, 3)[0].number == 4


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("trials", (0, 9, 3)), ("trials", (2.5, 9, 3)), ("max_epochs", (5, 0, 3)), ("factor", (5, 9, 1))],
)
def test_bad_numbers_are_named(name, arguments):
    with pytest.raises(ValueError, match=f"^{name} = .* must be an integer, at least"):
        plan(*arguments)


def test_a_plan_that_goes_on_keeps_its_brackets_and_is_that_of_the_start_where_a_bracket_ends():
    for n, r, eta in LAYOUTS[::7]:
        for more in (1, 5, 40):
            grown, before = extended([n, n + more], r, eta), plan(n, r, eta)
            assert sum(bracket.trials for bracket in grown) == n + more
            assert max(bracket.number for bracket in grown) == 0 or grown[: len(before)] == before
    whole = plan(200, 9, 3)
    for end in range(1, 8):
        n = sum(bracket.trials for bracket in whole[:end])
        assert extended([n, 200], 9, 3) == whole
    # 13 trials are a bracket, 15 are not: the second one comes again, whole
    assert extended([15, 30], 9, 3)[:3] == [*plan(15, 9, 3), plan(30, 9, 3)[1]]


def test_a_plan_does_not_shrink():
    with pytest.raises(ValueError, match="must grow"):
        extended([6, 3], 9, 3)


# ---- driving the oracle


def continuous_space():
    hp = keras_tuner.HyperParameters()
    hp.Float("x", 0.0, 1.0)
    hp.Float("learning_rate", 1e-5, 1e-1, sampling="log")
    return hp


def discrete_space(size):
    hp = keras_tuner.HyperParameters()
    hp.Int("k", 1, size)
    return hp


def make(n=20, r=9, eta=3, seed=1, space=None, direction="min", **kwargs):
    return BudgetedHyperband(
        keras_tuner.Objective("loss", direction),
        max_trials=n,
        max_epochs=r,
        factor=eta,
        seed=seed,
        hyperparameters=space or continuous_space(),
        **kwargs,
    )


def loss(trial):
    """A synthetic figure of merit that improves with training, and whose ranking changes meanwhile."""
    values = trial.hyperparameters.values
    rest = values.get("x", values.get("k", 0))
    return abs(rest - 0.3) + math.sin(40 * rest) / values["tuner/epochs"]


def finish(oracle, trial, value):
    """End a trial as KerasTuner's Tuner does; value None is a crash."""
    if value is None:
        trial.status = "INVALID"
    else:
        oracle.update_trial(trial.trial_id, {"loss": value})
        trial.status = "COMPLETED"
    oracle.end_trial(trial)


def run(oracle, workers=1, chance=None, failures=0.0, objective=loss):
    """Run to the end with workers that finish in random order; return the values given out, by trial id."""
    chance = chance or random.Random(0)
    running, given, stopped = {}, {}, False
    while True:
        idle = [worker for worker in range(workers) if worker not in running]
        for worker in idle:
            trial = oracle.create_trial(f"worker{worker}")
            if trial.status == "RUNNING":
                running[worker] = trial
                given[trial.trial_id] = dict(trial.hyperparameters.values)
            else:
                assert running or trial.status == "STOPPED", "idle for ever"
                stopped = trial.status == "STOPPED"
        if not running:
            assert stopped
            return given
        trial = running.pop(chance.choice(sorted(running)))
        finish(oracle, trial, None if chance.random() < failures else objective(trial))


def is_promoted(trial):
    return "tuner/trial_id" in trial.hyperparameters.values


def tried(trial):
    return {k: v for k, v in trial.hyperparameters.values.items() if not k.startswith("tuner/")}


def rounds_of(oracle):
    """The trials of every round of every bracket, with the plan's own entry, checked for completeness."""
    seen = []
    for bracket, book in zip(oracle.plan, oracle.get_state()["brackets"], strict=True):
        rounds = [[oracle.trials[entry["id"]] for entry in each] for each in book["rounds"]]
        seen += [trial.trial_id for each in rounds for trial in each]
        yield bracket, rounds
    assert sorted(seen) == sorted(oracle.trials)


def check_followed_the_plan(oracle, sign=1):
    assert len(oracle.trials) == sum(bracket.trials for bracket in oracle.plan)
    assert sorted(oracle.end_order) == sorted(oracle.trials)
    for bracket, rounds in rounds_of(oracle):
        for i, (planned, trials) in enumerate(zip(bracket.rounds, rounds, strict=True)):
            assert len(trials) == planned.size
            for trial in trials:
                values = trial.hyperparameters.values
                start = bracket.rounds[i - 1].epochs if is_promoted(trial) else 0
                assert (values["tuner/initial_epoch"], values["tuner/epochs"]) == (start, planned.epochs)
                assert (values["tuner/bracket"], values["tuner/round"]) == (bracket.number, i)
            if i:
                check_promoted_the_best(rounds[i - 1], trials, planned.size, sign)
    fresh = [str(sorted(tried(trial).items())) for trial in oracle.trials.values() if not is_promoted(trial)]
    assert len(set(fresh)) == len(fresh)


def check_promoted_the_best(before, after, size, sign):
    completed = [trial for trial in before if trial.status == "COMPLETED"]
    best = sorted(completed, key=lambda trial: (sign * trial.score, trial.trial_id))[:size]
    promoted = [trial for trial in after if is_promoted(trial)]
    origins = [trial.hyperparameters.values["tuner/trial_id"] for trial in promoted]
    assert sorted(origins) == sorted(trial.trial_id for trial in best)
    origin = {trial.trial_id: tried(trial) for trial in before}
    assert [tried(trial) for trial in promoted] == [origin[name] for name in origins]


# ---- budget and promotion


@pytest.mark.parametrize("workers", [1, 4, 13])
def test_exactly_the_planned_trials_run_and_the_best_are_promoted(workers):
    chance = random.Random(workers)
    for n in [*range(1, 61), 200]:
        r, eta, direction = chance.choice(EPOCHS), chance.choice(FACTORS), chance.choice(["min", "max"])
        oracle = make(n, r, eta, direction=direction, seed=n)
        run(oracle, workers, chance)
        assert {trial.status for trial in oracle.trials.values()} == {"COMPLETED"}
        assert replacements(oracle) == 0
        check_followed_the_plan(oracle, sign=-1 if direction == "max" else 1)


def replacements(oracle):
    """The number of fresh configurations in places meant for promoted ones."""
    later = [trial for _, rounds in rounds_of(oracle) for each in rounds[1:] for trial in each]
    return sum(not is_promoted(trial) for trial in later)


@pytest.mark.parametrize("failures", [0.3, 0.6, 0.9, 1.0])
def test_failed_trials_are_never_promoted_and_their_budget_is_used(failures):
    chance = random.Random(int(10 * failures))
    replaced = 0
    for n in [*range(1, 61, 3), 200]:
        oracle = make(n, chance.choice(EPOCHS[2:]), chance.choice(FACTORS))
        run(oracle, chance.choice([1, 3, 8]), chance, failures)
        check_followed_the_plan(oracle)
        replaced += replacements(oracle)
        if failures == 1.0:
            assert not any(map(is_promoted, oracle.trials.values()))
    assert replaced > 0


def test_a_score_that_is_not_a_number_is_never_promoted():
    oracle = make(40, 9, 3)
    run(oracle, objective=lambda trial: math.nan if trial.hyperparameters["x"] < 0.5 else loss(trial))
    check_followed_the_plan(oracle)
    assert {t.status for t in oracle.trials.values() if t.hyperparameters["x"] < 0.5} == {"FAILED"}
    assert all(t.hyperparameters["x"] >= 0.5 for t in oracle.trials.values() if is_promoted(t))


def test_ties_are_broken_by_trial_id():
    oracle = make(13, 9, 3)
    run(oracle, workers=5, objective=lambda trial: 1.0)
    origins = [t.hyperparameters.values["tuner/trial_id"] for t in oracle.trials.values() if is_promoted(t)]
    assert sorted(origins)[:3] == ["0000", "0001", "0002"]


def test_failures_in_a_row_do_not_end_the_search_unless_asked():
    oracle = make(20)
    run(oracle, failures=1.0)
    assert len(oracle.end_order) == 20
    with pytest.raises(RuntimeError, match="consecutive failures"):
        run(make(20, max_consecutive_failed_trials=3), failures=1.0)


def test_it_prints_nothing(capsys):
    run(make(20), failures=0.5)
    assert capsys.readouterr() == ("", "")


# ---- workers


def test_no_worker_idles_while_a_later_bracket_has_work():
    oracle = make(22, 9, 3)  # 9-3-1, 5-1, 3: all seventeen first-round trials can run at once
    trials = [oracle.create_trial(f"worker{i}") for i in range(18)]
    assert [trial.status for trial in trials] == 17 * ["RUNNING"] + ["IDLE"]
    assert [trial.hyperparameters["tuner/epochs"] for trial in trials[:17]] == 9 * [1] + 5 * [3] + 3 * [9]


def test_a_sure_promotion_does_not_wait_for_the_rest_of_its_round():
    oracle = make(13, 9, 3)
    trials = [oracle.create_trial(f"worker{i}") for i in range(9)]
    for i, trial in enumerate(trials[:6]):
        finish(oracle, trial, 1.0 + i)
    assert oracle.create_trial("next").status == "IDLE"  # three unknown may all be better
    finish(oracle, trials[6], 0.5)
    promoted = oracle.create_trial("next")
    assert promoted.hyperparameters["tuner/trial_id"] == trials[6].trial_id


def test_a_worker_that_asks_twice_gets_its_own_trial_again():
    oracle = make(13, 9, 3)
    assert oracle.create_trial("a") is oracle.create_trial("a")
    assert len(oracle.trials) == 1


def test_a_completed_trial_that_is_not_scored_yet_is_waited_for():
    oracle = make(3, 3, 3)
    first, second = oracle.create_trial("a"), oracle.create_trial("b")
    first.status = second.status = "COMPLETED"  # as a Tuner does in its own thread, before end_trial
    assert oracle.create_trial("c").status == "IDLE"


# ---- exhausted spaces


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_an_exhausted_space_ends_early_and_says_so(size, workers):
    oracle = make(40, 27, 3, space=discrete_space(size))
    run(oracle, workers, random.Random(size))
    fresh = [trial.hyperparameters["k"] for trial in oracle.trials.values() if not is_promoted(trial)]
    assert sorted(fresh) == list(range(1, size + 1))
    assert oracle.exhausted
    # All of 27 -> 9 -> 3 -> 1 that so few configurations can fill.
    assert len(oracle.trials) == size + min(size, 9) + min(size, 3) + 1
    assert len(oracle.end_order) == len(oracle.trials)


def test_a_space_with_just_enough_configurations_is_searched_to_the_last():
    for seed in range(10):
        oracle = make(40, 27, 3, seed=seed, space=discrete_space(27))
        run(oracle)
        assert len(oracle.trials) == 40
        assert not oracle.exhausted


def test_a_space_without_hyperparameters_runs_its_one_configuration():
    oracle = make(5, 1, space=keras_tuner.HyperParameters())
    run(oracle, objective=lambda trial: 1.0)
    assert len(oracle.trials) == 1
    assert oracle.exhausted


def test_a_hyperparameter_found_on_the_way_reopens_an_exhausted_space():
    oracle = make(8, 1, space=discrete_space(2))
    trials = [oracle.create_trial(f"worker{i}") for i in range(3)]
    assert [trial.status for trial in trials] == ["RUNNING", "RUNNING", "IDLE"]
    assert oracle.exhausted
    trials[0].hyperparameters.Float("found", 0.0, 1.0)
    finish(oracle, trials[0], 1.0)
    assert not oracle.exhausted
    finish(oracle, trials[1], 1.0)
    run(oracle)
    assert len(oracle.trials) == 8


# ---- more trials


def configured(oracle):
    """The trials of every round by their place in the plan: those of first rounds with names, the promoted of a round as a set."""
    found = {}
    for position, (_, rounds) in enumerate(rounds_of(oracle)):
        for index, trials in enumerate(rounds):
            found[position, index] = {
                (trial.trial_id if index == 0 else "", *sorted(tried(trial).items())) for trial in trials
            }
    return found


def goes_on(before, n, **options):
    """An oracle that is given more trials, restored from those that an earlier one did, as `tuning.engine` does."""
    oracle = make(n, before=[len(before.trials)], **options)
    while oracle.create_trial(f"start {len(oracle.trials)}").status == "RUNNING":
        pass
    for name in sorted(set(before.trials) - set(oracle.trials)):
        trial = before.trials[name]
        oracle.restore_trial(name, trial.hyperparameters.values, *before.position_of(name))
    for name, trial in before.trials.items():
        assert oracle.trials[name].hyperparameters.values == trial.hyperparameters.values
        finish(oracle, oracle.trials[name], trial.score)
    oracle.ongoing_trials = {
        f"worker{i}": trial for i, trial in enumerate(t for t in oracle.trials.values() if t.status == "RUNNING")
    }
    running = dict(oracle.ongoing_trials)
    for trial in running.values():
        finish(oracle, trial, loss(trial))
    run(oracle)
    return oracle


@pytest.mark.parametrize("boundary", [13, 19, 22])
def test_a_search_that_goes_on_after_a_whole_bracket_is_the_longer_search_from_the_start(boundary):
    first = make(boundary)
    run(first)
    longer, from_start = goes_on(first, 40), make(40)
    run(from_start)
    assert configured(longer) == configured(from_start)


@pytest.mark.parametrize("n, total", [(3, 6), (10, 30), (15, 22)])
def test_a_search_that_goes_on_keeps_its_trials_and_draws_what_a_longer_one_draws(n, total):
    first = make(n)
    run(first)
    longer, from_start = goes_on(first, total), make(total)
    run(from_start)
    check_followed_the_plan(longer)
    assert len(longer.trials) == total

    def fresh(oracle):
        return [tried(oracle.trials[name]) for name in sorted(oracle.trials) if not is_promoted(oracle.trials[name])]

    both = min(len(fresh(longer)), len(fresh(from_start)))
    assert both > 1 and fresh(longer)[:both] == fresh(from_start)[:both]


def test_names_do_not_depend_on_how_many_trials_there_are():
    short, long = make(13), make(500)
    run(short), run(long)
    assert configured(short).items() <= configured(long).items()
    assert sorted(short.trials) == sorted(long.trials)[:13] == [f"{number:04d}" for number in range(13)]


def test_a_failed_trials_substitute_changes_no_configuration_that_is_to_come():
    def first_rounds(failures):
        oracle = make(40, 9, 3)
        run(oracle, failures=failures)
        return [tried(trials[0][i]) for _, trials in rounds_of(oracle) for i in range(len(trials[0]))]

    assert first_rounds(0.0) == first_rounds(0.8)


# ---- seeds


def configurations(seed, workers=1):
    oracle = make(30, 9, 3, seed=seed)
    run(oracle, workers)
    return [(trial.trial_id, trial.hyperparameters.values) for trial in oracle.trials.values()]


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_the_same_seed_gives_the_same_search(seed):
    random.seed(1)
    first = configurations(seed)
    random.seed(2)
    assert configurations(seed) == first


def test_different_seeds_share_no_value():
    def values(seed):
        return {v["x"] for _, v in configurations(seed)}

    assert not values(0) & values(1)
    assert not values(1) & values(2)
    assert not values(3) & values(5)
