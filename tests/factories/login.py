"""A console with a login, as in stillhouse.toml; its client's secret is nowhere until somebody puts it there."""

LOGIN = """
[console.login]
issuer = "https://accounts.example.com"
client_id = "stillhouse"
client_secret_env = "CONSOLE_CLIENT_SECRET"
public_url = "https://stillhouse.example.com"
people = { "mara@example.com" = "operator" }
"""
