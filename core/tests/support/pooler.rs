//! A PgBouncer of one test.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use sqlx::postgres::PgConnectOptions;

use super::{eventually, random};

/// A PgBouncer of one test, killed at the end, also if the test panics.
pub struct Pooler {
    process: Child,
    dir: PathBuf,
    pub url: String,
}

impl Pooler {
    /// `None`, with a line that says so, where there is no PgBouncer and nobody promised one.
    pub async fn start(server_url: &str) -> Option<Pooler> {
        Pooler::start_ignoring(server_url, "extra_float_digits").await
    }

    /// One that ignores these parameters of connections.
    pub async fn start_ignoring(server_url: &str, parameters: &str) -> Option<Pooler> {
        let programs = ["pgbouncer", "/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer"];
        let found =
            programs.iter().find(|p| Command::new(p).arg("--version").stdout(Stdio::null()).status().is_ok());
        let Some(program) = found else {
            assert!(std::env::var_os("CI").is_none(), "pgbouncer is missing: tests/setup.sh installs it");
            println!("not tested: pgbouncer is missing, tests/setup.sh installs it");
            return None;
        };
        let dir = std::env::temp_dir().join(format!("agentkey-pgbouncer-{:016x}", random()));
        std::fs::create_dir(&dir).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server: PgConnectOptions = server_url.parse().unwrap();
        let user_info = server_url
            .split_once("://")
            .and_then(|(_, rest)| rest.rsplit_once('@'))
            .map(|(user, _)| user.to_owned());
        let user_info = user_info.unwrap_or_else(|| server.get_username().to_owned());
        let password = user_info.split_once(':').map_or("", |(_, password)| password);
        std::fs::write(dir.join("users"), format!("\"{}\" \"{password}\"\n", server.get_username())).unwrap();
        // sqlx sets extra_float_digits when it connects. `user` counts only when it is started by root.
        let settings = format!(
            "[databases]\n* = host={} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {dir}/users\npool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 200\n\
             ignore_startup_parameters = {parameters}\nserver_login_retry = 0.1\nuser = nobody\n",
            server.get_host(),
            server.get_port(),
            dir = dir.display(),
        );
        std::fs::write(dir.join("settings"), settings).unwrap();
        let process =
            Command::new(program).arg("-q").arg(dir.join("settings")).stderr(Stdio::null()).spawn().unwrap();
        let url = format!("postgresql://{user_info}@127.0.0.1:{port}/postgres");
        let pooler = Pooler { process, dir, url };
        eventually("the pooler answers", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        Some(pooler)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
