import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
import torch

from graftrec.tasks.metrics.pointwise import Value, binary, classes, grouped_auc, numbers, ordered, xauc

torch.set_num_threads(1)


@pytest.fixture
def generator():
    return np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_binary_agrees_with_sklearn(generator, dtype):
    prob = torch.tensor(generator.integers(0, 40, 500) / 40, dtype=dtype)  # ties, 0 too
    label = torch.tensor(generator.random(500) < prob.numpy(), dtype=dtype)
    found = binary(prob, label)
    p, y = prob.double().numpy(), label.numpy()
    assert found["auc"].value == pytest.approx(sk.roc_auc_score(y, p), abs=1e-6)
    assert found["log_loss"].value == pytest.approx(sk.log_loss(y, p), abs=1e-6)
    assert found["accuracy"].value == pytest.approx(sk.accuracy_score(y, p > 0.5), abs=1e-6)
    assert found["ap"].value == pytest.approx(sk.average_precision_score(y, p), abs=1e-6)
    assert found["precision"].value == pytest.approx(sk.precision_score(y, p > 0.5))
    assert found["recall"].value == pytest.approx(sk.recall_score(y, p > 0.5))
    assert found["f1"].value == pytest.approx(sk.f1_score(y, p > 0.5))
    assert found["copc"].value == pytest.approx(y.sum() / p.sum())


def test_ece_by_hand():
    found = binary(torch.tensor([0.1, 0.1, 0.9, 0.9]), torch.tensor([0.0, 1.0, 1.0, 1.0]))
    assert found["ece"].value == pytest.approx((0.4 + 0.1) / 2, abs=1e-6)


def test_undefined_binary_values_say_why():
    half = torch.full((812,), 0.5)
    assert binary(half, torch.zeros(812))["auc"] == Value(None, "0 positives of 812 rows")
    assert binary(half, torch.ones(812))["auc"] == Value(None, "0 negatives of 812 rows")
    assert binary(half, torch.zeros(812))["ap"] == binary(half, torch.zeros(812))["f1"]
    assert binary(half, torch.zeros(812))["ap"] == Value(None, "0 positives of 812 rows")
    assert binary(half, torch.ones(812))["precision"] == Value(None, "0 of 812 probabilities above 0.5")
    assert binary(half, torch.ones(812))["recall"].value == binary(half, torch.ones(812))["f1"].value == 0
    assert binary(half * 0, torch.ones(812))["copc"] == Value(None, "812 probabilities of 0")
    assert binary(half, torch.zeros(812))["log_loss"].value == pytest.approx(np.log(2))
    assert set(binary(half[:0], half[:0]).values()) == {Value(None, "0 rows")}
    assert set(binary(half, torch.full((812,), torch.nan)).values()) == {Value(None, "0 rows")}


def test_missing_labels_are_left_out():
    nan = torch.nan
    prob, label = torch.tensor([0.2, 0.9, 0.4, 0.6]), torch.tensor([0.0, 1.0, nan, 0.0])
    assert binary(prob, label) == binary(prob[[0, 1, 3]], label[[0, 1, 3]])
    assert numbers(prob, label) == numbers(prob[[0, 1, 3]], label[[0, 1, 3]])
    each, answer = torch.eye(7)[[0, 1, 2]], torch.tensor([0, -1, 3])
    assert classes(each, answer) == classes(each[[0, 2]], answer[[0, 2]])


@pytest.mark.parametrize("bad", [1.5, -0.1, torch.nan])
def test_what_is_no_probability_is_refused(bad):
    with pytest.raises(ValueError, match="probabilities, not logits"):
        binary(torch.tensor([0.5, bad]), torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="probabilities, not logits"):
        classes(torch.tensor([[0.5, bad]]), torch.tensor([0]))


def test_labels_and_shapes_are_checked():
    with pytest.raises(ValueError, match="a binary label"):
        binary(torch.tensor([0.5]), torch.tensor([2.0]))
    with pytest.raises(ValueError, match=r"a label is -1 or in \[0, 2\)"):
        classes(torch.tensor([[0.5, 0.5]]), torch.tensor([2]))
    with pytest.raises(ValueError, match="labels"):
        numbers(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match="not finite"):
        numbers(torch.tensor([torch.inf]), torch.zeros(1))


def test_classes_agree_with_sklearn(generator):
    prob = generator.dirichlet(np.ones(9), 300)
    label = generator.integers(0, 7, 300)  # classes 7 and 8 are predicted, never seen
    found = classes(torch.tensor(prob), torch.tensor(label))
    guess, seen = prob.argmax(1), np.unique(label)
    options = {"labels": seen, "average": "macro", "zero_division": 0}
    assert found["accuracy"].value == pytest.approx(sk.accuracy_score(label, guess))
    assert found["recall_macro"].value == pytest.approx(sk.recall_score(label, guess, **options))
    assert found["f1_macro"].value == pytest.approx(sk.f1_score(label, guess, **options))
    assert found["precision_macro"].value == pytest.approx(sk.precision_score(label, guess, **options))
    expected = sk.top_k_accuracy_score(label, prob, k=5, labels=np.arange(9))
    assert found["recall@5"].value == pytest.approx(expected)


def test_few_classes_and_ties():
    third = torch.full((4, 3), 1 / 3)
    assert classes(third, torch.zeros(4, dtype=torch.int64))["recall@5"].reason is not None
    tied = classes(torch.full((4, 10), 0.1), torch.zeros(4, dtype=torch.int64))
    assert tied["recall@5"].value == pytest.approx(0.5)
    assert set(classes(third[:0], torch.zeros(0, dtype=torch.int64)).values()) == {Value(None, "0 rows")}
    assert set(classes(third[:, :1], torch.zeros(4, dtype=torch.int64)).values()) == {Value(None, "only 1 class")}


def test_numbers_agree_with_sklearn_and_scipy(generator):
    label = generator.integers(0, 5, 400).astype(float)
    prediction = np.round(label + generator.normal(size=400), 1)
    found = numbers(torch.tensor(prediction), torch.tensor(label))
    assert found["rmse"].value == pytest.approx(sk.root_mean_squared_error(label, prediction))
    assert found["mae"].value == pytest.approx(sk.mean_absolute_error(label, prediction))
    assert found["spearman"].value == pytest.approx(scipy.stats.spearmanr(label, prediction).statistic)
    assert found["r2"].value == pytest.approx(sk.r2_score(label, prediction))


@pytest.mark.parametrize("scale", [3e-4, 1e-12, 1e9])
def test_r2_of_small_and_large_numbers(generator, scale):
    """A library's absolute tolerance once made 1.0 of a model that is worse than the mean."""
    label = torch.from_numpy(generator.random(400)) * scale
    prediction = torch.full_like(label, float(label.mean()) + scale / 3)
    found = numbers(prediction, label)["r2"].value
    assert found == pytest.approx(sk.r2_score(label.numpy(), prediction.numpy()))
    assert found < 0


def test_spearman_with_many_equal_values(generator):
    label = np.zeros(200_000)
    label[:1000] = generator.integers(1, 9, 1000)
    prediction = label + np.round(generator.random(200_000), 1)
    expected = scipy.stats.spearmanr(label, prediction).statistic
    assert numbers(torch.tensor(prediction), torch.tensor(label))["spearman"].value == pytest.approx(expected)


def test_undefined_numbers_say_why():
    assert set(numbers(torch.zeros(0), torch.zeros(0)).values()) == {Value(None, "0 rows")}
    assert numbers(torch.zeros(3), torch.arange(3.0))["spearman"] == Value(None, "constant prediction in 3 rows")
    assert numbers(torch.arange(3.0), torch.zeros(3))["spearman"] == Value(None, "constant label in 3 rows")
    assert numbers(torch.arange(3.0), torch.zeros(3))["r2"] == Value(None, "constant label in 3 rows")
    assert numbers(torch.zeros(1), torch.ones(1))["rmse"].value == 1.0


@pytest.mark.parametrize("spread", [3, 40])
def test_gauc_is_the_mean_of_users(generator, spread):
    user = generator.integers(1, 30, 400)
    prob = generator.integers(0, spread, 400) / 40  # ties
    label = (generator.random(400) < prob).astype(float)
    label[user < 6] = 1  # users of one class
    label[:7], user[7:9] = np.nan, 0  # neither is there for anybody
    found = grouped_auc(torch.tensor(prob), torch.tensor(label), torch.tensor(user))
    kept = (user != 0) & ~np.isnan(label)
    again = [user[kept] == one for one in np.unique(user[kept])]
    both = [own for own in again if 0 < label[kept][own].mean() < 1]
    expected = sum(own.sum() * sk.roc_auc_score(label[kept][own], prob[kept][own]) for own in both)
    rows = sum(own.sum() for own in both)
    assert found["gauc"].value == pytest.approx(expected / rows, abs=1e-12)
    assert found["gauc_coverage"].value == pytest.approx(rows / kept.sum())
    assert 0 < rows < kept.sum()


def test_undefined_gauc_says_why():
    half, user = torch.full((3,), 0.5), torch.tensor([1, 1, 2])
    assert grouped_auc(half, torch.ones(3), user) == {
        "gauc": Value(None, "0 of 2 users have both classes"),
        "gauc_coverage": Value(0.0),
    }
    assert set(grouped_auc(half, torch.ones(3), user * 0).values()) == {Value(None, "0 rows with a user")}


@pytest.mark.parametrize("sizes", [(1, 1), (5, 3), (3, 50), (1000, 1000), (2, 2)])
def test_xauc_by_pairs(generator, sizes):
    prediction, label = (generator.integers(0, size, 300) / 7 for size in sizes)
    label[:5] = np.nan
    found = xauc(torch.tensor(prediction), torch.tensor(label))
    p, y = prediction[5:], label[5:]
    less = y[:, None] < y[None]
    right = (less & (p[:, None] < p[None])).sum() + (less & (p[:, None] == p[None])).sum() / 2
    if less.any():
        assert found.value == pytest.approx(right / less.sum(), abs=1e-12)
    else:
        assert found == Value(None, "constant label in 295 rows")


def test_xauc_of_a_binary_label_is_auc(generator):
    prediction, label = generator.random(500), generator.integers(0, 2, 500)
    expected = sk.roc_auc_score(label, prediction)
    assert xauc(torch.tensor(prediction), torch.tensor(label).float()).value == pytest.approx(expected, abs=1e-12)
    assert xauc(torch.zeros(0), torch.zeros(0)) == Value(None, "0 rows")


def test_ordered_classes_agree_with_sklearn(generator):
    prob, label = generator.dirichlet(np.ones(5), 200), generator.integers(0, 5, 200)
    found = ordered(torch.tensor(prob), torch.tensor(label))
    guess = (prob.cumsum(1)[:, :-1] < 0.5).sum(1)  # the median
    assert found["accuracy"].value == pytest.approx(sk.accuracy_score(label, guess))
    assert found["mae"].value == pytest.approx(sk.mean_absolute_error(label, guess))
    assert found["kappa"].value == pytest.approx(sk.cohen_kappa_score(label, guess, weights="quadratic"), abs=1e-6)
    expected = scipy.stats.spearmanr(prob @ np.arange(5), label).statistic
    assert found["spearman"].value == pytest.approx(expected)


def test_undefined_ordered_values_say_why():
    sure = torch.tensor([[0.0, 1.0, 0.0]]).expand(4, -1)
    found = ordered(sure, torch.ones(4, dtype=torch.int64))
    assert found["mae"].value == 0
    assert found["kappa"] == Value(None, "one and the same class predicted and true in 4 rows")
    assert found["spearman"].reason is not None
    assert set(ordered(sure[:0], torch.zeros(0, dtype=torch.int64)).values()) == {Value(None, "0 rows")}
    with pytest.raises(ValueError, match=r"a label is -1 or in \[0, 3\)"):
        ordered(sure, torch.full((4,), 3))
