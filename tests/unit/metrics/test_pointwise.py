import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk
import torch

from graftrec.metrics.pointwise import Value, binary, classes, numbers

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


def test_ece_by_hand():
    found = binary(torch.tensor([0.1, 0.1, 0.9, 0.9]), torch.tensor([0.0, 1.0, 1.0, 1.0]))
    assert found["ece"].value == pytest.approx((0.4 + 0.1) / 2, abs=1e-6)


def test_undefined_binary_values_say_why():
    half = torch.full((812,), 0.5)
    assert binary(half, torch.zeros(812))["auc"] == Value(None, "0 positives of 812 rows")
    assert binary(half, torch.ones(812))["auc"] == Value(None, "0 negatives of 812 rows")
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
    assert numbers(torch.zeros(1), torch.ones(1))["rmse"].value == 1.0
