"""What does the environment say? The only reader of it; every setting, its default and its meaning."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings of one installation, from EQUIPOISE_... variables or a .env file."""

    model_config = SettingsConfigDict(env_prefix="EQUIPOISE_", env_file=".env", extra="ignore")

    data: Path = Field(default=Path("var"), description="Folder of the embedded database, the key file, checkpoints.")
    database: str | None = Field(default=None, description="postgresql://... ; none: SQLite in the data folder.")
    key_file: Path | None = Field(default=None, description="The root key; none: equipoise.key in the data folder.")
    master_key: SecretStr | None = Field(
        default=None, description="32 bytes in base64 that wrap the root key; none: the key file holds it as it is."
    )
    master_program: str | None = Field(
        default=None, description="A program that has a key management service wrap and unwrap the root key."
    )
    new_master_key: SecretStr | None = Field(default=None, description="For `equipoise key rotate` alone.")
    new_master_program: str | None = Field(default=None, description="For `equipoise key rotate` alone.")
    secure_cookies: bool = Field(default=True, description="Cookies only over TLS (__Host-); off on loopback only.")
    idle_minutes: int = Field(default=15, ge=1, le=60, description="A session ends after this long without a request.")
    session_hours: int = Field(default=12, ge=1, le=24, description="A session ends after this long in any case.")
    trusted_proxies: str | None = Field(
        default=None,
        description="Addresses of TLS proxies whose X-Forwarded-For is believed, with commas; none: nobody's.",
    )
    largest_body: int = Field(default=2_000_000, ge=1, description="Bytes of the largest request body.")
    largest_upload: int = Field(
        default=26_000_000,
        ge=1,
        description="Bytes of the largest request that brings a file; an item of a study takes one of up to 25 MB.",
    )
    smtp_host: str | None = Field(default=None, description="Mail server; none: mails wait in the outbox.")
    smtp_port: int = 25
    smtp_from: str = "equipoise@localhost"
    sms_folder: Path | None = Field(
        default=None, description="Folder into which text messages are written, a file each, for a gateway; none: wait."
    )
    api_requests_a_minute: int = Field(
        default=6000, ge=0, description="Requests over REST of one token a minute, counted by each process; 0: any."
    )
    webhook_addresses: str = Field(
        default="",
        description="Told although not https on the public network, such as http://10.0.0.7:9000; with commas.",
    )
    clock_seconds: float = Field(
        default=5, gt=0, le=3600, description="So much may clocks differ, in seconds, before anybody is told."
    )
    address: str = Field(default="http://127.0.0.1:8000", description="Where people reach this installation.")
    demo: bool = Field(default=False, description="Shows the demo sign-ins on the sign-in page.")

    @property
    def largest_sent(self) -> int:
        """Bytes of the largest request where files are taken: never fewer than anywhere else."""
        return max(self.largest_body, self.largest_upload)

    @property
    def database_url(self) -> str:
        """The SQLAlchemy address of the database."""
        return self.database or f"sqlite:///{self.data / 'equipoise.db'}"

    @property
    def webhooks_allowed(self) -> tuple[str, ...]:
        """The schemes, hosts and ports that webhooks may lead to beside https on the public network."""
        return tuple(each.strip().rstrip("/") for each in self.webhook_addresses.split(",") if each.strip())

    @property
    def key_path(self) -> Path:
        return self.key_file or self.data / "equipoise.key"

    @property
    def exports(self) -> Path:
        """The folder of exports that were made in the background, sealed; every process must see the same one."""
        return self.data / "exports"

    @property
    def checkpoints(self) -> Path:
        """The folder of signed checkpoints, outside the database."""
        return self.data / "checkpoints"
