"""BG/NBD and Gamma-Gamma by pymc-marketing, maximum a posteriori with its default priors: `pymc_map.py CUSTOMERS.npz`.

Runs in an environment of its own (requirements.lock beside this file) and prints one JSON object: seconds of each fit
and the parameters. Each model is fitted twice: the first fit of a process compiles, the second may use what is kept.
"""

import json
import sys
import time
import warnings

import numpy as np
import pandas as pd

warnings.simplefilter("ignore")


def main() -> None:
    from pymc_marketing import __version__
    from pymc_marketing.clv import BetaGeoModel, GammaGammaModel

    held = np.load(sys.argv[1])
    customers = pd.DataFrame({name: held[name] for name in ("frequency", "recency", "T", "monetary_value")})
    customers.insert(0, "customer_id", np.arange(len(customers)))
    repeat = customers[customers["frequency"] > 0]
    answer: dict[str, object] = {"version": __version__}
    for name, model, rows, columns, parameters in (
        ("bg_nbd", BetaGeoModel, customers, ["frequency", "recency", "T"], ("r", "alpha", "a", "b")),
        ("gamma_gamma", GammaGammaModel, repeat, ["frequency", "monetary_value"], ("p", "q", "v")),
    ):
        given = rows[["customer_id", *columns]]
        seconds = []
        for _ in range(2):
            fitted = model()
            began = time.perf_counter()
            fitted.fit(given, method="map", progressbar=False)
            seconds.append(time.perf_counter() - began)
        posterior = fitted.idata.posterior
        answer[name] = {"seconds": seconds, "parameters": [float(posterior[p].mean()) for p in parameters]}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
