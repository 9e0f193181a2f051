//! Data source names: what users of libpq, SQLAlchemy, asyncpg and Prisma have at hand.
//!
//! No message repeats a value, for it may be a password, or a piece of one.

use std::collections::BTreeMap;

use sqlx::postgres::PgConnectOptions;

use crate::error::{Error, ErrorCode};

const FORMS: &str =
    "expected postgresql://user:password@host:port/database?sslmode=... or host=... dbname=... user=...";
const ENCODE: &str = "percent-encode special characters in the user and the password";

/// Parameters that mean something here.
const KNOWN: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "options",
    "statement-cache-capacity",
];
/// Parameters of libpq, and of drivers below SQLAlchemy, that change nothing here.
const IGNORED: &[&str] = &[
    "async_fallback",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "gssencmode",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    // Prisma's. A pooler is noticed.
    "pgbouncer",
    "prepared_statement_cache_size",
    // Of several servers, the first that takes writes is used in any case.
    "target_session_attrs",
];
const SSL_MODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The parameters of a name. `host` and `port` are lists, separated by commas.
type Parameters = BTreeMap<String, String>;

/// Where to connect: servers in the order in which they are tried.
#[derive(Clone, Default)]
pub(super) struct Servers(pub(super) Vec<PgConnectOptions>);

/// Passwords stay out of it.
impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Servers({})", self.0.len())
    }
}

/// Reads a name. What it leaves open is as the environment says (`PGHOST`, `PGUSER`, `PGPASSWORD`, ...), and the password
/// file.
pub(super) fn read(dsn: &str) -> Result<Servers, Error> {
    let dsn = dsn.trim();
    let mut parameters = match dsn.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => of_url(rest)?,
        Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+') => {
            return Err(invalid(format!(
                "the scheme must be postgresql:// or postgresql+driver://; {FORMS}"
            )));
        }
        _ if dsn.contains('=') => of_pairs(dsn)?,
        _ => return Err(invalid(FORMS)),
    };
    check_tls(&mut parameters)?;
    let hosts = parameters.remove("hostaddr").or_else(|| parameters.remove("host")).unwrap_or_default();
    parameters.remove("host");
    let ports = parameters.remove("port").unwrap_or_default();
    let servers = servers(&hosts, &ports)?;
    servers.iter().map(|(host, port)| options(&parameters, host, port)).collect::<Result<_, _>>().map(Servers)
}

fn is_scheme(scheme: &str) -> bool {
    matches!(scheme.split('+').next(), Some("postgresql" | "postgres"))
}

/// `user:password@host:port,host:port/database?name=value`. A password with `/`, `?` or `@` in it is understood where
/// that leaves only one meaning.
fn of_url(rest: &str) -> Result<Parameters, Error> {
    let (before, after) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (name, query) = after.split_once('?').unwrap_or((after, ""));
    let is_misread = name.contains('@')
        || (!before.contains('@') && after.contains('@') && servers_of_url(before).is_err())
        || query.split('&').any(|pair| pair.split('=').next().unwrap_or_default().contains('@'));
    let (user, place) = match rest.rfind('@') {
        Some(at) if is_misread => (Some(&rest[..at]), &rest[at + 1..]),
        _ => match before.rfind('@') {
            Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
            None => (None, rest),
        },
    };
    let (place, query) = place.split_once('?').unwrap_or((place, ""));
    let (hosts, database) = place.split_once('/').unwrap_or((place, ""));

    let mut parameters = Parameters::new();
    let mut set = |name: &str, value: String| {
        if !value.is_empty() {
            parameters.insert(name.to_owned(), value);
        }
    };
    let (hosts, ports) = servers_of_url(hosts)?;
    set("host", hosts);
    set("port", ports);
    set("dbname", decoded(database)?);
    if let Some(user) = user {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        set("user", decoded(user)?);
        set("password", decoded(password)?);
    }
    let mut listed: Vec<String> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) =
            known(name, decoded(&value.replace('+', "%20"))?, rest.contains('@') && query.contains('@'))?;
        match name.as_str() {
            "" => {}
            // SQLAlchemy repeats it.
            "host" => listed.push(value),
            _ => drop(parameters.insert(name, value)),
        }
    }
    if !listed.is_empty() {
        let (hosts, ports) = split_servers(&listed.join(","))?;
        parameters.insert("host".to_owned(), hosts);
        if !ports.is_empty() {
            parameters.insert("port".to_owned(), ports);
        }
    }
    Ok(parameters)
}

/// `name = value`, and values in quotes, as libpq has them.
fn of_pairs(text: &str) -> Result<Parameters, Error> {
    let mut parameters = Parameters::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| invalid(FORMS))?;
        let mut value = String::new();
        let mut letters = after.trim_start().chars();
        let is_quoted = letters.as_str().starts_with('\'');
        if is_quoted {
            letters.next();
        }
        loop {
            match letters.next() {
                Some('\\') => value.extend(letters.next()),
                Some('\'') if is_quoted => break,
                Some(letter) if !is_quoted && letter.is_whitespace() => break,
                Some(letter) => value.push(letter),
                None if is_quoted => return Err(invalid("a quoted value does not end")),
                None => break,
            }
        }
        rest = letters.as_str().trim_start();
        let (name, value) = known(name.trim(), value, false)?;
        if !name.is_empty() && !value.is_empty() {
            parameters.insert(name, value);
        }
    }
    Ok(parameters)
}

/// A parameter under the name that it has here; no name if it changes nothing.
fn known(name: &str, value: String, is_doubtful: bool) -> Result<(String, String), Error> {
    match name {
        // asyncpg's word for it.
        "ssl" => {
            let value = match value.as_str() {
                "true" => "require".to_owned(),
                "false" => "disable".to_owned(),
                _ => value,
            };
            Ok(("sslmode".to_owned(), value))
        }
        // sqlx's words.
        "ssl-mode" => Ok(("sslmode".to_owned(), value)),
        "ssl-root-cert" | "ssl-ca" => Ok(("sslrootcert".to_owned(), value)),
        "ssl-cert" => Ok(("sslcert".to_owned(), value)),
        "ssl-key" => Ok(("sslkey".to_owned(), value)),
        _ if KNOWN.contains(&name) || name.starts_with("options[") => Ok((name.to_owned(), value)),
        _ if IGNORED.contains(&name) => Ok((String::new(), value)),
        // The name may be a piece of a password.
        _ if is_doubtful || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) => {
            Err(invalid(format!("unknown parameter; {ENCODE}")))
        }
        _ => Err(invalid(format!("unknown parameter {name:?}; known are {}", KNOWN.join(", ")))),
    }
}

/// TLS means what libpq means by it: with a root certificate the server's own is checked.
fn check_tls(parameters: &mut Parameters) -> Result<(), Error> {
    let mode = parameters.get("sslmode").map(String::as_str);
    if mode.is_some_and(|mode| !SSL_MODES.contains(&mode)) {
        return Err(invalid(format!("sslmode must be one of {}", SSL_MODES.join(", "))));
    }
    let is_system = parameters.get("sslrootcert").is_some_and(|file| file == "system");
    let mode = match mode {
        _ if is_system => "verify-full",
        Some("require") if parameters.contains_key("sslrootcert") => "verify-ca",
        _ => return Ok(()),
    };
    if is_system {
        parameters.remove("sslrootcert");
    }
    parameters.insert("sslmode".to_owned(), mode.to_owned());
    Ok(())
}

/// Hosts and ports as lists, of the place in a URL.
fn servers_of_url(hosts: &str) -> Result<(String, String), Error> {
    split_servers(&decoded(hosts)?)
}

/// Takes `host:port,[::1]:port` apart.
fn split_servers(text: &str) -> Result<(String, String), Error> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for server in text.split(',') {
        let (host, port) = match server.strip_prefix('[') {
            Some(bracketed) => {
                let (host, port) = bracketed.split_once(']').ok_or_else(|| invalid("a [ without its ]"))?;
                match port.strip_prefix(':') {
                    None if !port.is_empty() => return Err(invalid("only a port may follow the ]")),
                    port => (host, port.unwrap_or_default()),
                }
            }
            // A socket's directory, and an IPv6 address without brackets.
            None if server.starts_with('/') || server.matches(':').count() > 1 => (server, ""),
            None => server.split_once(':').unwrap_or((server, "")),
        };
        if !port.is_empty() && port.parse::<u16>().is_err() {
            return Err(invalid(format!("a port is not a number up to 65535; {ENCODE}")));
        }
        hosts.push(host);
        ports.push(port);
    }
    let ports = if ports.iter().all(|port| port.is_empty()) { String::new() } else { ports.join(",") };
    Ok((hosts.join(","), ports))
}

/// Each host with its port; one port may be that of all.
fn servers(hosts: &str, ports: &str) -> Result<Vec<(String, String)>, Error> {
    let hosts: Vec<&str> = hosts.split(',').map(str::trim).collect();
    let ports: Vec<&str> = ports.split(',').map(str::trim).collect();
    if ports.len() != 1 && ports.len() != hosts.len() {
        return Err(invalid("give one port, or one for each host"));
    }
    if ports.iter().any(|port| !port.is_empty() && !port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Err(invalid("a port is not a number up to 65535"));
    }
    if hosts.len() > 1 && hosts.contains(&"") {
        return Err(invalid("a host in the list is empty"));
    }
    let port_of = |n: usize| ports.get(n).or(ports.first()).copied().unwrap_or_default();
    Ok(hosts.iter().enumerate().map(|(n, host)| ((*host).to_owned(), port_of(n).to_owned())).collect())
}

/// As sqlx reads them: of a URL it also looks for a password file.
fn options(parameters: &Parameters, host: &str, port: &str) -> Result<PgConnectOptions, Error> {
    let server = [("host", host), ("port", port)].into_iter().filter(|(_, value)| !value.is_empty());
    let others = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let pairs: Vec<_> =
        server.chain(others).map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    let url = format!("postgresql:///?{}", pairs.join("&"));
    // Its error might quote what it could not read.
    url.parse().map_err(|_: sqlx::Error| invalid(FORMS))
}

fn encoded(text: &str) -> String {
    let byte =
        |b: u8| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}

/// A `%` that begins no escape stands for itself.
fn decoded(text: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).map_err(|_| invalid("an escaped value is no UTF-8"))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| digit.try_into().ok())
}

fn invalid(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::InvalidDsn, format!("Invalid DSN: {why}"))
}

#[cfg(test)]
#[path = "dsn_tests.rs"]
mod tests;
