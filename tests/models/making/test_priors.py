import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is installed for making models alone")

from scipy.stats import multivariate_normal  # noqa: E402 - torch decides whether this file is read
from sklearn.svm import OneClassSVM  # noqa: E402

from models.making.networks.flow import FlowPlan  # noqa: E402
from models.making.passes import Shape  # noqa: E402
from models.making.priors.mixture import MixturePrior  # noqa: E402
from models.making.priors.one_class import OneClassPrior  # noqa: E402


def codes(n: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(1, 2, (n, length)).astype(np.float32))


def test_surprise_of_one_component_is_that_of_a_normal_distribution() -> None:
    prior = MixturePrior(1, 4)
    normals = codes(4000, 4)
    prior.fit(normals)
    x = codes(6, 4, seed=1)

    values = normals.double().numpy()
    # The fit adds a tenth of the mean variance times length by n to every variance.
    shrunk = np.cov(values.T, bias=True) + 0.1 * 4 / 4000 * values.var(axis=0).mean() * np.eye(4)
    expected = -multivariate_normal(values.mean(axis=0), shrunk).logpdf(x.numpy())

    assert np.allclose(prior.surprise(x).numpy(), expected, rtol=1e-4)


def test_mixture_of_fewer_normals_than_components_still_ranks() -> None:
    prior = MixturePrior(8, 3)
    normals = codes(6, 3)
    prior.fit(normals)

    near, far = prior.surprise(normals.mean(0, keepdim=True)), prior.surprise(torch.full((1, 3), 50.0))

    assert torch.isfinite(near).all()
    assert far > near


def test_one_class_machine_orders_as_scikit_learn_does() -> None:
    normals, x = codes(200, 5), codes(40, 5, seed=3) * 2
    prior = OneClassPrior(5, 0, 0.1)
    prior.fit(normals)

    centre = normals.mean(dim=0)
    machine = OneClassSVM(kernel="rbf", nu=0.1, gamma="scale").fit((normals - centre).numpy())
    expected = -machine.decision_function((x - centre).numpy())

    found = prior.outside(x).numpy()
    assert np.allclose(found - found[0], expected - expected[0], atol=1e-3)


def test_flow_is_a_density() -> None:
    """Integrated over the plane, exp(-surprise) is one."""
    torch.manual_seed(0)
    flow = FlowPlan(code=2, couplings=3, hidden=8).build(Shape(1, 1, 1))
    for parameter in flow.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    flow.eval()
    line = torch.linspace(-12, 12, 400)
    grid = torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1).reshape(-1, 2)

    total = torch.exp(-flow.surprise(grid)).sum() * (24 / 399) ** 2

    assert abs(float(total.detach()) - 1) < 0.02
