//! The running test binary once more, as another process.

use std::process::Stdio;

use tokio::process::{Child, Command};

const INPUT: &str = "AGENTKEY_TEST_INPUT";
const MARK: &str = "@answer:";

/// What the process was started with: `None` in an ordinary run of the tests, in which a worker has nothing to do.
pub fn input() -> Option<String> {
    std::env::var(INPUT).ok()
}

/// Starts this binary for its test `worker` alone.
pub fn start(worker: &str, input: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([worker, "--exact", "--nocapture"])
        .env(INPUT, input)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
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
