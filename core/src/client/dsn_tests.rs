use sqlx::ConnectOptions;
use sqlx::postgres::PgSslMode;

use super::*;

/// Host, port, user, database of each server.
fn places(dsn: &str) -> Vec<(String, u16, String, String)> {
    let place = |options: &PgConnectOptions| {
        let socket = options.get_socket().map(|path| path.to_string_lossy().into_owned());
        (
            socket.unwrap_or_else(|| options.get_host().to_owned()),
            options.get_port(),
            options.get_username().to_owned(),
            options.get_database().unwrap_or_default().to_owned(),
        )
    };
    read(dsn).unwrap_or_else(|e| panic!("{dsn}: {e}")).0.iter().map(place).collect()
}

fn one(dsn: &str) -> (String, u16, String, String) {
    let [place] = places(dsn).try_into().unwrap_or_else(|places| panic!("{dsn}: {places:?}"));
    place
}

fn place(host: &str, port: u16, user: &str, database: &str) -> (String, u16, String, String) {
    (host.to_owned(), port, user.to_owned(), database.to_owned())
}

fn password(dsn: &str) -> String {
    let url = read(dsn).unwrap().0[0].to_url_lossy();
    decoded(url.password().unwrap_or_default()).unwrap()
}

#[test]
fn every_form_names_the_same_place() {
    let local = place("127.0.0.1", 6543, "u", "d");
    for dsn in [
        "postgresql://u:p@127.0.0.1:6543/d",
        "postgres://u:p@127.0.0.1:6543/d",
        "postgresql+asyncpg://u:p@127.0.0.1:6543/d?ssl=false",
        "postgresql+psycopg://u:p@127.0.0.1:6543/d?connect_timeout=5&pgbouncer=true&target_session_attrs=read-write",
        "postgresql://?host=127.0.0.1&port=6543&user=u&password=p&dbname=d",
        "postgresql://u:p@/d?host=127.0.0.1:6543",
        "host=127.0.0.1 port=6543 user=u password=p dbname=d",
        " host = '127.0.0.1'  port=6543 user=u password='p' dbname = d ",
    ] {
        assert_eq!(one(dsn), local, "{dsn}");
        assert_eq!(password(dsn), "p", "{dsn}");
    }
}

#[test]
fn ipv6_and_sockets() {
    let v6 = place("::1", 6543, "u", "d");
    for dsn in [
        "postgresql://u@[::1]:6543/d",
        "postgresql://u@/d?host=::1&port=6543",
        "postgresql://u@/d?host=[::1]:6543",
        "host=::1 port=6543 user=u dbname=d",
    ] {
        assert_eq!(one(dsn), v6, "{dsn}");
    }
    let socket = place("/run/pg", 6543, "u", "d");
    for dsn in [
        "postgresql://u@/d?host=/run/pg&port=6543",
        "postgresql://u@%2Frun%2Fpg/d?port=6543",
        "host=/run/pg port=6543 user=u dbname=d",
    ] {
        assert_eq!(one(dsn), socket, "{dsn}");
    }
}

#[test]
fn several_servers_in_their_order() {
    let both = vec![place("a", 1, "u", "d"), place("::1", 2, "u", "d")];
    for dsn in [
        "postgresql://u@a:1,[::1]:2/d",
        "postgresql://u@/d?host=a:1&host=[::1]:2",
        "postgresql://u@/d?host=a,::1&port=1,2",
        "host=a,::1 port=1,2 user=u dbname=d",
    ] {
        assert_eq!(places(dsn), both, "{dsn}");
    }
    assert_eq!(places("postgresql://u@a,b/d?port=7"), [place("a", 7, "u", "d"), place("b", 7, "u", "d")]);
}

#[test]
fn passwords_encoded_or_not() {
    for (written, meant) in [
        ("p%40s%2Fs%3Fw", "p@s/s?w"),
        ("p@ss", "p@ss"),
        ("p/ss", "p/ss"),
        ("p?ss", "p?ss"),
        ("a@b/c?d:e#f", "a@b/c?d:e#f"),
        ("12/34", "12/34"),
        ("50%", "50%"),
        ("%zz", "%zz"),
        ("a+b c", "a+b c"),
    ] {
        let dsn = format!("postgresql://u:{written}@h:5/d?sslmode=disable");
        assert_eq!(one(&dsn), place("h", 5, "u", "d"), "{dsn}");
        assert_eq!(password(&dsn), meant, "{dsn}");
    }
    assert!(!format!("{:?}", read("postgresql://u:hunter2@h/d").unwrap()).contains("hunter2"));
    assert_eq!(password(r"host=h password='it\'s a \\ secret'"), r"it's a \ secret");
    // An @ behind the question mark is no end of a password.
    assert_eq!(one("postgresql://u:p@h:5/d?application_name=a@b"), place("h", 5, "u", "d"));
}

#[test]
fn what_sqlx_writes_is_read() {
    let options = PgConnectOptions::new_without_pgpass().host("h").port(5).username("u").database("d");
    let url = options.ssl_root_cert("/ca.pem").ssl_mode(PgSslMode::VerifyFull).to_url_lossy();
    assert_eq!(one(url.as_str()), place("h", 5, "u", "d"), "{url}");
    let mode = read(url.as_str()).unwrap().0[0].get_ssl_mode();
    assert!(matches!(mode, PgSslMode::VerifyFull), "{url}: {mode:?}");
}

#[test]
fn tls_means_what_libpq_means() {
    let mode = |dsn: &str| read(dsn).unwrap().0[0].get_ssl_mode();
    let is = |dsn: &str, wanted: PgSslMode| {
        assert_eq!(std::mem::discriminant(&mode(dsn)), std::mem::discriminant(&wanted), "{dsn}");
    };
    is("postgresql://h/d?sslmode=require", PgSslMode::Require);
    is("postgresql://h/d?ssl=true", PgSslMode::Require);
    is("postgresql://h/d?sslmode=require&sslrootcert=/ca.pem", PgSslMode::VerifyCa);
    is("postgresql://h/d?sslmode=verify-full&sslrootcert=/ca.pem", PgSslMode::VerifyFull);
    is("postgresql://h/d?sslrootcert=system", PgSslMode::VerifyFull);
    is("host=h sslmode=verify-ca", PgSslMode::VerifyCa);
}

#[test]
fn what_is_refused_says_why_and_repeats_no_secret() {
    for dsn in [
        "",
        "nonsense",
        "hunter2",
        "mysql://u:hunter2@h/d",
        "postgresql+asyncpg",
        "postgresql://u:hunter2@h:99999/d",
        "postgresql://u:hunter2@h:x/d",
        "postgresql://u:hunter2@[::1/d",
        "postgresql://u:hunter2@[::1]x/d",
        "postgresql://u:hunter2@a,b/d?port=1,2,3",
        "postgresql://u:hunter2@a,/d",
        "postgresql://u:hunter2@h/d?sslmode=hunter2",
        "postgresql://u:hunter2@h/d?nonsense=hunter2",
        "postgresql://u:x@h?hunter2=y@host/d",
        "postgresql://u:%ff@h/d",
        "host=h password='hunter2",
        "host=h hunter2",
    ] {
        let error = read(dsn).map(|_| ()).expect_err(dsn);
        assert_eq!(error.code(), ErrorCode::InvalidDsn);
        assert!(error.message().starts_with("Invalid DSN: "), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    let error = read("postgresql://h/d?nonsense=1").unwrap_err();
    assert!(error.message().contains("\"nonsense\"") && error.message().contains("sslmode"), "{error}");
}
