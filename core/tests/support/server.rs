//! A server of one test, which may kill it.

use std::path::PathBuf;
use std::process::Command;

use super::random;

const LAUNCHER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/postgres.sh");

/// A Postgres of one test, stopped and deleted at the end, also if the test panics.
pub struct TestServer {
    dir: PathBuf,
    pub url: String,
}

impl TestServer {
    pub async fn start() -> Self {
        // Where `tests/postgres.sh run` stops what a killed test leaves.
        let base = std::env::var_os("AGENTKEY_PG_RUN").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let dir = base.join(format!("agentkey-test-{:016x}", random()));
        let mut server = TestServer { dir, url: String::new() };
        server.url = server.launcher("start").await;
        server
    }

    /// SIGKILL to all of its processes.
    pub async fn crash(&self) {
        self.launcher("crash").await;
    }

    /// On the same port, with the same data.
    pub async fn restart(&self) {
        self.launcher("restart").await;
    }

    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.join("log")).unwrap()).into_owned()
    }

    /// Sends a signal, such as `STOP`, to every process of the server.
    pub fn signal(&self, name: &str) {
        let pid_file = std::fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap();
        let postmaster = pid_file.lines().next().unwrap();
        let kill = |pids: &[&str]| {
            // A child may end at any time.
            let _ = Command::new("kill").arg(format!("-{name}")).args(pids).output().unwrap();
        };
        // First the one that makes the others: no child is missed.
        kill(&[postmaster]);
        let list = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output().unwrap().stdout;
        let list = String::from_utf8(list).unwrap();
        let processes = list.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
        let children = processes.filter(|(_, parent)| parent.trim() == postmaster);
        kill(&children.map(|(pid, _)| pid).collect::<Vec<_>>());
    }

    async fn launcher(&self, command: &str) -> String {
        let output =
            tokio::process::Command::new(LAUNCHER).arg(command).arg(&self.dir).output().await.unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = Command::new(LAUNCHER).arg("crash").arg(&self.dir).status();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
