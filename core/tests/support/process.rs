//! The running test binary once more, as another process.

use std::process::Stdio;

use sqlx::{Connection, Executor, PgConnection};
use tokio::process::{Child, Command};

use super::{TestDatabase, eventually};

const INPUT: &str = "AGENTKEY_TEST_INPUT";
const MARK: &str = "@answer:";

/// What the process was started with: `None` in an ordinary run of the tests, in which a worker has nothing to do.
pub fn input() -> Option<String> {
    std::env::var(INPUT).ok()
}

/// Starts this binary `count` times for its test `worker` alone. All go on from `started` at the same moment.
pub async fn start(db: &TestDatabase, count: usize, worker: &str, input: &str) -> Vec<Child> {
    let mut gate = db.session().await;
    gate.execute("SELECT pg_advisory_lock(1)").await.unwrap();
    let start = |_| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([worker, "--exact", "--nocapture"]).env(INPUT, input).stdout(Stdio::piped());
        command.kill_on_drop(true).spawn().unwrap()
    };
    let workers = (0..count).map(start).collect();
    eventually("every worker waits", async || db.waiting_sessions().await == count as i64).await;
    gate.close().await.unwrap();
    workers
}

/// Called by a worker that is ready: waits for the others.
pub async fn started(url: &str) {
    let mut gate = PgConnection::connect(url).await.unwrap();
    gate.execute("SELECT pg_advisory_lock_shared(1)").await.unwrap();
    gate.close().await.unwrap();
}

/// Called by a worker: what `finish` is to give.
pub fn answer(text: &str) {
    println!("\n{MARK}{text}");
}

/// Waits for a worker, which must pass, and gives what it answered.
pub async fn finish(child: Child) -> String {
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "a worker failed: {text}");
    let answer = text.lines().find_map(|line| line.strip_prefix(MARK));
    answer.unwrap_or_else(|| panic!("a worker said nothing: {text}")).to_owned()
}
