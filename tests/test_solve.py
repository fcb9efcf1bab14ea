"""The operator is the minimum of Eq. 4, and everything that follows from that."""

import pytest
import torch

from timecli.editing.solve import Operator, apply, inverse, solve

LAM = 0.3


@pytest.fixture
def problem() -> dict[str, torch.Tensor]:
    """12 tokens of width 8, the first unchanged, and a matrix."""
    random = torch.Generator().manual_seed(0)
    source = torch.randn(12, 8, generator=random, dtype=torch.float64)
    destination = source + 0.5 * torch.randn(12, 8, generator=random, dtype=torch.float64)
    destination[0] = source[0]
    weight = torch.full((12,), 1 / LAM, dtype=torch.float64)
    return {
        "source": source,
        "destination": destination,
        "weight": weight,
        "matrix": torch.randn(5, 8, generator=random).double(),
    }


def objective(edited: torch.Tensor, p: dict[str, torch.Tensor], lam: float = LAM) -> torch.Tensor:
    """Eq. 4 for one matrix."""
    misses = p["source"] @ edited.T - p["destination"] @ p["matrix"].T
    return misses.square().sum() + lam * (edited - p["matrix"]).square().sum()


def gradient(edited: torch.Tensor, p: dict[str, torch.Tensor]) -> float:
    edited = edited.clone().requires_grad_()
    (found,) = torch.autograd.grad(objective(edited, p), edited)
    return found.norm().item()


def once(source: torch.Tensor, destination: torch.Tensor, weight: torch.Tensor) -> Operator:
    return solve([(source, destination, weight)])


def solved(p: dict[str, torch.Tensor]) -> Operator:
    return once(p["source"], p["destination"], p["weight"])


def per_layer(p: dict[str, torch.Tensor], lam: float) -> torch.Tensor:
    """Eq. 5 as the paper writes it: sums of outer products and an explicit inverse."""
    left, right = lam * p["matrix"], lam * torch.eye(8, dtype=torch.float64)
    for c, c_star in zip(p["source"], p["destination"], strict=True):
        left = left + torch.outer(p["matrix"] @ c_star, c)
        right = right + torch.outer(c, c)
    return left @ torch.linalg.inv(right)


def test_half_way() -> None:
    operator = once(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([1.0]))
    assert torch.allclose(operator.left @ operator.right, torch.tensor([[-0.5, 0.0], [0.5, 0.0]]), atol=1e-7)
    assert operator.rank == 1
    assert operator.condition == pytest.approx(2.0)


def test_gradient_vanishes_at_the_edit_and_nowhere_near(problem: dict[str, torch.Tensor]) -> None:
    edited = apply(problem["matrix"], solved(problem))
    assert gradient(edited, problem) < 1e-5
    assert gradient(problem["matrix"], problem) > 1
    assert gradient(edited + 1e-3, problem) > 1e-3


@pytest.mark.parametrize("lam", [1e4, 1.0, 1e-2, 1e-4, 1e-6])
def test_equals_the_paper_per_layer(problem: dict[str, torch.Tensor], lam: float) -> None:
    problem["weight"] = torch.full((12,), 1 / lam)
    expected, found = per_layer(problem, lam), apply(problem["matrix"], solved(problem))
    assert (found - expected).norm() / expected.norm() < 1e-6
    assert (found - per_layer(problem, 2 * lam)).norm() > 1e-9 * expected.norm(), (
        "the comparison would not notice another lambda"
    )


def test_several_lambdas_and_preserved_tokens_equal_a_weighted_eq_5(problem: dict[str, torch.Tensor]) -> None:
    """Eq. 4 with 1/λ_i before every pair's sum, divided by λ; a preserved token is its own target."""
    random = torch.Generator().manual_seed(3)
    weight = 10 ** torch.empty(12, dtype=torch.float64).uniform_(-3, 3, generator=random)
    problem["destination"][8:] = problem["source"][8:]
    left, right = problem["matrix"], torch.eye(8, dtype=torch.float64)
    for c, c_star, w in zip(problem["source"], problem["destination"], weight, strict=True):
        left = left + w * torch.outer(problem["matrix"] @ c_star, c)
        right = right + w * torch.outer(c, c)
    expected = left @ torch.linalg.inv(right)
    found = apply(problem["matrix"], once(problem["source"], problem["destination"], weight))
    assert (found - expected).norm() / expected.norm() < 1e-6
    other = apply(problem["matrix"], once(problem["source"], problem["destination"], weight.flip(0)))
    assert (other - expected).norm() / expected.norm() > 1e-3, "the control: weights matter"


def test_rank_is_at_most_the_changed_tokens(problem: dict[str, torch.Tensor]) -> None:
    problem["destination"][3:] = problem["source"][3:]
    assert solved(problem).rank == 2


def test_no_change_is_no_operator(problem: dict[str, torch.Tensor]) -> None:
    assert once(problem["source"], problem["source"], problem["weight"]).rank == 0


def test_a_small_change_beside_a_large_one_is_made() -> None:
    """Down to what float32 tells from rounding; what is smaller would be a column of noise in every delta."""
    large, small = torch.eye(4, dtype=torch.float64)[:2]
    for size, rank in ((1e-6, 2), (1e-10, 1)):
        change = torch.stack([large.roll(2), size * small.roll(2)])
        source = torch.stack([large, small])
        operator = once(source, source + change, torch.ones(2))
        assert operator.rank == rank, size
        if rank == 2:
            assert operator.shift(small).tolist() == pytest.approx([0, 0, 0, size / 2], rel=1e-5)


def test_order_of_pairs_does_not_matter(problem: dict[str, torch.Tensor]) -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    shuffled = {**problem, **{key: problem[key][order] for key in ("source", "destination", "weight")}}
    assert torch.allclose(
        apply(problem["matrix"], solved(problem)), apply(problem["matrix"], solved(shuffled)), atol=1e-6
    )


def test_smaller_lambda_of_one_pair_brings_that_pair_closer(problem: dict[str, torch.Tensor]) -> None:
    def miss(weight: torch.Tensor) -> float:
        operator = once(problem["source"], problem["destination"], weight)
        c, c_star = problem["source"][1], problem["destination"][1]
        return (c + operator.shift(c) - c_star).norm().item()

    stronger = problem["weight"].clone()
    stronger[1] = 1 / 1e-6
    assert miss(stronger) < 0.1 * miss(problem["weight"])


def test_preserved_token_stays(problem: dict[str, torch.Tensor]) -> None:
    kept = torch.randn(1, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def shift(weight: float) -> float:
        rows = [torch.cat([problem[key], kept]) for key in ("source", "destination")]
        return once(*rows, torch.cat([problem["weight"], torch.tensor([weight])])).shift(kept).norm().item()

    assert shift(1e6) < 0.05 * shift(1e-6)


def test_blocks_are_one_solve(problem: dict[str, torch.Tensor]) -> None:
    parts = [tuple(problem[key][i : i + 5] for key in ("source", "destination", "weight")) for i in (0, 5, 10)]
    one, other = solved(problem), solve(parts)  # type: ignore[arg-type]
    assert torch.allclose(one.left @ one.right, other.left @ other.right, atol=1e-6)
    assert one.condition == pytest.approx(other.condition)
    fewer = solve(parts[:2])  # type: ignore[arg-type]
    assert not torch.allclose(one.left @ one.right, fewer.left @ fewer.right, atol=1e-3), "the control"


def test_large_lambda_changes_nothing(problem: dict[str, torch.Tensor]) -> None:
    problem["weight"] = torch.full((12,), 1e-12)
    assert torch.allclose(apply(problem["matrix"], solved(problem)), problem["matrix"], atol=1e-9)


def test_strength(problem: dict[str, torch.Tensor]) -> None:
    operator, matrix = solved(problem), problem["matrix"]
    assert torch.equal(apply(matrix, operator, 0.0), matrix)
    assert torch.allclose(apply(matrix, operator, 0.5), (matrix + apply(matrix, operator)) / 2)


def test_a_bias_cancels(problem: dict[str, torch.Tensor]) -> None:
    """With a bias on both sides of Eq. 3 the minimum over the matrix is the same."""
    bias = torch.ones(5, dtype=torch.float64)
    edited = apply(problem["matrix"], solved(problem)).requires_grad_()
    misses = (problem["source"] @ edited.T + bias) - (problem["destination"] @ problem["matrix"].T + bias)
    loss = misses.square().sum() + LAM * (edited - problem["matrix"]).square().sum()
    (found,) = torch.autograd.grad(loss, edited)
    assert found.norm() < 1e-5


@pytest.mark.parametrize("strength", [1.0, 0.5, -0.7, 2.0])
def test_the_inverse_takes_an_edit_back(problem: dict[str, torch.Tensor], strength: float) -> None:
    operator, matrix = solved(problem), problem["matrix"]
    edited = apply(matrix, operator, strength)
    assert (apply(edited, inverse(operator, strength)) - matrix).norm() / matrix.norm() < 1e-5
    assert inverse(operator, strength).rank == operator.rank
    for other in (apply(edited, operator, -strength), apply(edited, inverse(operator, strength / 2))):
        assert (other - matrix).norm() / (edited - matrix).norm() > 0.05, "the control: nothing else does"


def test_what_an_edit_took_away_cannot_be_brought_back() -> None:
    """c = (1, 0) is sent to nothing: I + D is singular."""
    operator = Operator(torch.tensor([[-1.0], [0.0]]), torch.tensor([[1.0, 0.0]]), 1.0)
    assert apply(torch.eye(2), inverse(operator, 0.5))[0, 0] == pytest.approx(2.0), "the control"
    with pytest.raises(ValueError, match="cannot be taken back"):
        inverse(operator)


@pytest.mark.parametrize("rows", [5, 12], ids=["fewer rows than columns", "more"])
def test_the_condition_is_that_of_the_system(problem: dict[str, torch.Tensor], rows: int) -> None:
    source, destination, weight = (problem[key][:rows] for key in ("source", "destination", "weight"))
    system = torch.eye(8, dtype=torch.float64) + (weight[:, None] * source).T @ source
    operator = once(source, destination, weight)
    assert operator.condition == pytest.approx(torch.linalg.cond(system).item())
    assert inverse(operator).condition == operator.condition


def test_nothing_to_solve_is_refused() -> None:
    with pytest.raises(ValueError, match="^there is nothing to solve$"):
        solve([])


def test_of_a_wider_matrix_the_first_columns_meet_the_text(problem: dict[str, torch.Tensor]) -> None:
    operator, matrix = solved(problem), problem["matrix"]
    found = apply(torch.cat([matrix, torch.ones(5, 3)], dim=1), operator)
    assert torch.equal(found, torch.cat([apply(matrix, operator), torch.ones(5, 3)], dim=1))


def test_small_floats_are_multiplied_in_float32(problem: dict[str, torch.Tensor]) -> None:
    operator, matrix = solved(problem), problem["matrix"].half()
    found = apply(matrix, operator)
    assert found.dtype == torch.float32 and torch.equal(found, apply(matrix.float(), operator))
    assert apply(problem["matrix"], operator).dtype == torch.float64
