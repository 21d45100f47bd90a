"""What to offer one customer next, by the newest analysis of what goes together.

The analysis keeps the model that its cutoff gives, made as the one whose offers it judges by what was bought later.
What the customer has is read anew, as the reader sees it, so that nothing is offered that was bought since.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import numpy as np
from scipy import sparse
from sqlalchemy import text
from sqlalchemy.orm import Session

from geocrm import ids
from geocrm.access import Actor
from geocrm.db.models import Analysis
from geocrm.db.queries import named
from geocrm.segmentation import affinity, lift, offers
from geocrm.spatial.suppression import SMALLEST_GROUP

MOST_POPULAR: Final = 100
"""So many of what sells most are kept of each region."""


def kept(model: affinity.OfferModel) -> dict[str, Any]:
    """A model without half-life as JSON: items and how many customers have each, for every item its neighbours and how
    many have both, what sells most over all (region null) and by region."""
    similar = model.similar
    rows = np.repeat(np.arange(len(model.items)), np.diff(similar.indptr))
    both = similar.data * np.sqrt(model.squares[rows] * model.squares[similar.indices])
    places: list[tuple[int | None, affinity.Weights]] = [(None, model.popularity / max(model.customers, 1))]
    if model.source.regions is not None:
        places += [(int(region), row) for region, row in zip(model.regions, model.by_region, strict=True)]
    return {
        "by": model.source.by,
        "regions": model.source.regions,
        "since": model.since.isoformat(),
        "cutoff": model.cutoff.isoformat(),
        "customers": model.customers,
        "items": model.items.tolist(),
        "names": list(model.names),
        "counts": np.rint(model.squares).astype(int).tolist(),
        "begins": similar.indptr.tolist(),
        "others": similar.indices.tolist(),
        "both": np.rint(both).astype(int).tolist(),
        "popular": [{"region": region, "items": _best(row)} for region, row in places],
    }


def _best(popularity: affinity.Weights) -> list[list[float]]:
    best = np.argsort(-popularity, kind="stable")[:MOST_POPULAR]
    return [[int(item), round(float(popularity[item]), 9)] for item in best if popularity[item] > 0]


def for_customer(
    session: Session, actor: Actor, found: Analysis | None, customer_id: int, *, k: int = 5
) -> dict[str, Any]:
    """By an analysis of what goes together, None where there is none, at most k items that a customer whom the actor
    sees has not, the likeliest first, with what speaks for each: the item that the customer has and that goes together
    with it most (`because`; None where nothing does and it simply sells most), how many of all customers have both, of
    those with the one the share with the other, the lift with its 95 % interval. Figures that fewer than ten customers
    made are told to those alone who see every one.

    `held_out`: how well such offers did on what was bought later. `note` says why there is nothing. The session is the
    actor's."""
    nothing: dict[str, Any] = {"data": [], "analysis": None, "since": None, "cutoff": None, "had": 0, "held_out": None}
    if found is None:
        made = "No analysis of what goes together has been made yet"
        return nothing | {"note": f"{made}; an administrator, marketer or analyst can make one (kind affinity)."}
    if "model" not in found.results:
        return nothing | {"note": "The newest analysis of what goes together has too little to make offers of."}
    model = found.results["model"]
    since = datetime.fromisoformat(model["since"])
    told: dict[str, Any] = {
        "data": [], "analysis": ids.show("ana", found.id), "since": since,
        "cutoff": datetime.fromisoformat(model["cutoff"]), "had": 0, "held_out": _held_out(found.results["offers"]),
        "note": None,
    }  # fmt: skip
    has = _has(session, customer_id, model, since)
    if not len(has):
        why = f"Since {since:%Y-%m-%d} this customer bought nothing that the analysis knows"
        return told | {"note": f"{why}: there is nothing to go by."}
    return told | {"had": len(has), "data": _ranked(session, actor, customer_id, model, has, k)}


def _has(session: Session, customer_id: int, model: dict[str, Any], since: datetime) -> affinity.Ids:
    """Positions of the items that the customer bought since."""
    query = named(affinity.SQL, "items_of").replace("{item}", named(affinity.SQL, f"item_{model['by']}"))
    values: dict[str, Any] = {"customer_id": customer_id, "since": since}
    if model["by"] == "category":  # an item is a category's place among those there were
        named_at = dict(zip(model["items"], model["names"], strict=True))
        values["categories"] = [named_at.get(place) for place in range(1, max(model["items"]) + 1)]
    bought = session.scalars(text(query), values).all()
    return np.flatnonzero(np.isin(model["items"], [item for item in bought if item is not None]))


def _ranked(
    session: Session, actor: Actor, customer_id: int, model: dict[str, Any], has: affinity.Ids, k: int
) -> list[dict[str, Any]]:
    n, counts = len(model["items"]), np.asarray(model["counts"], dtype=np.float64)
    begins, others = np.asarray(model["begins"]), np.asarray(model["others"])
    both = sparse.csr_array((np.asarray(model["both"], dtype=np.float64), others, begins), shape=(n, n))
    rows = np.repeat(np.arange(n), np.diff(begins))
    similar = sparse.csr_array((both.data / np.sqrt(counts[rows] * counts[others]), others, begins), shape=(n, n))
    history = sparse.csr_array((np.ones(len(has)), (np.zeros(len(has), dtype=np.int64), has)), shape=(1, n))
    popularity = _popularity(session, actor, customer_id, model)
    items, scores = offers.rank_items(history, popularity, k=k, similar=similar)
    made: list[dict[str, Any]] = []
    for item, score in zip(items[0].tolist(), scores[0].tolist(), strict=True):
        if item < 0 or (score == 0 and popularity[item] == 0):
            continue
        row: dict[str, Any] = {"rank": len(made) + 1, "product": _item(model, item), "score": score, "because": None}
        row |= dict.fromkeys(("customers_with_both", "support", "confidence", "lift", "lift_low", "lift_high"))
        if score > 0:
            likeness = similar[has, :][:, [item]].toarray().ravel()
            reason = int(has[likeness.argmax()])
            row["because"] = _item(model, reason)
            together = float(both[reason, item])
            if actor.sees_all or together >= SMALLEST_GROUP:
                said = lift.associate([together], [counts[reason]], [counts[item]], [model["customers"]])
                row |= {
                    "customers_with_both": int(together), "support": float(said.support[0]),
                    "confidence": float(said.confidence[0]), "lift": float(said.lift[0]),
                    "lift_low": float(said.lift_low[0]), "lift_high": float(said.lift_high[0]),
                }  # fmt: skip
        made.append(row)
    return made


def _popularity(session: Session, actor: Actor, customer_id: int, model: dict[str, Any]) -> affinity.Weights:
    """What sells most where the customer is; over all for readers of snapped places, who are not to find out."""
    regions, region = model["regions"], None
    if regions is not None and actor.exact:
        query = named(affinity.SQL, "region_territory" if regions == "territory" else "region_layer")
        values = {"customer_id": customer_id} | ({} if regions == "territory" else {"layer": regions})
        there = f"({query.replace('{point}', 't.location')}) AS r"
        where = "r.customer_id = CAST(:customer_id AS bigint)"
        region = session.scalar(text(f"SELECT r.region FROM {there} WHERE {where}"), values)
    by_region = {row["region"]: row["items"] for row in model["popular"]}
    made = np.zeros(len(model["items"]))
    for item, weight in by_region.get(region, by_region[None]):
        made[int(item)] = weight
    return made


def _item(model: dict[str, Any], place: int) -> dict[str, Any]:
    number = model["items"][place] if model["by"] == "product" else None
    return {"id": ids.show("prd", number), "name": model["names"][place]}


def _held_out(judged: dict[str, Any] | None) -> dict[str, Any] | None:
    if judged is None:
        return None
    ours = judged["methods"][0]
    return {
        "learnt_before": judged["learnt_before"], "days": judged["days"], "offered": judged["k"],
        "customers": judged["customers"], "sentence": judged["sentence"],
    } | {name: ours[name] for name in ("hit_rate", "hit_rate_low", "hit_rate_high")}  # fmt: skip
