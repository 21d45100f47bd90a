"""A geographic CRM on PostGIS: customers, sales and territories, joined where they are.

In a notebook::

    import geocrm

    with geocrm.connect(user="analyst@demo.example") as session:
        geocrm.nearby(session, -104.99, 39.74, radius_m=5_000)
        geocrm.territory_at(session, -104.99, 39.74)
        customers = geocrm.customers(session, {"field": "stage", "op": "=", "value": "active"})

Everything but the version is imported on first use, so that `import geocrm` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from geocrm.frames import areas, connect, customers, nearby, sales, territories_of, territory_at

__version__ = "0.1.0"
__all__ = ["__version__", "areas", "connect", "customers", "nearby", "sales", "territories_of", "territory_at"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("geocrm.frames"), name)
    raise AttributeError(f"module 'geocrm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
