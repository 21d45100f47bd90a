"""The textbook: FastAPI + SQLAlchemy (async, asyncpg) + GeoAlchemy2, as their documentation writes it.

The nearest are found as the PostGIS workshop does it: `<->` on the geometry index for more than enough candidates, then
the distance on the spheroid, sorted. Visible rows are a WHERE clause in the application; there is no row security, and
nobody has to sign in. Joined rows come in one query; the pool has the size of ours.
"""

import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Query
from geoalchemy2 import Geometry
from pydantic import BaseModel
from sqlalchemy import BigInteger, ForeignKey, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_async_engine(os.environ["TEXTBOOK_URL"], pool_size=5, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)
REP = int(os.environ["TEXTBOOK_REP"])
TERRITORIES = [int(i) for i in os.environ["TEXTBOOK_TERRITORIES"].split(",")]


class Base(DeclarativeBase):
    """Base."""

    type_annotation_map = {int: BigInteger}


class Customer(Base):
    """A customer."""

    __tablename__ = "customers"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Area(Base):
    """A territory."""

    __tablename__ = "areas"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Site(Base):
    """A site with its place."""

    __tablename__ = "site_lookup"
    customer_id: Mapped[int] = mapped_column(ForeignKey("customers.id"), primary_key=True)
    site_id: Mapped[int] = mapped_column(primary_key=True)
    location = mapped_column(Geometry("POINT", srid=4326))
    stage: Mapped[str]
    kind: Mapped[str]
    owner_id: Mapped[int | None]
    territory_id: Mapped[int | None] = mapped_column(ForeignKey("areas.id"))
    is_primary: Mapped[bool]
    location_precision: Mapped[str]
    precision_m: Mapped[float]


class Location(BaseModel):
    """A point."""

    lon: float
    lat: float


class Reference(BaseModel):
    """A territory or owner."""

    id: str
    name: str | None = None


class Near(BaseModel):
    """One site near a point."""

    id: str
    site_id: str
    name: str
    kind: str
    stage: str
    distance_m: float
    bearing_deg: float
    location: Location
    location_precision: str
    precision_m: float
    is_primary: bool
    owner: Reference | None
    territory: Reference | None


class Page(BaseModel):
    """The answer."""

    data: list[Near]


app = FastAPI()


async def get_session() -> AsyncIterator[AsyncSession]:
    """A session per request."""
    async with sessions() as session:
        yield session


@app.get("/customers/nearby", response_model=Page)
async def nearby(
    session: Annotated[AsyncSession, Depends(get_session)],
    lon: Annotated[float, Query(ge=-180, le=180)],
    lat: Annotated[float, Query(ge=-90, le=90)],
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page:
    """The nearest sites."""
    here = func.ST_SetSRID(func.ST_MakePoint(lon, lat), 4326)
    candidates = (
        select(Site)
        .where(or_(Site.owner_id == REP, Site.territory_id.in_(TERRITORIES)))
        .order_by(Site.location.op("<->")(here))
        .limit(limit * 3)
        .subquery()
    )
    distance = func.ST_Distance(func.geography(candidates.c.location), func.geography(here))
    query = (
        select(
            candidates,
            Customer.name,
            Area.name.label("territory"),
            func.ST_X(candidates.c.location).label("lon"),
            func.ST_Y(candidates.c.location).label("lat"),
            distance.label("distance_m"),
            func.degrees(func.ST_Azimuth(func.geography(here), func.geography(candidates.c.location))).label("bearing"),
        )
        .join(Customer, Customer.id == candidates.c.customer_id)
        .outerjoin(Area, Area.id == candidates.c.territory_id)
        .order_by(distance, candidates.c.site_id)
        .limit(limit)
    )
    rows = (await session.execute(query)).all()
    return Page(
        data=[
            Near(
                id=f"cus_{row.customer_id}",
                site_id=f"sit_{row.site_id}",
                name=row.name,
                kind=row.kind,
                stage=row.stage,
                distance_m=round(row.distance_m, 1),
                bearing_deg=round(row.bearing or 0, 1),
                location=Location(lon=row.lon, lat=row.lat),
                location_precision=row.location_precision,
                precision_m=row.precision_m,
                is_primary=row.is_primary,
                owner=Reference(id=f"usr_{row.owner_id}") if row.owner_id else None,
                territory=Reference(id=f"ter_{row.territory_id}", name=row.territory) if row.territory_id else None,
            )
            for row in rows
        ]
    )
