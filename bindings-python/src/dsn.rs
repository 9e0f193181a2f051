//! Data source names: what SQLAlchemy, asyncpg and libpq users have at hand.

use pyo3::prelude::*;
use sqlx::postgres::PgConnectOptions;

use crate::errors::invalid_dsn;

/// Parameters that sqlx reads.
const KNOWN: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];
/// Parameters of libpq that change nothing here.
const IGNORED: &[&str] = &[
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "target_session_attrs",
];

/// Reads `postgresql://`, `postgres://` and `postgresql+driver://`. No message repeats the name: it may hold a password.
pub(crate) fn parse(dsn: &str) -> PyResult<PgConnectOptions> {
    let Some((scheme, rest)) = dsn.split_once("://") else {
        return Err(invalid_dsn("expected postgresql://user:password@host:port/database"));
    };
    if !matches!(scheme.split('+').next(), Some("postgresql" | "postgres")) {
        return Err(invalid_dsn("the scheme must be postgresql:// or postgresql+driver://"));
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut parameters = Vec::new();
    for parameter in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name {
            // asyncpg's word for it.
            "ssl" => parameters.push(format!("sslmode={value}")),
            _ if KNOWN.contains(&name) || name.starts_with("options[") => {
                parameters.push(parameter.to_owned())
            }
            _ if IGNORED.contains(&name) => {}
            "pgbouncer" => {
                return Err(invalid_dsn(
                    "for PgBouncer in transaction mode give pooler=True instead of a parameter",
                ));
            }
            _ => return Err(invalid_dsn(&format!("unknown parameter {name:?}"))),
        }
    }
    let url = format!("postgresql://{place}?{}", parameters.join("&"));
    url.parse().map_err(|e: sqlx::Error| invalid_dsn(&e.to_string()))
}
