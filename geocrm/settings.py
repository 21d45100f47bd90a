"""Settings, read from the environment (`GEOCRM_*`), one help line each."""

from functools import lru_cache
from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

CHECKOUT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """Every knob of geocrm. Units stand in the names."""

    model_config = SettingsConfigDict(env_prefix="GEOCRM_", extra="ignore", populate_by_name=True)

    home: Path = Field(
        CHECKOUT / ".geocrm", description="Data directory: the private database, uploads, logs, secrets."
    )
    database_url: str | None = Field(
        None,
        description="A PostgreSQL of your own (administrator login). Unset: a private PostgreSQL in GEOCRM_HOME.",
    )
    api_database_url: str | None = Field(
        None, description="Login geocrm_api, where it cannot be derived from GEOCRM_DATABASE_URL."
    )
    worker_database_url: str | None = Field(
        None, description="Login geocrm_worker, where it cannot be derived from GEOCRM_DATABASE_URL."
    )
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(
        8000,
        validation_alias=AliasChoices("PORT", "GEOCRM_PORT", "port"),
        description="Port of the API and the web app (PORT).",
    )
    read_pool_size: int = Field(5, description="Connections of the API's reading pool.")
    write_pool_size: int = Field(4, description="Connections of the pool that writes.")
    statement_timeout_s: float = Field(20.0, description="Longest time that one request's statement may take.")
    session_hours: float = Field(12.0, description="Life of a web session since its last use.")
    session_days: float = Field(
        30.0, description="Longest life of a web session since its sign-in, however much it is used."
    )
    login_attempts_per_15_min: int = Field(
        8, description="Failed logins for one account before a pause; for one network address ten times as many."
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks of proxies, with commas, whose X-Forwarded-For and -Proto are believed.",
    )
    secure_cookies: bool = Field(False, description="Send the session cookie over HTTPS only (behind a TLS proxy).")
    rate_limit_per_minute: int = Field(6000, description="Requests a minute for one user or key before 429.")
    event_streams: int = Field(100, description="Imports followed as event streams at once, in one API process.")
    event_streams_per_user: int = Field(6, description="The same for one user and the user's keys.")
    upload_max_mb: int = Field(2048, description="Largest file that an import takes.")
    position_days: float = Field(30.0, description="Positions of customers' phones are deleted after so many days.")
    position_max_accuracy_m: float = Field(
        1000.0, description="A position with a larger radius of accuracy is ignored, metres."
    )
    webhook_timeout_s: float = Field(10.0, description="Longest time that a receiver of a webhook may take to answer.")
    webhook_days: float = Field(3.0, description="A delivery to a webhook is given up after so many days of trying.")
    webhook_allow_private: bool = Field(
        False,
        description="Send webhooks over http, to this machine and to private networks too (never to link-local"
        " addresses): for development and tests only.",
    )
    event_days: float = Field(
        90.0, description="Events and their deliveries to webhooks are deleted after so many days."
    )
    max_radius_m: float = Field(1_000_000.0, description="Largest radius of a nearby lookup, metres.")
    map_style_url: str | None = Field(
        None, description="A MapLibre style to use as basemap; unset: the built-in one, which needs no network."
    )
    atlas_dir: Path = Field(
        CHECKOUT / "maps" / "node_modules", description="Where the packages world-atlas and us-atlas lie."
    )
    web_dir: Path = Field(CHECKOUT / "maps" / "dist", description="The built web application.")
    geocoder: str | None = Field(
        None, description="A geopy geocoder for street precision, by class name (off by default)."
    )
    geocoder_options: dict[str, object] = Field(
        default_factory=dict, description="Keyword arguments of that geocoder, as JSON."
    )

    @property
    def uploads(self) -> Path:
        """Directory of uploaded and rejected files."""
        return self.home / "uploads"


@lru_cache
def get_settings() -> Settings:
    """The settings of this process."""
    return Settings()
