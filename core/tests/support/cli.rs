//! The program `agentkey`, run as people run it.

#![allow(dead_code, reason = "every test file uses a part of it")]

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::process::Command;

use crate::support::TestDatabase;

/// What a run said, and its exit code.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub output: String,
    pub error: String,
}

impl Said {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.output).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// The program for a database, without a terminal and without what the tests' own environment says.
pub fn program(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentkey"));
    command.args(arguments).env("DATABASE_URL", url).env("LC_ALL", "C.UTF-8").env_remove("NO_COLOR");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

pub async fn agentkey(url: &str, arguments: &[&str]) -> Said {
    said(program(url, arguments).output().await.unwrap())
}

pub fn said(output: Output) -> Said {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap_or(-1), output: text(output.stdout), error: text(output.stderr) }
}

/// A database with a keys table.
pub async fn database() -> TestDatabase {
    let db = TestDatabase::create().await;
    let said = agentkey(&db.url, &["migrate"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    db
}

/// Runs a command that must succeed.
pub async fn done(db: &TestDatabase, arguments: &[&str]) -> Said {
    let said = agentkey(&db.url, arguments).await;
    assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
    said
}
