"""Maximum likelihood for models of a few positive parameters: the fit, its checks, its errors.

A model gives value, gradient and Hessian of its log-likelihood; the maximum is sought in the logarithms of the
parameters by a trust-region Newton method (Nocedal and Wright, Numerical Optimization, 2006, chapter 4). What comes
back has been checked: the gradient is zero to rounding, the observed information is positive definite, no parameter has
run away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from scipy.special import ndtri

from geocrm.errors import NotConverged

Floats = NDArray[np.float64]

RAN_AWAY = np.log(1e5)
"""A parameter this far (in logarithms) from where a usual one lies has run away."""
FLAT = 5.0
"""A direction in which the logarithms of the parameters have a greater standard error than this is not determined."""
GAIN_LEFT = 1e-9
"""Log-likelihood that one more Newton step may still promise."""


class Model(Protocol):
    """A frozen dataclass of positive parameters."""

    @property
    def values(self) -> tuple[float, ...]:
        """The parameters, in the order of the class's arguments."""


class Likelihood(Protocol):
    """Log-likelihood of some customers."""

    customers: float

    def __call__(self, values: Floats) -> tuple[float, Floats, Floats]:
        """Value, gradient (k,) and Hessian (k, k) in the parameters."""


M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Estimate(Generic[M]):
    """A fitted model.

    Attributes:
        model: with its parameters at the maximum of the likelihood.
        names: the parameters' names, k of them.
        log_covariance: of the logarithms of the parameters, (k, k): the inverse of the observed information.
        log_likelihood: at the maximum, over all customers.
        customers, histories: how many customers, and unique rows among them.
        steps: Newton steps taken.
    """

    model: M
    names: tuple[str, ...]
    log_covariance: Floats
    log_likelihood: float
    customers: int
    histories: int
    steps: int

    @property
    def covariance(self) -> Floats:
        """Of the parameters themselves, (k, k), by the delta method."""
        values = np.array(self.model.values)
        return self.log_covariance * np.outer(values, values)

    @property
    def standard_errors(self) -> dict[str, float]:
        """Of each parameter, by name."""
        return dict(zip(self.names, np.sqrt(np.diag(self.covariance)).tolist(), strict=True))

    def intervals(self, level: float = 0.95) -> dict[str, tuple[float, float]]:
        """Of each parameter, by name: symmetric in its logarithm, so that it stays positive."""
        reach = float(ndtri((1 + level) / 2)) * np.sqrt(np.diag(self.log_covariance))
        values = np.array(self.model.values)
        low, high = values * np.exp(-reach), values * np.exp(reach)
        return {name: (float(low[i]), float(high[i])) for i, name in enumerate(self.names)}

    def sensitivity(self, answer: Callable[[M], Floats], step: float = 1e-4) -> Floats:
        """How `answer(model)`, of shape (n,), changes with the logarithm of each parameter: (n, k).

        By central differences. With `g` a row of it, `g @ log_covariance @ g` is the variance of that answer (delta
        method).
        """
        values = np.array(self.model.values)
        columns = []
        for i in range(len(values)):
            above, below = values.copy(), values.copy()
            above[i] *= np.exp(step)
            below[i] *= np.exp(-step)
            columns.append((answer(type(self.model)(*above)) - answer(type(self.model)(*below))) / (2 * step))
        return np.stack(columns, axis=-1)


class _Surface:
    """What is minimised: minus the log-likelihood a customer, in the logarithms of the parameters.

    The last point is kept, as value, gradient and Hessian are asked for one after the other.
    """

    def __init__(self, likelihood: Likelihood, middle: Floats) -> None:
        self.likelihood, self.middle = likelihood, middle
        self.point: Floats | None = None
        self.here: tuple[float, Floats, Floats] = (np.inf, middle, np.outer(middle, middle))

    def at(self, logs: Floats) -> tuple[float, Floats, Floats]:
        """Value, gradient (k,), Hessian (k, k)."""
        if self.point is None or not np.array_equal(self.point, logs):
            values = np.exp(np.clip(logs, self.middle - 2 * RAN_AWAY, self.middle + 2 * RAN_AWAY))
            value, gradient, hessian = self.likelihood(values)
            slope = values * gradient
            curve = np.outer(values, values) * hessian + np.diag(slope)
            each = -1 / self.likelihood.customers
            self.point, self.here = logs.copy(), (value * each, slope * each, curve * each)
        return self.here

    def descend(self, start: Floats) -> tuple[Floats, int]:
        """Where the trust-region Newton method ends, and its steps."""
        found = minimize(
            lambda logs: self.at(logs)[0],
            start,
            jac=lambda logs: self.at(logs)[1],
            hess=lambda logs: self.at(logs)[2],
            method="trust-exact",
            callback=self._stop_outside,
            options={"gtol": 1e-6, "maxiter": 300},
        )
        return np.asarray(found.x, dtype=np.float64), int(found.nit)

    def inside(self, logs: Floats) -> bool:
        """Whether no parameter has run away."""
        return bool(np.abs(logs - self.middle).max() < RAN_AWAY)

    def _stop_outside(self, intermediate_result: OptimizeResult) -> None:
        if not self.inside(np.asarray(intermediate_result.x)):
            raise StopIteration

    def polish(self, logs: Floats) -> Floats:
        """The same after plain Newton steps, as long as the gradient shrinks.

        The trust region ends where the likelihood of very many customers no longer changes in its last digits; the
        gradient tells further.
        """
        for _ in range(3):
            _, slope, curve = self.at(logs)
            if not np.isfinite(curve).all() or np.linalg.eigvalsh(curve)[0] <= 0:
                return logs
            step = np.linalg.solve(curve, slope)
            if self.likelihood.customers * float(slope @ step) / 2 < GAIN_LEFT / 1000:
                return logs
            if np.abs(step).max() > 0.01 or np.abs(self.at(logs - step)[1]).max() >= np.abs(slope).max():
                return logs
            logs = logs - step
        return logs


def maximise(
    likelihood: Likelihood,
    starts: Sequence[Sequence[float]],
    *,
    rough: Likelihood,
    make: Callable[..., M],
    method: str,
    names: tuple[str, ...],
    usual: Sequence[float],
    meaning: Mapping[str, str],
    histories: int,
) -> Estimate[M]:
    """The maximum of a log-likelihood, from the best start that leads to one.

    Args:
        likelihood: of all customers.
        starts: parameter vectors; tried by their likelihood, best first, until one ends at a maximum.
        rough: the likelihood of some of the customers, quicker: it puts the starts in order, and its own maximum, if it
            has one near, is where the search begins.
        make: the class of the model.
        method: its name, for messages.
        names: of the parameters.
        usual: a usual size of each parameter, from which it may run away by a factor of 100,000.
        meaning: by a parameter's name followed by " up" or " down": what it says about the customers where it runs
            away, or by the name alone where it is not determined.
        histories: how many different ones the customers have.

    Raises:
        NotConverged: no start leads to a maximum; the message says what the customers look like to the method, which
            parameter cannot be told, and what would help.
    """
    middle = np.log(np.asarray(usual, dtype=np.float64))
    customers = round(likelihood.customers)
    surface, first = _Surface(likelihood, middle), _Surface(rough, middle)
    complaints: list[str] = []
    for start in sorted((np.log(np.asarray(s, dtype=np.float64)) for s in starts), key=lambda logs: first.at(logs)[0]):
        near = start
        if rough.customers < likelihood.customers:
            found, _ = first.descend(start)
            near = found if first.inside(found) else start
        logs, steps = surface.descend(near)
        logs = surface.polish(logs)
        value, _, curve = surface.at(logs)
        complaint = _complaint(logs, surface.at(logs), middle, names, meaning, customers)
        if complaint is None:
            return Estimate(
                model=make(*np.exp(logs).tolist()),
                names=names,
                log_covariance=np.linalg.inv(curve * customers),
                log_likelihood=-float(value) * customers,
                customers=customers,
                histories=histories,
                steps=steps,
            )
        complaints.append(complaint)
    raise NotConverged(
        f"{method} does not converge on {customers:,} customers ({histories:,} different histories): {complaints[0]} "
        f"A longer period, more customers, or another segment together with this one would help."
    )


def _complaint(
    logs: Floats,
    reached: tuple[float, Floats, Floats],
    middle: Floats,
    names: tuple[str, ...],
    meaning: Mapping[str, str],
    customers: int,
) -> str | None:
    """Why this is not a maximum, in words, or None."""
    _, slope, curve = reached
    if not (np.isfinite(slope).all() and np.isfinite(curve).all()):
        return "the likelihood cannot be computed; check for extreme times or amounts."
    away = logs - middle
    worst = int(np.argmax(np.abs(away)))
    if abs(away[worst]) > RAN_AWAY:
        way = "up" if away[worst] > 0 else "down"
        said = meaning.get(f"{names[worst]} {way}", meaning.get(names[worst], ""))
        end = "without end" if way == "up" else "towards 0"
        return f"the likelihood still grows as {names[worst]} goes {end}. {said}"
    sizes, directions = np.linalg.eigh(curve * customers)
    if sizes[0] < 1 / FLAT**2:
        flat = int(np.argmax(np.abs(directions[:, 0])))
        return f"the likelihood is flat in {names[flat]}, which may be almost anything. {meaning.get(names[flat], '')}"
    if float(slope @ np.linalg.solve(curve, slope)) * customers / 2 > GAIN_LEFT:
        return "the search for the maximum ended early."
    return None
