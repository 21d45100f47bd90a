"""What passed between Cairnwell and its customers: calls, visits, e-mails, tickets, surveys, complaints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from geocrm.demo import names
from geocrm.demo.geography import random
from geocrm.demo.texts import CATEGORY_WORDS, COMPLAINTS, REP_TALKS, SERVICE_TALKS, WORDS_HIGH, WORDS_LOW, Talk

if TYPE_CHECKING:
    from geocrm.demo.company import World


def draw(world: World, customers: pd.DataFrame, sites: pd.DataFrame, sales: pd.DataFrame, chunk: int) -> pd.DataFrame:
    """Interactions of a chunk.

    Columns: customer_id, kind, channel, direction, department, user_row (into users, -1 for none), occurred_at,
    subject, body, outcome, score, site_row (where a visit took place, -1 for none), follow_up_at, external_id.
    """
    rng = random(world.seed, 30, chunk)
    start, end = np.datetime64(world.start, "s"), np.datetime64(world.until, "s") + np.timedelta64(1, "D")
    ids = customers["id"].to_numpy()
    firm = (customers["kind"] == "organisation").to_numpy()
    owner = customers["owner"].to_numpy()
    known = np.maximum(customers["created_at"].to_numpy().astype("datetime64[s]"), start)
    years = (end - known) / np.timedelta64(365 * 86_400, "s")
    stage = customers["stage"].to_numpy()
    pace = np.where(
        firm,
        np.where(stage == "active", 2.6, np.where(stage == "lapsed", 1.1, 1.7)),
        np.where(stage == "lead", 0.25, 0.02),
    )
    pace = np.where(owner >= 0, pace, 0)
    frames = [
        _made_by_reps(rng, ids, owner, known, end, np.repeat(np.arange(len(ids)), rng.poisson(pace * years)), firm)
    ]
    frames.append(_service(rng, ids, sales, end))
    frames.append(_surveys(rng, ids, sales, end))
    talks = pd.concat([f for f in frames if len(f)], ignore_index=True)
    row = talks["row"].to_numpy(dtype=np.int64)
    firsts = np.flatnonzero(sites["is_primary"].to_numpy())
    town = sites["city"].to_numpy(dtype=object)[firsts][row]
    what = CATEGORY_WORDS[rng.integers(6, size=len(talks))]
    for column in ("subject", "body"):
        written = [
            text.replace("{what}", thing).replace("{place}", place) if isinstance(text, str) else None
            for text, thing, place in zip(talks[column], what, town, strict=True)
        ]
        talks[column] = pd.array([text and text[:1].upper() + text[1:] for text in written], dtype=object)
    talks["site_row"] = np.where(talks["kind"].to_numpy() == "visit", firsts[row], -1)
    talks = talks.sort_values(["row", "occurred_at", "kind"], ignore_index=True, kind="stable")
    talks["customer_id"] = ids[talks["row"].to_numpy(dtype=np.int64)]
    nth = talks.groupby("customer_id").cumcount().to_numpy() + 1
    talks["external_id"] = "I-" + talks["customer_id"].astype(str) + "-" + pd.Series(nth.astype(str)).str.zfill(3)
    return talks.drop(columns="row")


def _texts(rng: np.random.Generator, n: int, texts: list[Talk]) -> pd.DataFrame:
    frame = pd.DataFrame(texts, columns=["kind", "department", "subject", "body", "outcome"], dtype=object)
    return frame.iloc[rng.integers(len(texts), size=n)].reset_index(drop=True)


def _made_by_reps(
    rng: np.random.Generator,
    ids: np.ndarray,
    owner: np.ndarray,
    known: np.ndarray,
    end: np.datetime64,
    row: np.ndarray,
    firm: np.ndarray,
) -> pd.DataFrame:
    talks = _texts(rng, len(row), REP_TALKS)
    # nobody drives out to a private customer
    private = ~firm[row] & (talks["kind"].to_numpy() == "visit")
    talks.loc[private, ["kind", "subject", "body", "outcome"]] = _texts(rng, int(private.sum()), REP_TALKS[4:8])[
        ["kind", "subject", "body", "outcome"]
    ].to_numpy()
    span = (end - known[row]).astype(np.int64)
    moment = (known[row].astype(np.int64) + rng.random(len(row)) * span).astype(np.int64)
    moment = moment // 86_400 * 86_400 + 3600 * 14 + (rng.random(len(row)) * 9 * 3600).astype(np.int64)  # 7 to 16 local
    moment = moment - (((moment // 86_400 + 3) % 7 >= 5) * 2 * 86_400)  # no weekends
    moment = np.maximum(moment, known[row].astype(np.int64)).astype("datetime64[s]")
    talks["row"], talks["occurred_at"], talks["user_row"] = row, moment, owner[row]
    kind = talks["kind"].to_numpy()
    channel = pd.Series(kind).map({"visit": "in person", "call": "phone", "email": "email"}).to_numpy(dtype=object)
    talks["channel"] = names.only(~pd.isna(channel), channel)
    talks["direction"] = names.only(kind != "note", np.where(rng.random(len(row)) < 0.76, "out", "in"))
    recent = (end - moment) < np.timedelta64(45 * 86_400, "s")
    due = end + (rng.integers(-6, 24, len(row)) * 86_400 + 15 * 3600).astype("timedelta64[s]")
    talks["follow_up_at"] = np.where(
        recent & (rng.random(len(row)) < 0.4), np.maximum(due, moment), np.datetime64("NaT", "s")
    )
    talks["score"] = np.nan
    return talks


def _service(rng: np.random.Generator, ids: np.ndarray, sales: pd.DataFrame, end: np.datetime64) -> pd.DataFrame:
    back = sales["returned"].to_numpy(dtype=bool)
    chance = np.where(back, 0.42, 0.055)
    chosen = np.flatnonzero(rng.random(len(sales)) < chance)
    angry = rng.random(len(chosen)) < np.where(back[chosen], 0.35, 0.18)
    talks = _texts(rng, len(chosen), SERVICE_TALKS)
    talks[angry] = _texts(rng, int(angry.sum()), COMPLAINTS).to_numpy()
    ways = np.array(["phone", "email", "chat", "in person"], dtype=object)
    channel = ways[rng.choice(4, len(chosen), p=[0.4, 0.36, 0.14, 0.1])]
    return _after(rng, talks, ids, sales, chosen, end, 9.0).assign(direction="in", channel=channel, score=np.nan)


def _surveys(rng: np.random.Generator, ids: np.ndarray, sales: pd.DataFrame, end: np.datetime64) -> pd.DataFrame:
    """How likely to recommend us, 0 to 10, after some orders; worse after a return and at the web."""
    chosen = np.flatnonzero(rng.random(len(sales)) < 0.07)
    back = sales["returned"].to_numpy(dtype=bool)[chosen]
    web = (sales["channel"].to_numpy() == "web")[chosen]
    liking = rng.normal(8.4 - 2.6 * back - 0.5 * web, 1.8)
    score = np.clip(np.round(liking), 0, 10)
    high, low = np.array(WORDS_HIGH, dtype=object), np.array(WORDS_LOW, dtype=object)
    n = len(chosen)
    said = rng.random(n) < 0.35
    words = np.where(score >= 7, high[rng.integers(len(high), size=n)], low[rng.integers(len(low), size=n)])
    talks = pd.DataFrame(
        {
            "kind": np.where(rng.random(n) < 0.78, "survey", "feedback").astype(object),
            "department": "marketing",
            "subject": "How likely are you to recommend us?",
            "body": names.only(said, words),
            "outcome": np.array(["detractor", "passive", "promoter"], dtype=object)[np.digitize(score, [6.5, 8.5])],
        }
    )
    return _after(rng, talks, ids, sales, chosen, end, 4.0).assign(
        direction="in", channel=np.where(rng.random(n) < 0.85, "email", "in person"), score=score
    )


def _after(
    rng: np.random.Generator,
    talks: pd.DataFrame,
    ids: np.ndarray,
    sales: pd.DataFrame,
    chosen: np.ndarray,
    end: np.datetime64,
    days: float,
) -> pd.DataFrame:
    """The same talks, set some days after the chosen sales."""
    later = (rng.gamma(1.4, days / 1.4, len(chosen)) * 86_400 + 3600).astype(np.int64).astype("timedelta64[s]")
    moment = sales["occurred_at"].to_numpy().astype("datetime64[s]")[chosen] + later
    talks["occurred_at"] = np.minimum(moment, end - np.timedelta64(60, "s"))
    talks["row"] = np.searchsorted(ids, sales["customer_id"].to_numpy()[chosen])
    talks["user_row"] = -1
    talks["follow_up_at"] = np.datetime64("NaT", "s")
    return talks
